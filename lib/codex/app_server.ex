defmodule Codex.AppServer do
  @moduledoc """
  The methods of `codex app-server`, one function each.

      {:ok, %{"thread" => %{"id" => id}}} = Codex.AppServer.thread_start(conn, cwd: "/srv/app", sandbox: :read_only)
      {:ok, %{"turn" => turn}} = Codex.AppServer.turn_start(conn, id, "What is in here?")

  The functions are made from the protocol of CLI #{Codex.Protocol.cli_version()}. Options are a keyword list or a map, keys and words in snake_case
  (`approval_policy: :on_request`) or as on the wire (`"approvalPolicy" => "on-request"`). They are checked before anything is sent; what
  comes back is the server's own map, with string keys. nil stands for null where the protocol has one, and for "not given"
  elsewhere. `request/4` sends a method that this version does not know.

  The last argument of each function are options of the request:

    * `:timeout_ms` - how long the answer may take, in ms, or `:infinity` (default 30_000; 10_000 for the configuration, 300_000 for
      `turn_start` and `review_start`, 5_000 more than its own `timeout_ms` for a command)

  A connection is made with `connect/2`, which starts a server, or `connect_remote/2`, for one that runs; `start_link/1` makes one under a supervisor. Experimental
  methods and options need one with `experimental_api: true`.

  Made by hand, among the many, are `subscribe/2` and `unsubscribe/1`, `pending/2`, `answer/2`, `respond/3` and `respond_error/3`, `pages/3`, `request/4`,
  `server_info/1`, `account/2`, `alive?/1`, `signed_token/2` and `disconnect/1`.

  ## Errors

  Before anything is sent:

    * `{:unknown_option, key, nearest}` - there is no such option; `nearest` is the one that may have been meant, or nil
    * `{:missing_option, key}` - it has to be given
    * `{:invalid_option, key, value, expected}` - the value is not what is expected, which is a text
    * `{:invalid_options, value}` - the options are no keyword list or map
    * `{:experimental, names}` - the method, or options of it as `"thread/start.dynamicTools"`, need `experimental_api: true`
    * `:not_ready` - the server has not said hello
    * `{:overflow, :requests, limit}` - so many requests wait for their answers

  Inside an option, `key` is the way there: `[:input, 0, :text]`. Values under names that sound like secrets are `[redacted]`.

  After that:

    * a map with `"code"`, `"message"` and sometimes `"data"` - the server's error. It is tried again by itself while the server is
      overloaded (-32001)
    * `{:timeout, method, ms}` - no answer in time; one that comes later is dropped
    * `{:app_server_down, map}` - the server ended; the map tells what is known of that

  `Codex.Error.normalize/1` takes the server's error.
  """

  alias Codex.AppServer.{Calls, Connection, Docs, Pages}
  alias Codex.Options.Keywords
  alias Codex.Protocol

  @typedoc "The process of a connection."
  @type conn :: GenServer.server()

  @typedoc "Options of a method. See the documentation of its function."
  @type options :: keyword() | map() | nil

  @type request_option :: {:timeout_ms, pos_integer() | :infinity}

  @type where :: term() | [term()]
  @type reason ::
          {:unknown_option, where(), atom() | nil}
          | {:missing_option, where()}
          | {:invalid_option, where(), term(), String.t()}
          | {:invalid_options, term()}
          | {:experimental, [String.t()]}
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
    @spec unquote(row.name)(conn(), unquote_splicing(types), options(), [request_option()]) ::
            unquote(result) | {:error, reason()}
    def unquote(row.name)(conn, unquote_splicing(args), options \\ [], request_options \\ []),
      do: call(conn, unquote(Macro.escape(row)), unquote(pairs), options, request_options)
  end

  defp call(conn, row, args, options, request_options) do
    with {:ok, params, experimental} <- Calls.params(row, args, options),
         {:ok, timeout} <- timeout(request_options, Calls.timeout(row, params)),
         opts = [timeout_ms: timeout, experimental: experimental],
         {:ok, result} <- Connection.request(conn, row.method, params, opts) do
      if row.returns == :ok, do: :ok, else: {:ok, result}
    end
  end

  @doc """
  Sends any method with parameters as they stand, unchecked but for being JSON: for what this version does not know.

      Codex.AppServer.request(conn, "thread/clone", %{"threadId" => id})

  Option: `:timeout_ms` (default 30_000). Returns `{:ok, result}` or `{:error, reason}`; an unknown method is the server's error.
  """
  @spec request(conn(), String.t(), map() | nil, [request_option()]) ::
          {:ok, term()} | {:error, reason()}
  def request(conn, method, params \\ nil, request_options \\ []) when is_binary(method) do
    with :ok <- json(params), {:ok, timeout} <- timeout(request_options, 30_000) do
      Connection.request(conn, method, params, timeout_ms: timeout)
    end
  end

  defp json(params) when is_map(params) or params == nil do
    case Codex.JSON.encode(params) do
      {:ok, _} ->
        :ok

      {:error, {:not_encodable, value, path}} ->
        invalid(path, value, "a value that JSON has a form for")
    end
  end

  defp json(params), do: {:error, {:invalid_options, Keywords.redacted(params)}}

  defp timeout([], default), do: {:ok, default}
  defp timeout([{:timeout_ms, :infinity}], _default), do: {:ok, :infinity}
  defp timeout([{:timeout_ms, nil}], default), do: {:ok, default}

  defp timeout([{:timeout_ms, ms}], _default) when is_integer(ms) and ms in 1..0xFFFFFFFF,
    do: {:ok, ms}

  defp timeout([{:timeout_ms, ms}], _default),
    do: invalid(:timeout_ms, ms, "a positive integer in milliseconds or :infinity")

  defp timeout([{key, _} | _], _default),
    do: {:error, Codex.Options.Unknown.reason(key, [:timeout_ms])}

  defp timeout(other, _default), do: {:error, {:invalid_options, Keywords.redacted(other)}}

  defp invalid(where, value, expected), do: {:error, {:invalid_option, where, value, expected}}

  @doc """
  The elements of a method that answers in pages (`"data"` and `"nextCursor"`), as a lazy stream: `thread/list`, `thread/turns/list`, `thread/items/list`,
  `model/list`, `mcpServerStatus/list`, … Options are those of the method; `:limit` is the size of a page.

      conn |> Codex.AppServer.pages("model/list") |> Enum.map(& &1["id"])

  A page is asked for when the stream is read, which raises `Codex.Error` where it cannot be had. So do options that are none, at once.
  """
  @spec pages(conn(), String.t(), options()) :: Enumerable.t()
  def pages(conn, method, options \\ []), do: pages(conn, method, options, %{})

  @doc false
  @spec pages(conn(), String.t(), options(), map()) :: Enumerable.t()
  def pages(conn, method, options, ids) when is_binary(method),
    do: Pages.stream(conn, method, options || [], ids)

  # --- Connections ------------------------------------------------------------------------------------------------------

  alias Codex.AppServer.{BearerToken, Connect, Request, RequestId, Subscribers}

  @typedoc "Why there is no connection."
  @type connect_reason :: Connect.reason()

  @doc """
  Starts a `codex app-server` and says hello.

      {:ok, conn} = Codex.AppServer.connect([], cwd: "/srv/app")
      {:ok, %{"thread" => %{"id" => id}}} = Codex.AppServer.thread_start(conn)
      :ok = Codex.AppServer.subscribe(conn, thread_id: id)
      {:ok, _} = Codex.AppServer.turn_start(conn, id, "What is in here?")

  `client` are the options of a client (`Codex.Options`): which CLI, which home, `env`, `base_url`,
  `api_key`. With an `api_key`, the connection logs its server in with that key, in the server's
  memory alone (`cli_auth_credentials_store = "ephemeral"`): the login that the home keeps is neither
  used nor changed. A key that the configuration forbids is `{:error, {:login_refused, error}}`.
  `Codex.Thread.preflight/1` tells which credential a thread would use.

  Options:

  #{Codex.AppServer.Options.docs()}

  The server runs under the launcher and ends with the connection's process, which is supervised by the SDK, and with the VM. It is not
  started anew, unless `:reconnect` says so. `Process.monitor/1` tells of its end; whoever waits for an answer then gets
  `{:error, {:app_server_down, info}}` at once.

  ## Slow readers

  A reader of a connection is a process that subscribes to it, or that reads a turn over it. Its
  mailbox is full with over `:max_queue` messages, or with about `:max_spool_bytes` bytes of them.

  If the full reader is the only one with work on the connection, nothing more is read from the
  server, which waits at its pipe or socket. Others have work if a request waits for its answer, if
  another reader follows a turn, or if another subscriber keeps up. Then the messages of the full
  reader are kept in the connection's process, and sent in order as it reads.

  If over `:max_spool_bytes` would have to be kept for a reader, that reader alone is cut off, and
  what was kept is dropped. Its turn ends with an error of the kind `:overflow` that names the reader,
  and is interrupted. A subscriber gets a last message, and may subscribe again:

      {:codex_subscription, conn, {:cut_off, {:overflow, {:reader, pid}, max_spool_bytes}}}

  ## Reconnecting

  With `:reconnect`, the connection's process outlives its server. When that is lost, everybody who waits is told at once, as without it: turns end, requests
  fail, what the server asked is closed, and until there is another server, requests get `{:error, {:app_server_down, info}}`. Subscribers
  stay, and get `{:codex_connection, conn, {:down, reason}}`, and `{:codex_connection, conn, :up}` after the hello of the next one. Nothing is sent twice by
  itself: a turn is repeated where `retry` of its thread says so. A turn that begins meanwhile waits for the next server, as long as a request may take, and
  threads are resumed then. Attempts and delay count from the first again once a server stayed for longer than it was waited for, and for a second.

  A server that was never reached, or that refuses the client, is not tried again. When there are no attempts left, the process ends.

  Returns `{:ok, conn}`. Errors: `{:unknown_option, key, nearest}`, `{:invalid_option, key, value, expected}`, `{:invalid_options, value}`, those
  of `Codex.Options.new/1` and `Codex.Options.codex_path/1`, `{:invalid_working_directory, path}`, `Codex.Config.Error` (see
  `:broken_config`), those of `Codex.Home.Isolated.create/1`, `{:not_started, error}`, `{:init_timeout, ms}`, `{:initialize_refused, error}` (the server's error),
  `{:already_started, pid}` (the `:name` is taken), and `{:app_server_down, info}` (it ended before its hello; `info` has `:exit_status`, `:signal` and `:stderr`).
  """
  @spec connect(Codex.Options.t() | keyword() | map(), keyword() | map()) ::
          {:ok, pid()} | {:error, connect_reason()}
  def connect(client \\ [], options \\ []), do: Connect.child(client, options)

  @doc """
  The same under a supervisor of the application: the connection is a child of it.

      children = [
        {Codex.AppServer, name: MyApp.Codex, cwd: "/srv/app", reconnect: true}
      ]

  Options: those of `connect/2`, and `:client`, the options of the client; or `:url` and those of `connect_remote/2`. With `:name`, that name does for a pid
  everywhere, also as `transport: {:app_server, MyApp.Codex}`. A connection that cannot be made fails the start of its supervisor.

  Returns and errors: those of `connect/2` or `connect_remote/2`, and `{:already_started, pid}`.
  """
  @spec start_link(keyword() | (() -> keyword())) :: {:ok, pid()} | {:error, connect_reason()}
  def start_link(options) when is_function(options, 0), do: start_link(options.())

  def start_link(options) do
    case options |> Keywords.list!() |> Keyword.pop(:url) do
      {nil, options} ->
        {client, options} = Keyword.pop(options, :client, [])
        Connect.child(client, options, :linked)

      {url, options} ->
        Connect.remote(url, options, :linked)
    end
  end

  @doc "A child of a supervisor: see `start_link/1`. Its id is the name, else this module."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: options |> Keywords.list!() |> Keyword.get(:name, __MODULE__),
      # A function: reports of supervisors show arguments, and there may be keys and tokens in these.
      start: {__MODULE__, :start_link, [fn -> options end]},
      # As long as it takes to end a server by the ladder.
      shutdown: 10_000
    }
  end

  @doc """
  Connects to a server that somebody else has started, as `codex app-server --listen ws://127.0.0.1:4500`, and says hello.

      {:ok, conn} = Codex.AppServer.connect_remote("unix://")
      {:ok, conn} = Codex.AppServer.connect_remote("unix:///run/codex/app-server.sock")
      {:ok, conn} = Codex.AppServer.connect_remote("ws://127.0.0.1:4500", token: token)
      {:ok, conn} = Codex.AppServer.connect_remote("wss://codex.example.com", token: token)

  `url` is `unix://` and a path, `unix://` alone for where a server of this user and of `:codex_home` listens that was started with `--listen unix://`, `ws://` or `wss://` with a host, and a port where it is not 80 or 443. All of them speak WebSocket, one message a
  text. A server of CLI 0.169 itself speaks no TLS: `wss://` is for a proxy before it. Proxies in the environment are not looked at.

  Options:

  #{Codex.AppServer.Options.docs(:remote)}

  The connection is as one of `connect/2`; `disconnect/1` ends it, and leaves the server to others. Several connections to one
  server share its threads: what is told of a thread goes to those that started or resumed it. A
  connection that does not read makes the server wait, for this connection only; it loses nothing
  then (0.169). While the server
  does not read, nor does the connection, for up to
  `:send_timeout_ms`.

  Returns `{:ok, conn}`. Errors:

    * `{:unknown_option, key, nearest}`, `{:invalid_option, key, value, expected}`, `{:invalid_options, value}` - as for `connect/2`; of the URL the key is
      `:url`, and `:token` where a secret would go over plain `ws://` to a host that is not loopback
    * `Codex.Config.Error` - for `unix://` alone: there is no such home
    * `{:not_connected, reason}` - nobody listens there (`:econnrefused`, `:enoent`, `:nxdomain`, …), or `{:tls, alert, text}`: the certificate is
      not trusted, or not for this host
    * `{:ca_certificate, path, reason}` - that file cannot be read (a posix code,
      `{:not_regular, kind}`, `{:too_large, bytes}` or `:timeout`), or holds `:no_certificate`
    * `{:handshake_refused, status, text}` - an HTTP status instead of a connection: 401 with the server's words for a token that is wrong
    * `{:not_a_websocket, text}` - it answers otherwise
    * `{:init_timeout, ms}`, `{:initialize_refused, error}` - as for `connect/2`, with `:init_timeout_ms` for each of connection and hello
    * `{:app_server_down, info}` - it closed the connection before its hello

  ## The end

  Here `info` of `{:app_server_down, info}` has `:reason`:

    * `{:closed, code, text}` - the server's close frame, of which `code` is nil where it has none (1001: it goes away, 1009: a message of ours was too
      big, …; 1006 never comes)
    * `:closed`, `:econnreset`, … - the socket is closed without one: the server was killed
    * `{:tls, alert, text}` - what it sent could not be trusted
    * `{:timeout, :ping, ms}` - nothing came in that time, not even a pong
    * `:timeout` - it did not read
    * `{:protocol, rule}` - it sent what no server may
    * `:disconnected` - `disconnect/1`

  A message over `:max_message_bytes` ends it with `{:overflow, :line, bytes, limit}`, one over
  `:max_message_nodes` with `{:overflow, :nodes, limit}`.
  """
  @spec connect_remote(String.t(), keyword() | map()) :: {:ok, pid()} | {:error, connect_reason()}
  def connect_remote(url, options \\ []), do: Connect.remote(url, options)

  @doc """
  A token for a server that was started with `--ws-auth signed-bearer-token --ws-shared-secret-file` (CLI 0.169): a JSON Web Token,
  signed with HMAC and SHA-256.

  `secret` is what stands in that file, without the newline at its end. Options:

    * `:expires_in` - how long it holds, in seconds (positive integer, default 300). The server looks at it when a connection is made
    * `:issuer`, `:audience` - what the server's `--ws-issuer` and `--ws-audience` say (texts, default: not in the token)

  Raises `ArgumentError` for other options. It never shows the secret.
  """
  @spec signed_token(String.t(), keyword()) :: String.t()
  def signed_token(secret, options \\ []), do: BearerToken.new(secret, options)

  @doc """
  The account of the connection's limits, for `Codex.RateLimit`: its snapshots are kept as the server tells of them.

  Takes what `connect/2` takes, or the URL of `connect_remote/2`. A login has the same account on both lanes; a key in the environment pays
  for `codex exec` only. Who pays for a server elsewhere is not known here, so that it has an account of its own.
  """
  @spec account(Codex.Options.t() | String.t(), map() | keyword()) :: String.t()
  def account(client, options \\ [])
      when is_binary(client) or is_struct(client, Codex.Options) do
    options = if is_map(options), do: options, else: Codex.Options.Keywords.list!(options)
    Connect.account(client, options)
  end

  @doc """
  Ends a connection and its server: stdin is closed, so that the server ends all that it has started. One of `connect_remote/2` goes on.
  Returns `:ok` within a second, also where the connection is gone. A server that does not end in
  that time is ended behind the caller.
  """
  @spec disconnect(conn()) :: :ok
  def disconnect(conn) do
    :ok = conn!(conn)
    GenServer.stop(conn, :normal)
  catch
    :exit, _ -> :ok
  end

  defp conn!(conn) do
    with {:error, reason} <- Connection.check(conn),
         do: raise(ArgumentError, Codex.Error.Words.reason(reason))
  end

  @doc """
  What the server said in its hello: `{:ok, %{"userAgent" => text, "codexHome" => path, …}}`, or `{:error, {:app_server_down, info}}`.
  """
  @spec server_info(conn()) :: {:ok, map()} | {:error, reason()}
  def server_info(conn) do
    with {:ok, hello} <- Connection.call(conn, :hello), do: hello
  end

  @doc "Whether the connection's process lives."
  @spec alive?(conn()) :: boolean()
  def alive?(conn) do
    :ok = conn!(conn)

    case Connection.whereis(conn) do
      pid when is_pid(pid) and node(pid) == node() -> Process.alive?(pid)
      nil -> false
      # Of another node: ask it.
      remote -> match?({:ok, _}, Connection.call(remote, :os_pid))
    end
  end

  @doc """
  Sends the calling process what the server tells and asks, from now on.

  Options:

    * `:methods` - the notifications and requests to send, a list of method names (default: all). It
      does not filter `:codex_request_closed`, `:codex_connection` and `:codex_subscription`
    * `:thread_id` - the id of one thread (default: all). Messages about no thread do not come then
    * `:as` - `:wire` (default) or `:structs`

  With `as: :structs`:

    * `{:codex_event, conn, event}` - a struct of `Codex.Events`; `Codex.Events.AppServerNotification` for what has none
    * `{:codex_request, conn, request}` - a struct of `Codex.AppServer.Request`, to be answered with `answer/2`
    * `{:codex_connection, conn, {:down, reason} | :up}` - with `:reconnect`, in both forms
    * `{:codex_subscription, conn, {:cut_off, reason}}` - the subscription has ended, in both forms:
      see *Slow readers* of `connect/2`
    * `{:codex_request_closed, conn, token, why}` - one, also one that was asked before this subscription, needs no answer any more: `:answered` by somebody, `:resolved` by the server (the turn was
      interrupted), `:expired`, `:nobody` (all who were asked are gone), `:down` (the connection is)

  With `as: :wire`, the default, as the server has them:

    * `{:codex_notification, method, params}`
    * `{:codex_request, id, method, params}` - to be answered with `respond/3`

  An answer may come from any process. Where those who were asked are gone without one, and where its time is over, it is no. A second
  subscription of the same process takes the place of the first. A process that does not keep up
  makes the server wait, or is cut off: see *Slow readers* of `connect/2`.

  Returns `:ok`, `{:error, {:overflow, :subscribers, limit}}`, what is wrong with the options, or `{:error, {:app_server_down, info}}`.
  """
  @spec subscribe(conn(), keyword() | map()) :: :ok | {:error, reason()}
  def subscribe(conn, options \\ []), do: flat(Connection.call(conn, {:subscribe, options}))

  @doc "Sends the calling process nothing any more. What is in its mailbox stays there."
  @spec unsubscribe(conn()) :: :ok | {:error, reason()}
  def unsubscribe(conn), do: flat(Connection.call(conn, :unsubscribe))

  @typedoc "Why an answer was not taken."
  @type answer_reason ::
          {:request_closed, String.t()}
          | {:unreachable, node :: String.t()}
          | reason()

  @doc """
  Answers what the server asked, by the request or its token, from any process on any connected node.

      receive do
        {:codex_request, _conn, %Codex.AppServer.Request.CommandApproval{} = request} ->
          :ok = Codex.AppServer.answer(request, :allow)
      end

  The token is a text: keep it in an assign, a job or a row, and answer later. What an answer is, is in the table of `Codex.AppServer.Request`; a
  map `{:error, %{"code" => integer, "message" => text}}` refuses any request.

  Returns `:ok`, once. Errors:

    * `{:request_closed, token}` - it has its answer, its time is over, the server took it back, its connection is gone, or there was none
    * `{:unreachable, node}` - its connection is on a node that this one is not connected to; or the token is none, as its end is believed to name one
    * `{:invalid_option, :answer, value, expected}`, and those of `respond/3` - it is no answer to this; it can be given again
    * `{:app_server_down, info}` - the connection ended while it was asked
  """
  @spec answer(String.t() | Request.t(), term()) :: :ok | {:error, answer_reason()}
  def answer(%_{token: token}, answer) when is_binary(token), do: answer(token, answer)

  def answer(token, answer) when is_binary(token) do
    with {:ok, conn} <- RequestId.find(token),
         do: flat(Connection.call(conn, {:answer, token, {:answer, answer}}))
  end

  def answer(other, _answer),
    do: invalid(:token, other, "a request, or its token")

  @doc """
  What the server has asked and nobody has answered yet, as structs of `Codex.AppServer.Request`: for a page that is opened later.

  Option: `:thread_id` (text; default all). Returns `{:ok, requests}`, what is wrong with the option, or `{:error, {:app_server_down, info}}`.
  """
  @spec pending(conn(), thread_id: String.t()) :: {:ok, [Request.t()]} | {:error, reason()}
  def pending(conn, options \\ []) do
    with :ok <- only_thread(options),
         {:ok, %{thread_id: id}} <- Subscribers.filter(options),
         {:ok, requests} <- Connection.call(conn, :pending),
         do: {:ok, if(id, do: Enum.filter(requests, &(&1.thread_id == id)), else: requests)}
  end

  defp only_thread(options) do
    case Codex.Options.Cast.pairs(options) do
      {:ok, pairs} ->
        Enum.find_value(pairs, :ok, fn {key, _} ->
          if key != :thread_id, do: {:error, {:unknown_option, key, :thread_id}}
        end)

      :error ->
        {:error, {:invalid_options, Keywords.redacted(options)}}
    end
  end

  @doc """
  Answers what the server asked, by the id that a subscriber got. The answer is checked against the protocol.

  Returns `:ok`, or `{:error, reason}`: `{:request_closed, id}` where it has its answer already, its time was over or the server took it
  back; what is wrong with the answer, which can be given again; `{:app_server_down, info}`.
  """
  @spec respond(conn(), integer() | String.t(), map() | keyword()) :: :ok | {:error, reason()}
  def respond(conn, id, answer), do: flat(Connection.call(conn, {:respond, id, {:ok, answer}}))

  @doc "Refuses what the server asked with an error: a map with `\"code\"` (integer) and `\"message\"`. As `respond/3`."
  @spec respond_error(conn(), integer() | String.t(), map()) :: :ok | {:error, reason()}
  def respond_error(conn, id, error),
    do: flat(Connection.call(conn, {:respond, id, {:error, error}}))

  defp flat({:ok, :ok}), do: :ok
  defp flat({:ok, {:error, _} = error}), do: error
  defp flat({:error, _} = error), do: error
end
