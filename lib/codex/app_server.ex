defmodule Codex.AppServer do
  @moduledoc """
  Connections to `codex app-server`, and the methods of its protocol, one function each.

      {:ok, conn} = Codex.AppServer.connect([], cwd: "/srv/app")
      {:ok, %{"thread" => %{"id" => id}}} = Codex.AppServer.thread_start(conn, sandbox: :read_only)
      {:ok, %{"turn" => turn}} = Codex.AppServer.turn_start(conn, id, "What is in here?")

  Most applications need only `connect/2` and `Codex.Thread` with `transport: {:app_server, conn}`.

  These functions are not methods of the protocol:

    * `connect/2` starts a server, `connect_remote/2` connects to a running server, and
      `start_link/1` does either under a supervisor; `disconnect/1`, `alive?/1`, `server_info/1`,
      `signed_token/2` and `account/2`
    * `subscribe/2` and `unsubscribe/1` for notifications and requests of the server; `pending/2`,
      `answer/2`, `respond/3` and `respond_error/3` for the requests
    * `pages/3` for methods that answer in pages, and `request/4` for methods that this package does
      not know

  The functions of methods are generated from the protocol of CLI #{Codex.Protocol.cli_version()}.
  Options are a keyword list or a map, with snake_case keys and words
  (`approval_policy: :on_request`) or as on the wire (`"approvalPolicy" => "on-request"`). They are
  checked before they are sent. Results are the server's maps, with string keys. In an option, nil
  is sent as null if the protocol allows null, otherwise nil means "not given". Experimental methods
  and options need a connection with `experimental_api: true`.

  The last argument of each method is a list of options of the request:

    * `:timeout_ms` - the time limit of the answer, in ms, or `:infinity` (default 30_000; 10_000
      for configuration methods, 300_000 for `turn_start` and `review_start`; for a command, its own
      `timeout_ms` and 5_000 more)
    * `:trace` - the W3C Trace Context of the request: a `traceparent`, a map or keyword with
      `traceparent` and if wanted `tracestate`, or `false`; default that of the calling process in
      OpenTelemetry, if the application has `:opentelemetry_api`

  ## Errors

  If the request was not sent:

    * `Codex.OptionError` - an option is unknown, missing or invalid. Values whose names look like
      secrets are `[redacted]`
    * `{:experimental, names}` - the method or its options (such as `"thread/start.dynamicTools"`)
      need `experimental_api: true`
    * `{:cli_unsupported, names, since, found}` - the server has the version `found`, and the method
      or its options need `since`
    * `:not_ready` - the server has not answered the handshake yet
    * `{:overflow, :requests, limit}` - too many requests wait for their answers

  If the request was sent:

    * a map with `"code"`, `"message"` and sometimes `"data"` - the server's error. The request is
      repeated automatically while the server is overloaded (-32001)
    * `{:timeout, method, ms}` - there was no answer in time; a later answer is dropped
    * `{:app_server_down, map}` - the server ended; the map has the known facts

  `Codex.Error.normalize/1` converts each of them to a `Codex.Error`.
  """

  alias Codex.AppServer.{Calls, Connection, Docs, Pages}
  alias Codex.OptionError
  alias Codex.Options.{Cast, Schema}
  alias Codex.Protocol

  @typedoc "The process of a connection."
  @type conn :: GenServer.server()

  @typedoc "Options of a method. See the documentation of its function."
  @type options :: keyword() | map() | nil

  @typedoc """
  The time limit of one request, in milliseconds (default 30_000), or its W3C Trace Context: a
  `traceparent`, a map or keyword with `traceparent` and perhaps `tracestate`, or `false`.
  """
  @type request_option ::
          {:timeout_ms, pos_integer() | :infinity}
          | {:trace, String.t() | keyword(String.t()) | map() | false}

  @typedoc """
  The reason of a failed request:

    * `Codex.OptionError` - an argument or an option is invalid
    * `{:experimental, names}` - the connection needs `experimental_api: true` for these options
    * `:not_ready` - the connection is being set up again (`reconnect`)
    * `{:overflow, :requests, limit}` - so many requests are open already
    * `{:timeout, method, ms}` - the server did not answer in time
    * `{:app_server_down, info}` - the server or the connection ended
    * `{:cli_unsupported, names, since, found}` - the server is older than the method or the option
    * a map with string keys - the error that the server returned: `"code"`, `"message"` and perhaps
      `"data"`
  """
  @type reason ::
          OptionError.t()
          | {:experimental, [String.t()]}
          | Codex.Reason.unsupported_cli()
          | :not_ready
          | {:overflow, :requests, pos_integer()}
          | {:timeout, String.t(), pos_integer()}
          | {:app_server_down, map()}
          | %{String.t() => term()}

  for row <- Calls.rows(Protocol.methods()) do
    args = Enum.map(row.args, &Macro.var(&1, __MODULE__))
    types = Enum.map(row.args, fn _ -> quote(do: term()) end)
    pairs = Enum.zip(row.args, args)
    result = if row.returns == :ok, do: :ok, else: quote(do: {:ok, map()})

    @doc Docs.of(row)
    @doc group: "Methods of the protocol"
    @spec unquote(row.name)(conn(), unquote_splicing(types), options(), [request_option()]) ::
            unquote(result) | {:error, reason()}
    def unquote(row.name)(conn, unquote_splicing(args), options \\ [], request_options \\ []),
      do: call(conn, unquote(Macro.escape(row)), unquote(pairs), options, request_options)
  end

  defp call(conn, row, args, options, request_options) do
    with {:ok, params, experimental} <- Calls.params(row, args, options),
         {:ok, opts} <- request_options(request_options, Calls.timeout(row, params)),
         opts = [experimental: experimental] ++ opts,
         {:ok, result} <- Connection.request(conn, row.method, params, opts) do
      if row.returns == :ok, do: :ok, else: {:ok, result}
    end
  end

  @doc """
  Sends any method, also methods that this package does not know. Parameters are checked only for
  being JSON.

      Codex.AppServer.request(conn, "thread/clone", %{"threadId" => id})

  Options: `:timeout_ms` (default 30_000), `:trace`. Returns `{:ok, result}` or `{:error, reason}`;
  for an unknown method, the reason is the server's error.
  """
  @spec request(conn(), String.t(), map() | nil, [request_option()]) ::
          {:ok, term()} | {:error, reason()}
  def request(conn, method, params \\ nil, request_options \\ []) when is_binary(method) do
    with :ok <- utf8(method),
         :ok <- json(params),
         {:ok, opts} <- request_options(request_options, 30_000) do
      Connection.request(conn, method, params, opts)
    end
  end

  defp utf8(method) do
    if String.valid?(method),
      do: :ok,
      else: {:error, OptionError.argument(:method, method, "a name in UTF-8")}
  end

  defp json(params) when is_map(params) or params == nil do
    case Codex.JSON.encode(params) do
      {:ok, _} ->
        :ok

      {:error, {:not_encodable, value, path}} ->
        {:error, OptionError.invalid(path, value, "a value that JSON has a form for")}
    end
  end

  defp json(_params), do: {:error, OptionError.argument(:params, "[redacted]", "a map or nil")}

  @pending Schema.new([{:thread_id, :text, "the thread of the requests"}])
  @request Schema.new(
             [
               {:timeout_ms, :timeout, "the limit of the answer"},
               {:trace, :trace, "a trace context",
                expected: "a traceparent, a map or keyword with traceparent, or false"}
             ],
             places: true
           )

  defp request_options([], default), do: {:ok, [timeout_ms: default]}

  defp request_options(options, default) do
    with {:ok, set} <- Schema.set(@request, options, &Cast.cast/2),
         do: {:ok, set |> Map.put_new(:timeout_ms, default) |> Map.to_list()}
  end

  @doc """
  Streams the elements of a method that answers in pages (`"data"` and `"nextCursor"`) lazily:
  `thread/list`, `thread/turns/list`, `thread/items/list`, `model/list`, `mcpServerStatus/list`, …
  Options are those of the method; `:limit` is the size of a page.

      conn |> Codex.AppServer.pages("model/list") |> Enum.map(& &1["id"])

  Each page is requested when the stream is read; reading raises `Codex.Error` if the request fails.
  Invalid options raise immediately.
  """
  @spec pages(conn(), String.t(), options()) :: Enumerable.t()
  def pages(conn, method, options \\ []), do: pages(conn, method, options, %{})

  @doc false
  @spec pages(conn(), String.t(), options(), map()) :: Enumerable.t()
  def pages(conn, method, options, ids) when is_binary(method),
    do: Pages.stream(conn, method, options || [], ids)

  # --- Connections --------------------------------------------------------------------------------

  alias Codex.AppServer.{BearerToken, Connect, Request, RequestId, Subscribers}

  @typedoc """
  The reason of a failed connection:

    * the types of `Codex.Reason`, and `Codex.Home.Isolated` for `isolation` - nothing was started
    * `{:not_started, error}` - the CLI did not start, with a `Codex.Subprocess.Error`
    * `{:initialize_refused, error}`, `{:login_refused, error}` - the server's own error
    * `{:app_server_down, info}` - the server ended while it started
    * `{:already_started, pid}` - another process has the `name`
  """
  @type connect_reason ::
          Codex.Reason.program()
          | Codex.Reason.option()
          | Codex.Reason.socket()
          | Codex.Home.Isolated.error()
          | Codex.Config.Error.t()
          | {:invalid_working_directory, Path.t()}
          | {:not_started, Codex.Subprocess.Error.t()}
          | {:initialize_refused, map()}
          | {:login_refused, map()}
          | {:app_server_down, map()}
          | {:already_started, pid()}

  @doc """
  Starts a `codex app-server` and connects to it.

      {:ok, conn} = Codex.AppServer.connect([], cwd: "/srv/app")
      {:ok, %{"thread" => %{"id" => id}}} = Codex.AppServer.thread_start(conn)
      :ok = Codex.AppServer.subscribe(conn, thread_id: id)
      {:ok, _} = Codex.AppServer.turn_start(conn, id, "What is in here?")

  `client` are the options of a client (`Codex.Options`), such as `codex_path`, `codex_home`, `env`,
  `base_url` and `api_key`. With an `api_key`, the connection logs the server in with that key, in
  the server's memory only (`cli_auth_credentials_store = "ephemeral"`): the login stored in the
  home is neither used nor changed. A key that the configuration forbids is
  `{:error, {:login_refused, error}}`. `Codex.Thread.preflight/1` returns the credential that a
  thread would use.

  Options:

  #{Codex.AppServer.Options.docs()}

  The SDK supervises the process of the connection. The server ends with that process and with the
  VM. It is not restarted, unless `:reconnect` is set. `Process.monitor/1` reports the end of the
  connection; waiting callers get `{:error, {:app_server_down, info}}` immediately.

  ## Slow readers

  A reader of a connection is a process that subscribes to it, or that reads a turn over it. A
  reader is full if its mailbox has over `:max_queue` messages, or about `:max_spool_bytes` bytes of
  messages.

  If the full reader is the only process with work on the connection, the connection stops reading,
  and the server waits at its pipe or socket. Others have work if a request waits for its answer, if
  another reader follows a turn, or if another subscriber keeps up. Then the connection keeps the
  messages of the full reader and sends them in order as it reads.

  If the kept messages of a reader exceed `:max_spool_bytes`, that reader alone is cut off, and its
  kept messages are dropped. Its turn is interrupted and ends with an error of the kind `:overflow`
  that names the reader. A subscriber gets a last message, and may subscribe again:

      {:codex_subscription, conn, {:cut_off, {:overflow, {:reader, pid}, max_spool_bytes}}}

  ## Reconnecting

  With `:reconnect`, the process of the connection outlives its server. When the server is lost,
  turns end, requests fail and open requests of the server are closed, as without this option.
  Requests get `{:error, {:app_server_down, info}}` until the next server is ready. Subscribers stay
  subscribed and get `{:codex_connection, conn, {:down, reason}}`, then
  `{:codex_connection, conn, :up}` when the next server has answered the handshake.

  Nothing is sent twice automatically: a turn is repeated only if `retry` of its thread allows it. A
  turn that begins in between waits for the next server, for at most the timeout of its request, and
  resumes its thread there. The number of attempts and the delay are reset after a server has run
  for longer than the last delay, and for at least a second.

  A server that was never reached, or that refuses the client, is not tried again. When no attempts
  are left, the process of the connection ends.

  ## Results

  Returns `{:ok, conn}`. Errors:

    * `Codex.OptionError`, and the errors of `Codex.Options.codex_path/1`
    * `{:invalid_working_directory, path}`
    * `Codex.Config.Error` - the configuration is invalid (see `:broken_config`), and the errors of
      `Codex.Home.Isolated.create/1`
    * `{:not_started, error}`
    * `{:init_timeout, ms}` - the server did not answer the handshake in time
    * `{:initialize_refused, error}` - the server refused the handshake, with its error
    * `{:already_started, pid}` - the `:name` is taken
    * `{:app_server_down, info}` - the server ended before the handshake; `info` has `:exit_status`,
      `:signal` and `:stderr`
  """
  @spec connect(Codex.Options.t() | keyword() | map(), keyword() | map()) ::
          {:ok, pid()} | {:error, connect_reason()}
  def connect(client \\ [], options \\ []), do: Connect.child(client, options)

  @doc """
  Makes a connection as a child of a supervisor of the application.

      children = [
        {Codex.AppServer, name: MyApp.Codex, cwd: "/srv/app", reconnect: true}
      ]

  Options are those of `connect/2` and `:client`, the options of the client; or `:url` and those of
  `connect_remote/2`. The `:name` can be used in place of the pid everywhere, also as
  `transport: {:app_server, MyApp.Codex}`. If the connection fails, the supervisor does not start.

  Returns the results of `connect/2` or `connect_remote/2`, and `{:error, {:already_started, pid}}`.
  """
  @spec start_link(keyword() | (... -> keyword())) :: {:ok, pid()} | {:error, connect_reason()}
  def start_link(options) when is_function(options, 0), do: start_link(options.())

  def start_link(options) do
    options = Schema.pairs!(options)

    case Keyword.pop(options, :url) do
      {nil, options} ->
        {client, options} = Keyword.pop(options, :client, [])
        Connect.child(client, options, :linked)

      {url, options} ->
        Connect.remote(url, options, :linked)
    end
  end

  @doc "Returns the child specification for `start_link/1`. Its id is the name, else this module."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: options |> Schema.pairs!() |> Keyword.get(:name, __MODULE__),
      # A function, because reports of supervisors show arguments, which may hold keys and tokens.
      start: {__MODULE__, :start_link, [fn -> options end]},
      # The time that a server needs to end by the ladder of signals.
      shutdown: 10_000
    }
  end

  @doc """
  Connects to a running server, such as `codex app-server --listen ws://127.0.0.1:4500`.

      {:ok, conn} = Codex.AppServer.connect_remote("unix://")
      {:ok, conn} = Codex.AppServer.connect_remote("unix:///run/codex/app-server.sock")
      {:ok, conn} = Codex.AppServer.connect_remote("ws://127.0.0.1:4500", token: token)
      {:ok, conn} = Codex.AppServer.connect_remote("wss://codex.example.com", token: token)

  `url` is one of

    * `unix://` and a path
    * `unix://` alone, for the default socket of a server that this user started with
      `--listen unix://` and the same `:codex_home`
    * `ws://` or `wss://` with a host, and a port if it is not 80 or 443

  All of them speak WebSocket, with one message in a text frame. The server of the CLI does not
  support TLS: use `wss://` with a proxy in front of it. Proxies in the environment are ignored.

  Options:

  #{Codex.AppServer.Options.docs(:remote)}

  The connection works like a connection of `connect/2`, but `disconnect/1` does not end the server.
  Several connections to one server share its threads: events of a thread go to the connections that
  started or resumed it. A connection that stops reading makes the server wait for this connection
  only, and loses nothing. If the server stops reading, sending blocks for up to `:send_timeout_ms`.

  Returns `{:ok, conn}`. Errors:

    * `Codex.OptionError` - an option or the URL is invalid. The key is `:token` if a secret would
      be sent over plain `ws://` to a host that is not loopback
    * `Codex.Config.Error` - for `unix://` alone: the home does not exist
    * `{:not_connected, reason}` - no server listens there (`:econnrefused`, `:enoent`, `:nxdomain`,
      …), or `{:tls, alert, text}`: the certificate is not trusted, or belongs to another host
    * `{:ca_certificate, path, reason}` - the file cannot be read (a posix code,
      `{:not_regular, kind}`, `{:too_large, bytes}` or `:timeout`), or holds `:no_certificate`
    * `{:handshake_refused, status, text}` - the server answered with an HTTP status, such as 401
      and the server's words for a wrong token
    * `{:not_a_websocket, text}` - the answer is not a WebSocket handshake
    * `{:init_timeout, ms}`, `{:initialize_refused, error}` - as for `connect/2`; `:init_timeout_ms`
      limits the connection and the handshake of the protocol separately
    * `{:app_server_down, info}` - the server closed the connection before the handshake

  ## Lost connections

  Here `info` of `{:app_server_down, info}` has `:reason`:

    * `{:closed, code, text}` - the server's close frame; `code` is nil if the frame has no code
      (1001: the server goes away, 1009: a message was too big for the server, …; never 1006)
    * `:closed`, `:econnreset`, … - the socket was closed without a close frame: the server was
      killed
    * `{:tls, alert, text}` - the TLS connection failed
    * `{:timeout, :ping, ms}` - nothing arrived in that time, not even a pong
    * `:timeout` - the server did not read
    * `{:protocol, rule}` - the server broke a rule of the protocol
    * `:disconnected` - `disconnect/1`

  A message over `:max_message_bytes` ends the connection with `{:overflow, :line, bytes, limit}`, a
  message over `:max_message_nodes` with `{:overflow, :nodes, limit}`.
  """
  @spec connect_remote(String.t(), keyword() | map()) :: {:ok, pid()} | {:error, connect_reason()}
  def connect_remote(url, options \\ []), do: Connect.remote(url, options)

  @doc """
  Makes a token for a server that was started with
  `--ws-auth signed-bearer-token --ws-shared-secret-file`: a JSON Web Token, signed with HMAC and
  SHA-256.

  `secret` is the content of that file without its last newline. Options:

  #{BearerToken.docs()}

  Raises `Codex.OptionError` for invalid options. The secret is never shown.
  """
  @spec signed_token(String.t(), keyword()) :: String.t()
  def signed_token(secret, options \\ []), do: BearerToken.new(secret, options)

  @doc """
  Returns the key of the account whose limits apply to a connection, for `Codex.RateLimit`. The
  connection stores the limits that the server reports under this key.

  Takes the arguments of `connect/2`, or the URL of `connect_remote/2`. A login has the same account
  on both transports; a key in the environment pays for `codex exec` only. The account of a remote
  server is unknown, so each URL has its own key.
  """
  @spec account(Codex.Options.t() | String.t(), map() | keyword()) :: String.t()
  def account(client, options \\ [])
      when is_binary(client) or is_struct(client, Codex.Options) do
    Connect.account(client, Map.new(Schema.pairs!(options)))
  end

  @doc """
  Ends a connection and its server. The server's stdin is closed, so that the server ends all
  commands that it has started. A server of `connect_remote/2` keeps running.

  Returns `:ok` within a second, also if the connection has ended already. A server that needs
  longer is ended in the background.
  """
  @spec disconnect(conn()) :: :ok
  def disconnect(conn) do
    :ok = conn!(conn)
    GenServer.stop(conn, :normal)
  catch
    :exit, _ -> :ok
  end

  defp conn!(conn) do
    with {:error, error} <- Connection.check(conn), do: raise(error)
  end

  @doc """
  Returns the server's answer to the handshake:
  `{:ok, %{"userAgent" => text, "codexHome" => path, …}}`, or `{:error, {:app_server_down, info}}`.
  """
  @spec server_info(conn()) :: {:ok, map()} | {:error, reason()}
  def server_info(conn) do
    with {:ok, hello} <- Connection.call(conn, :hello), do: hello
  end

  @doc "Returns whether the connection's process lives."
  @spec alive?(conn()) :: boolean()
  def alive?(conn) do
    :ok = conn!(conn)

    case Connection.whereis(conn) do
      pid when is_pid(pid) and node(pid) == node() -> Process.alive?(pid)
      nil -> false
      # A process of another node.
      remote -> match?({:ok, _}, Connection.call(remote, :os_pid))
    end
  end

  @doc """
  Subscribes the calling process to notifications and requests of the server.

  Options:

  #{Subscribers.docs()}

  With `as: :structs`, the process gets:

    * `{:codex_event, conn, event}` - a struct of `Codex.Events`, such as
      `Codex.Events.ThreadStatusChanged`; `Codex.Events.AppServerNotification` for notifications
      that this version of the SDK does not know
    * `{:codex_request, conn, request}` - a struct of `Codex.AppServer.Request`, for `answer/2`
    * `{:codex_connection, conn, {:down, reason} | :up}` - with `:reconnect`, in both forms
    * `{:codex_subscription, conn, {:cut_off, reason}}` - the end of the subscription, in both
      forms: see *Slow readers* of `connect/2`
    * `{:codex_request_closed, conn, token, reason}` - a request needs no answer any more, also a
      request from before this subscription: `:answered` (by another process), `:resolved` (by the
      server, because the turn was interrupted), `:expired`, `:nobody` (all processes that were
      asked have ended), or `:down` (the connection is lost)

  With `as: :wire`, the default, the process gets the messages of the server:

    * `{:codex_notification, method, params}`
    * `{:codex_request, id, method, params}` - for `respond/3`

  Any process may answer. A request is declined when its time is over, or when all processes that
  were asked have ended. A second subscription of a process replaces its first. A slow process makes
  the server wait, or is cut off: see *Slow readers* of `connect/2`.

  Returns `:ok`, `{:error, {:overflow, :subscribers, limit}}`, an error about the options, or
  `{:error, {:app_server_down, info}}`.
  """
  @spec subscribe(conn(), keyword() | map()) :: :ok | {:error, reason()}
  def subscribe(conn, options \\ []), do: flat(Connection.call(conn, {:subscribe, options}))

  @doc "Ends the subscription of the calling process. Messages in its mailbox stay there."
  @spec unsubscribe(conn()) :: :ok | {:error, reason()}
  def unsubscribe(conn), do: flat(Connection.call(conn, :unsubscribe))

  @typedoc "The reason of a refused answer."
  @type answer_reason ::
          {:request_closed, String.t()}
          | {:unreachable, node :: String.t()}
          | reason()

  @doc """
  Answers a request of the server by the request or its token, from any process on any connected
  node.

      receive do
        {:codex_request, _conn, %Codex.AppServer.Request.CommandApproval{} = request} ->
          :ok = Codex.AppServer.answer(request, :allow)
      end

  The token is a string: keep it in an assign, a job or a row, and answer later. The table of
  `Codex.AppServer.Request` lists the answers of each request; the map
  `{:error, %{"code" => integer, "message" => text}}` refuses any request.

  Returns `:ok`, once. Errors:

    * `{:request_closed, token}` - the request was answered, has expired, was resolved by the server
      or lost its connection, or the token is unknown
    * `{:unreachable, node}` - the connection is on a node that this node is not connected to, or
      the token is invalid and its end looks like the name of a node
    * `Codex.OptionError` - the answer is invalid; answer again
    * `{:app_server_down, info}` - the connection ended during the call
  """
  @spec answer(String.t() | Request.t(), term()) :: :ok | {:error, answer_reason()}
  def answer(%_{token: token}, answer) when is_binary(token), do: answer(token, answer)

  def answer(token, answer) when is_binary(token) do
    with {:ok, conn} <- RequestId.find(token),
         do: flat(Connection.call(conn, {:answer, token, {:answer, answer}}))
  end

  def answer(other, _answer),
    do: {:error, OptionError.argument(:token, other, "a request, or its token")}

  @doc """
  Returns the open requests of the server as structs of `Codex.AppServer.Request`, for example for a
  page that is opened later.

  Option: `:thread_id` (string; default all). Returns `{:ok, requests}`, an error about the option,
  or `{:error, {:app_server_down, info}}`.
  """
  @spec pending(conn(), thread_id: String.t()) :: {:ok, [Request.t()]} | {:error, reason()}
  def pending(conn, options \\ []) do
    with {:ok, %{thread_id: id}} <- Schema.validate(@pending, options),
         {:ok, requests} <- Connection.call(conn, :pending),
         do: {:ok, if(id, do: Enum.filter(requests, &(&1.thread_id == id)), else: requests)}
  end

  @doc """
  Answers a request of the server by the id that a subscriber got. The answer is checked against the
  protocol.

  Returns `:ok`, or `{:error, reason}`: `{:request_closed, id}` if the request was answered, has
  expired or was resolved by the server; an error about the answer, which can be given again; or
  `{:app_server_down, info}`.
  """
  @spec respond(conn(), integer() | String.t(), map() | keyword()) :: :ok | {:error, reason()}
  def respond(conn, id, answer), do: flat(Connection.call(conn, {:respond, id, {:ok, answer}}))

  @doc """
  Refuses a request of the server with an error, a map with `"code"` (integer) and `"message"`.
  Results are those of `respond/3`.
  """
  @spec respond_error(conn(), integer() | String.t(), map()) :: :ok | {:error, reason()}
  def respond_error(conn, id, error),
    do: flat(Connection.call(conn, {:respond, id, {:error, error}}))

  defp flat({:ok, :ok}), do: :ok
  defp flat({:ok, {:error, _} = error}), do: error
  defp flat({:error, _} = error), do: error
end
