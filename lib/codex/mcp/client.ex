defmodule Codex.MCP.Client do
  @moduledoc """
  A client of MCP servers, for all versions of the protocol.

      {:ok, client} = Codex.MCP.Client.start_link(command: ["npx", "-y", "server-name"])
      {:ok, tools, _client} = Codex.MCP.Client.list_tools(client)
      {:ok, result} = Codex.MCP.Client.call_tool(client, "echo", %{"message" => "hello"})

  A client is a process with one server. Any number of processes may call it at once. Functions take
  the struct of `initialize/2`, the pid, or the name of the process. For a supervisor, use
  `{Codex.MCP.Client, opts}` as a child.

  ## Versions

  The client sends `server/discover`. A server of version 2026-07-28 answers it; after an error, or
  one second of silence (`:probe_ms`), the client sends `initialize` for versions 2025-11-25 to
  2024-11-05. `:protocol_version` skips that.

  ## Results

  Results are maps as the server sent them. A tool that fails is a result with `"isError"`.
  Functions return `{:error, reason}`:

    * a map - the error of the server: `"code"`, `"message"`, `"data"`
    * `:timeout` - the time of the call is over; the server was told
    * `:cancelled` - see `cancel/3`
    * `{:server_down, info}` - the server has ended: `:exit_status`, `:signal` and `:stderr`, or
      `:reason`
    * `{:overflow, kind, …}` - an answer, a list or the rounds of a call exceed a limit
    * `{:approval_denied, reason}`, `{:tool_disabled, name}` - the call was not sent
    * `:invalid_tools_response`, `{:invalid_list, method}` - the answer has no list
    * `%Codex.OptionError{}` - an argument is invalid

  `Codex.Error.normalize/1` makes a `Codex.Error` of any of them.

  ## Notifications

  After `subscribe/2`, a process gets `{:codex_mcp, pid, {:notification, method, params}}`,
  `{:codex_mcp, pid, {:overflow, bytes}}` if it reads too slowly and was cut off, and
  `{:codex_mcp, pid, {:down, info}}` at the end. If subscribers are full and no call waits, the
  server has to wait.
  """

  alias Codex.MCP.{Caller, Lists, Options, Start, ToolCall}
  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}

  defstruct [
    :pid,
    :transport,
    :server_name,
    :protocol_version,
    :instructions,
    :tool_cache,
    capabilities: %{},
    server_info: %{}
  ]

  @typedoc """
  A client. `capabilities`, `server_info` (`"name"`, `"version"`) and `instructions` are those of
  the server; `tool_cache` is the last list of tools, unfiltered.
  """
  @type t :: %__MODULE__{
          pid: pid(),
          transport: {module(), term()},
          server_name: String.t() | nil,
          protocol_version: String.t(),
          instructions: String.t() | nil,
          tool_cache: [map()] | nil,
          capabilities: %{String.t() => term()},
          server_info: map()
        }

  @typedoc "A client, or its process."
  @type client :: t() | GenServer.server()

  @typedoc "A failed call. See above."
  @type reason ::
          map()
          | :timeout
          | :cancelled
          | :invalid_capabilities
          | :invalid_tools_response
          | :missing_command
          | {atom(), term()}
          | {:overflow, atom(), term()}
          | {:overflow, :line, non_neg_integer() | nil, pos_integer()}
          | {:unsupported_protocol, String.t(), String.t() | nil}
          | OptionError.t()

  @doc """
  Starts a client with its server, linked to the caller. Blocks until the server is ready.

  The server is one of

    * `:command`, with `:args`, `:cwd`, `:env`, `:env_vars` - a child process, see
      `Codex.MCP.Transport.Stdio`
    * `:url`, with the options of `Codex.MCP.Transport.StreamableHTTP`
    * `:server` - the name of a server in the configuration of the CLI, enabled or not, with its
      filters of tools, time limits and `required`, the helper of its headers, and its keys for
      logins. Keys that concern only the model are left out. `:codex_home` names another home
    * `:transport` - `{module, state}`, see `initialize/2`

  Options:

  #{Options.docs()}

  Returns `{:ok, pid}`, `:ignore`, or `{:error, reason}`.
  """
  @spec start_link(keyword()) :: {:ok, pid()} | :ignore | {:error, reason()}
  def start_link(opts)
  def start_link(opts) when is_function(opts, 0), do: start_link(opts.())

  def start_link(opts) do
    Codex.Started.check!()
    Start.linked(opts)
  end

  @doc "Returns the specification of a child that is a client. The id is the name of the client."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    pairs = Map.new(Schema.pairs!(opts))
    id = Enum.find_value([:name, :server_name, :server], __MODULE__, &pairs[&1])
    # A function, because reports of supervisors show arguments, which may hold keys and tokens.
    %{id: {__MODULE__, id}, start: {__MODULE__, :start_link, [fn -> opts end]}, type: :worker}
  end

  @doc """
  Starts a client over a transport, and returns its struct. The client ends with the calling
  process.

  A transport is `{Codex.MCP.Transport.Stdio, pid}`, `{Codex.MCP.Transport.StreamableHTTP, pid}`, or
  `{module, state}` with `send(state, map)` and `recv(state, timeout_ms)` or `recv(state)`.

  Options: those of `start_link/1` except for the server.
  """
  @spec initialize({module(), term()}, keyword()) :: {:ok, t()} | {:error, reason()}
  def initialize(transport, opts \\ []) do
    Codex.Started.check!()

    with {:ok, pid, about} <- Start.owned(transport, opts),
         do: {:ok, struct(pid, transport, about)}
  end

  @doc "Starts a client as `initialize/2` does."
  @spec handshake({module(), term()}, keyword()) :: {:ok, t()} | {:error, reason()}
  def handshake(transport, opts \\ []), do: initialize(transport, opts)

  defp struct(pid, transport, about) do
    %__MODULE__{
      pid: pid,
      transport: transport,
      server_name: about.server_name,
      protocol_version: about.version,
      instructions: about.server.instructions,
      capabilities: about.server.capabilities,
      server_info: about.server.info
    }
  end

  @doc "Returns the struct of a running client."
  @spec info(client()) :: {:ok, t()} | {:error, reason()}
  def info(client) do
    with {:ok, about} <- about(client),
         do: {:ok, struct(GenServer.whereis(pid(client)), {about.transport, nil}, about)}
  end

  defp about(client), do: Caller.call(pid(client), :about)

  defp pid(%__MODULE__{pid: pid}), do: pid
  defp pid(server), do: server

  @doc "Ends a client and its server."
  @spec stop(client()) :: :ok
  def stop(client) do
    _ = Caller.call(pid(client), :stop)
    :ok
  end

  @doc "Returns the capabilities of the server."
  @spec capabilities(client()) :: %{String.t() => term()}
  def capabilities(%__MODULE__{capabilities: capabilities}), do: capabilities

  def capabilities(client) do
    case about(client) do
      {:ok, %{server: %{capabilities: capabilities}}} -> capabilities
      _down -> %{}
    end
  end

  # --- Lists ------------------------------------------------------------------------------------

  @timeout {:timeout_ms, :timeout, "the limit of the whole list", default: 30_000}
  @cursor {:cursor, :text, "returns the one page of this cursor, as the server sent it"}
  @cache {:cache?, :boolean, "whether a list that is still valid may be returned", default: true}

  @tools Schema.new([
           @cache,
           {:allow, {:list, :string}, "the only tools to return"},
           {:deny, {:list, :string}, "tools to leave out"},
           {:filter, {:fun, 1}, "called with each tool; returns whether to keep it"},
           {:qualify?, :boolean, "adds `qualified_name` and `server_name`", default: false},
           @cursor,
           @timeout
         ])
  @list Schema.new([@cache, @cursor, @timeout])

  @doc """
  Lists the tools: `{:ok, tools, client}`. All pages are fetched. The list is kept until it expires
  (`ttlMs`), or until the server says that it changed; filters apply to the kept list.

  Options:

  #{Schema.docs(@tools)}
  """
  @spec list_tools(client(), keyword()) :: {:ok, [map()], client()} | {:error, reason()}
  def list_tools(client, opts \\ []) do
    with {:ok, opts} <- Schema.validate(@tools, opts),
         {:ok, about} <- about(client),
         {:ok, tools} <- tools(client, opts) do
      kept = with %__MODULE__{} <- client, do: %{client | tool_cache: tools}
      {:ok, Lists.select(tools, about, opts), kept}
    end
  end

  defp tools(client, %{cursor: nil} = opts),
    do: Lists.all(pid(client), "tools/list", opts.cache?, opts.timeout_ms)

  defp tools(client, opts) do
    with {:ok, page} <- Lists.page(pid(client), "tools/list", opts.cursor, opts.timeout_ms),
         do: {:ok, page["tools"]}
  end

  @doc """
  Lists the resources: `{:ok, %{"resources" => list}}`.

  Options:

  #{Schema.docs(@list)}
  """
  @spec list_resources(client(), keyword()) :: {:ok, map()} | {:error, reason()}
  def list_resources(client, opts \\ []), do: list(client, "resources/list", opts)

  @doc "Lists the templates of resources, as `list_resources/2`, in `\"resourceTemplates\"`."
  @spec list_resource_templates(client(), keyword()) :: {:ok, map()} | {:error, reason()}
  def list_resource_templates(client, opts \\ []),
    do: list(client, "resources/templates/list", opts)

  @doc "Lists the prompts, as `list_resources/2`, in `\"prompts\"`."
  @spec list_prompts(client(), keyword()) :: {:ok, map()} | {:error, reason()}
  def list_prompts(client, opts \\ []), do: list(client, "prompts/list", opts)

  defp list(client, method, opts) do
    with {:ok, opts} <- Schema.validate(@list, opts), do: listed(pid(client), method, opts)
  end

  defp listed(pid, method, %{cursor: nil} = opts) do
    with {:ok, items} <- Lists.all(pid, method, opts.cache?, opts.timeout_ms),
         do: {:ok, %{Lists.key(method) => items}}
  end

  defp listed(pid, method, opts), do: Lists.page(pid, method, opts.cursor, opts.timeout_ms)

  @doc """
  Returns a lazy stream of `:tools`, `:resources`, `:resource_templates` or `:prompts`, which
  fetches pages as they are read. Raises `Codex.Error` if a page fails.

  Options:

  #{Lists.stream_docs()}
  """
  @spec stream(client(), :tools | :resources | :resource_templates | :prompts, keyword()) ::
          Enumerable.t()
  def stream(client, kind, opts \\ []), do: Lists.stream(pid(client), kind, opts)

  # --- Calls ------------------------------------------------------------------------------------

  @doc """
  Calls a tool: `{:ok, result}`, with `"content"`, `"structuredContent"`, `"isError"` and `"_meta"`.

  Options:

  #{ToolCall.docs()}

  A call is repeated only if that is safe, after an error that may pass: if the tool says
  `readOnlyHint` or `idempotentHint` in the list of tools that was fetched last, or with
  `safe: true`. Invalid parameters are never repeated.
  """
  @spec call_tool(client(), String.t(), map() | keyword() | nil, keyword()) ::
          {:ok, map()} | {:error, reason()}
  def call_tool(client, tool, args \\ %{}, opts \\ []) do
    if is_binary(tool),
      do: ToolCall.run(pid(client), tool, args, opts),
      else: {:error, OptionError.argument(:tool, Type.kind(tool), "the name of a tool")}
  end

  @doc "Returns the name of a tool for a model: `mcp__<server>__<tool>`, at most 64 characters."
  @spec qualify_tool_name(String.t(), String.t()) :: String.t()
  def qualify_tool_name(server, tool) when is_binary(server) and is_binary(tool),
    do: Lists.qualify(server, tool)

  @doc "Reads a resource: `{:ok, %{\"contents\" => list}}`. Options: see `request/4`."
  @spec read_resource(client(), String.t(), keyword()) :: {:ok, map()} | {:error, reason()}
  def read_resource(client, uri, opts \\ []),
    do: request(client, "resources/read", %{"uri" => uri}, opts)

  @doc "Gets a prompt with arguments: `{:ok, %{\"messages\" => list}}`. Options: see `request/4`."
  @spec get_prompt(client(), String.t(), map(), keyword()) :: {:ok, map()} | {:error, reason()}
  def get_prompt(client, name, args \\ %{}, opts \\ []),
    do: request(client, "prompts/get", %{"name" => name, "arguments" => args}, opts)

  @doc """
  Completes an argument of a prompt or a template: `{:ok, %{"completion" => map}}`. `ref` is
  `%{"type" => "ref/prompt", "name" => name}` or `%{"type" => "ref/resource", "uri" => uri}`.
  """
  @spec complete(client(), map(), map(), keyword()) :: {:ok, map()} | {:error, reason()}
  def complete(client, ref, argument, opts \\ []),
    do: request(client, "completion/complete", %{"ref" => ref, "argument" => argument}, opts)

  @doc "Pings a server of the legacy era. Options: see `request/4`."
  @spec ping(client(), keyword()) :: {:ok, map()} | {:error, reason()}
  def ping(client, opts \\ []), do: request(client, "ping", nil, opts)

  @doc """
  Sets the least level of `notifications/message`, such as `"warning"`, in the legacy era, also for
  later sessions of the server. In the modern era, `:log_level` of `start_link/1` does that.
  """
  @spec set_log_level(client(), String.t(), keyword()) :: {:ok, map()} | {:error, reason()}
  def set_log_level(client, level, opts \\ []),
    do: request(client, "logging/setLevel", %{"level" => level}, opts)

  @request Schema.new(ToolCall.rows(30_000))

  @doc """
  Sends any request: `{:ok, result}`.

  Options:

  #{Schema.docs(@request)}
  """
  @spec request(client(), String.t(), map() | nil, keyword()) ::
          {:ok, term()} | {:error, reason()}
  def request(client, method, params \\ nil, opts \\ []) do
    with {:ok, opts} <- Schema.validate(@request, opts),
         do: Caller.request(pid(client), method, params, Map.to_list(opts))
  end

  @doc "Sends a notification."
  @spec notify(client(), String.t(), map() | nil) :: :ok | {:error, reason()}
  def notify(client, method, params \\ nil),
    do: with({:ok, :ok} <- Caller.call(pid(client), {:notify, method, params}), do: :ok)

  @doc "Tells a server of the legacy era that the roots have changed."
  @spec roots_changed(client()) :: :ok | {:error, reason()}
  def roots_changed(client), do: notify(client, "notifications/roots/list_changed")

  @doc "Cancels the calls with the option `tag: tag`, which return `{:error, :cancelled}`."
  @spec cancel(client(), term(), String.t()) :: :ok | {:error, reason()}
  def cancel(client, tag, reason \\ "cancelled by the caller"),
    do: with({:ok, :ok} <- Caller.call(pid(client), {:cancel_tag, tag, reason}), do: :ok)

  # --- Notifications ----------------------------------------------------------------------------

  @doc "Sends notifications of the server to a process. See above."
  @spec subscribe(client(), pid()) :: :ok | {:error, reason()}
  def subscribe(client, pid \\ self()),
    do: with({:ok, :ok} <- Caller.call(pid(client), {:subscribe, pid}), do: :ok)

  @doc "Ends a subscription, with those of its resources."
  @spec unsubscribe(client(), pid()) :: :ok | {:error, reason()}
  def unsubscribe(client, pid \\ self()),
    do: with({:ok, :ok} <- Caller.call(pid(client), {:unsubscribe, pid}), do: :ok)

  @doc """
  Subscribes the calling process to a resource: it gets `notifications/resources/updated` with this
  `"uri"`. A server of the legacy era is asked, for at most 30,000 ms, and may refuse; one of the
  modern era is told, and does not answer. A new session of the server is asked again.
  """
  @spec subscribe_resource(client(), String.t()) :: :ok | {:error, reason()}
  def subscribe_resource(client, uri) do
    with :ok <- subscribe(client),
         {:ok, answer} <- Caller.call(pid(client), {:resource, self(), uri, true}),
         do: answer
  end

  @doc "Ends the subscription of the calling process to a resource."
  @spec unsubscribe_resource(client(), String.t()) :: :ok | {:error, reason()}
  def unsubscribe_resource(client, uri),
    do: with({:ok, :ok} <- Caller.call(pid(client), {:resource, self(), uri, false}), do: :ok)

  @doc "Returns the OS process id of a server that is a child process, or nil."
  @spec os_pid(client()) :: {:ok, pos_integer() | nil} | {:error, reason()}
  def os_pid(client), do: Caller.call(pid(client), :os_pid)

  @doc "Returns the newest stderr of a server that is a child process."
  @spec stderr(client()) :: {:ok, String.t()} | {:error, reason()}
  def stderr(client), do: Caller.call(pid(client), :stderr)
end
