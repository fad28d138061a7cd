defmodule Codex.MCP.Transport.StreamableHTTP do
  @moduledoc """
  Reaches an MCP server over HTTP: Streamable HTTP, and the older HTTP+SSE of version 2024-11-05.

      {:ok, transport} =
        Codex.MCP.Transport.StreamableHTTP.start_link(
          url: "https://mcp.example/mcp",
          server_name: "example"
        )

  Certificates are verified. Proxies come from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. A
  redirect is followed only within the origin of the URL, so that no other server gets the token.

  Options: see `start_link/1`.
  """

  alias Codex.HTTP.Target
  alias Codex.{MCP, OptionError}
  alias Codex.MCP.Raw
  alias Codex.Options.Schema

  @rows [
    {:url, :text, "an `http://` or `https://` URL (required)", required: true},
    {:server_name, :string, "the name of the server in the configuration (required)",
     required: true},
    {:bearer_token, :string, "the token of each request", secret: true},
    {:bearer_token_env_var, :string, "the variable that holds the token"},
    {:http_headers, :env, "headers of each request, as a map", default: %{}, secret: true},
    {:env_http_headers, :env,
     "names of headers, and the variables with their values; a header with a missing or empty " <>
       "variable is left out", default: %{}},
    {:http_headers_helper, :text,
     "a shell command that prints a JSON object of further headers. It runs once for each " <>
       "connection, for at most 10 s, with the same variables as a server of " <>
       "`Codex.MCP.Transport.Stdio`"},
    {:cwd, :path, "the working directory of that command", shown: "that of the VM"},
    {:oauth, :any,
     "options of `Codex.MCP.OAuth.login/3` for the stored login of the server; `false` for " <>
       "none. The default is the stored login, unless a bearer token is given. Without a login, " <>
       "no token is sent. With `login: true`, a refusal starts a login. A header " <>
       "`authorization` takes the place of a login", secret: true},
    {:max_message_bytes, :bytes, "the largest message of the server", shown: "32 MiB"},
    {:connect_timeout_ms, :milliseconds, "the time to connect", shown: "10 seconds"},
    {:tls, :any, "options of `:ssl`, and `:cacertfile`", secret: true}
  ]
  @schema Schema.new(@rows)
  @passed [:url, :max_message_bytes, :connect_timeout_ms, :tls]

  @typedoc "An option of `start_link/1`. See above."
  @type option ::
          {:url, String.t()}
          | {:server_name, String.t()}
          | {:bearer_token, String.t()}
          | {:bearer_token_env_var, String.t()}
          | {:http_headers, %{String.t() => String.t()}}
          | {:env_http_headers, %{String.t() => String.t()}}
          | {:http_headers_helper, String.t()}
          | {:cwd, Path.t()}
          | {:oauth, keyword() | false}
          | {:max_message_bytes, pos_integer()}
          | {:connect_timeout_ms, pos_integer()}
          | {:tls, keyword()}

  @doc """
  Starts a transport, linked to the caller. It connects with the first message.

  Options:

  #{Schema.docs(@schema)}

  Returns `Codex.OptionError` for an invalid option, and `{:missing_env, name}` for a variable of
  `:bearer_token_env_var` that is not set. A client that starts returns
  `{:headers_helper, problem}` if the command of `:http_headers_helper` fails.
  """
  @spec start_link([option()]) ::
          {:ok, pid()} | {:error, OptionError.t() | {:missing_env, String.t()}}
  def start_link(opts)
  def start_link(opts) when is_function(opts, 0), do: start_link(opts.())

  def start_link(opts) do
    with {:ok, {_module, arg} = opener} <- opener(opts),
         {:ok, _target} <- Target.new(arg.url),
         do: Raw.start_link(fn -> opener end)
  end

  @doc "Returns the specification of a transport in a supervision tree. Takes the options."
  @spec child_spec([option()]) :: Supervisor.child_spec()
  def child_spec(opts) do
    _ = Schema.pairs!(opts)
    %{id: __MODULE__, start: {__MODULE__, :start_link, [fn -> opts end]}}
  end

  @doc "Sends a message, a map of JSON. Returns without waiting for the server."
  @spec send(pid(), map()) :: :ok | {:error, term()}
  def send(transport, %{} = message) when is_pid(transport) and not is_struct(message),
    do: Raw.send(transport, message)

  @doc """
  Waits for the next message of the server.

  Returns `{:error, :timeout}` after `timeout_ms`, and `{:error, reason}` for a request that has no
  answer, with reasons such as `{:http_error, status, body}`.
  """
  @spec recv(pid(), timeout()) :: {:ok, map()} | {:error, term()}
  def recv(transport, timeout_ms \\ 30_000)
      when is_pid(transport) and
             (timeout_ms == :infinity or (is_integer(timeout_ms) and timeout_ms >= 0)),
      do: Raw.recv(transport, timeout_ms)

  @doc false
  # Returns the transport of this process for a connection of its own.
  @spec held(pid()) :: {module(), map()}
  def held(transport), do: Raw.held(transport)

  @doc false
  # The names of the options.
  @spec names() :: [atom()]
  def names, do: Enum.map(@rows, &elem(&1, 0))

  @doc false
  # Returns the transport of a connection process.
  @spec opener(keyword()) ::
          {:ok, {module(), map()}} | {:error, OptionError.t() | {:missing_env, String.t()}}
  def opener(opts) do
    with {:ok, opts} <- Schema.validate(@schema, opts),
         {:ok, token} <- token(opts),
         {:ok, auth} <- auth(opts, token) do
      own = %{headers: headers(opts, token), headers_helper: helper(opts), auth: auth}
      passed = for {name, value} <- Map.take(opts, @passed), value != nil, do: {name, value}
      {:ok, {MCP.HTTP, Map.merge(own, Map.new(passed))}}
    end
  end

  defp token(opts) do
    case {opts.bearer_token, opts.bearer_token_env_var} do
      {nil, nil} ->
        {:ok, nil}

      {token, _name} when is_binary(token) ->
        {:ok, token}

      {nil, name} ->
        case System.get_env(name) do
          value when value in [nil, ""] -> {:error, {:missing_env, name}}
          value -> {:ok, value}
        end
    end
  end

  defp auth(opts, token) do
    login = if opts.oauth == nil and token == nil, do: [], else: opts.oauth
    bearer = fn -> MCP.OAuth.bearer(opts.server_name, opts.url, login) end
    {:ok, if(login, do: {MCP.OAuth.Bearer, bearer.()})}
  rescue
    error in OptionError -> {:error, error}
  end

  defp helper(%{http_headers_helper: nil}), do: nil

  defp helper(opts) do
    env = Map.take(System.get_env(), MCP.Stdio.inherited())
    %{command: opts.http_headers_helper, env: env, cwd: opts.cwd}
  end

  defp headers(opts, token) do
    fixed = for {name, value} <- opts.http_headers, value != nil, do: {name, value}

    variable =
      for {name, variable} when variable != nil <- opts.env_http_headers,
          value = System.get_env(variable),
          value != "",
          do: {name, value}

    if(token, do: [{"authorization", "Bearer " <> token}], else: []) ++ fixed ++ variable
  end
end
