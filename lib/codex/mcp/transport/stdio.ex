defmodule Codex.MCP.Transport.Stdio do
  @moduledoc """
  An MCP server as a child process.

      {:ok, transport} =
        Codex.MCP.Transport.Stdio.start_link(command: ["npx", "-y", "server-name"])

      {:ok, client} =
        Codex.MCP.Client.initialize({Codex.MCP.Transport.Stdio, transport})

  The process holds the command. The server starts when a client is initialized with it, once for
  each client, or with the first `send/2`. It ends together with its client, the holder or the VM,
  and so do all processes that it started.
  """
  alias Codex.MCP.Raw
  alias Codex.OptionError
  alias Codex.Options.Schema

  @inherited Codex.MCP.Stdio.inherited()

  @rows [
    {:command, :any, "the program, or a list of the program and its arguments",
     expected: "a program, or a list of a program and its arguments"},
    {:args, {:list, :text}, "further arguments", default: []},
    {:cwd, :path, "the working directory", shown: "that of the VM"},
    {:env, :env, "variables of the server", default: %{}, secret: true},
    {:env_vars, {:list, :string}, "names of variables of the VM that the server gets, too",
     default: []},
    {:max_message_bytes, {:integer, 1, 1_073_741_824}, "the longest message of the server",
     default: 64 * 1024 * 1024},
    {:max_message_nodes, :positive, "how many values and keys a message may have",
     default: Codex.JSON.max_nodes()}
  ]
  @schema Schema.new(@rows)

  @typedoc "The process that holds the command."
  @type t :: pid()

  @typedoc "A reason why the command cannot be used."
  @type reason :: :missing_command | {:command_not_found, String.t()} | OptionError.t()

  @doc """
  Starts the holder of a command, linked to the caller.

  Options:

  #{Schema.docs(@schema)}

  The environment of the server is an allow-list: #{Enum.map_join(@inherited, ", ", &"`#{&1}`")},
  the variables of `:env_vars`, and `:env`. A program without a slash is looked up on the `PATH` of
  that environment.

  Returns `{:ok, pid}`, or `{:error, reason}`: `:missing_command`, `{:command_not_found, program}`,
  or a `Codex.OptionError`.
  """
  @spec start_link(keyword()) :: {:ok, t()} | {:error, reason()}
  def start_link(opts)
  def start_link(opts) when is_function(opts, 0), do: start_link(opts.())

  def start_link(opts) do
    with {:ok, opener} <- opener(opts) do
      Raw.start_link(fn -> opener end)
    end
  end

  @doc "Returns the specification of a child that holds a command."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    _ = Schema.pairs!(opts)
    %{id: __MODULE__, start: {__MODULE__, :start_link, [fn -> opts end]}}
  end

  @doc "Sends one message, a map of JSON, to the server. Returns without waiting for the server."
  @spec send(t(), map()) :: :ok | {:error, term()}
  def send(transport, %{} = message) when is_pid(transport) and not is_struct(message),
    do: Raw.send(transport, message)

  @doc """
  Waits for the next message of the server. Returns `{:error, :timeout}` after `timeout_ms`
  milliseconds, and `{:error, {:server_down, info}}` if the server has ended.
  """
  @spec recv(t(), timeout()) :: {:ok, map()} | {:error, term()}
  def recv(transport, timeout_ms \\ 30_000)
      when is_pid(transport) and
             (timeout_ms == :infinity or (is_integer(timeout_ms) and timeout_ms >= 0)),
      do: Raw.recv(transport, timeout_ms)

  @doc false
  @spec held(t()) :: Codex.MCP.Transport.opener()
  def held(transport), do: Raw.held(transport)

  @doc false
  # The names of the options.
  @spec names() :: [atom()]
  def names, do: Enum.map(@rows, &elem(&1, 0))

  @doc false
  # Checks the options, and returns the transport for a connection.
  @spec opener(keyword()) :: {:ok, Codex.MCP.Transport.opener()} | {:error, reason()}
  def opener(opts) do
    with {:ok, opts} <- Schema.validate(@schema, opts),
         {:ok, [program | args]} <- command(opts.command),
         env = env(opts),
         {:ok, program} <- find(program, env, opts.cwd) do
      arg = Map.take(opts, [:cwd, :max_message_bytes, :max_message_nodes])
      {:ok, {Codex.MCP.Stdio, Map.merge(arg, %{argv: [program | args] ++ opts.args, env: env})}}
    end
  end

  defp command(command) when command in [nil, "", []], do: {:error, :missing_command}
  defp command(program) when is_binary(program), do: {:ok, [program]}

  defp command(argv) do
    if is_list(argv) and not List.improper?(argv) and Enum.all?(argv, &is_binary/1) and
         hd(argv) != "",
       do: {:ok, argv},
       else: {:error, OptionError.invalid(:command, argv, "a program, or a list with arguments")}
  end

  defp env(opts) do
    inherited = System.get_env() |> Map.take(@inherited ++ opts.env_vars)

    for {name, value} <- Map.merge(inherited, opts.env),
        value != nil,
        into: %{},
        do: {name, value}
  end

  defp find(program, env, cwd) do
    found =
      if String.contains?(program, "/"),
        do: program |> Path.expand(cwd || File.cwd!()) |> executable(),
        else:
          env |> Map.get("PATH", "") |> String.split(":") |> Enum.find_value(&in_dir(&1, program))

    if found, do: {:ok, found}, else: {:error, {:command_not_found, program}}
  end

  defp in_dir("", _program), do: nil
  defp in_dir(dir, program), do: dir |> Path.join(program) |> executable()

  defp executable(path) do
    case File.stat(path) do
      {:ok, %{type: :regular, mode: mode}} -> if Bitwise.band(mode, 0o111) != 0, do: path
      _other -> nil
    end
  end
end
