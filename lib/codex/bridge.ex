defmodule Codex.Bridge do
  @moduledoc false
  # Lets a CLI call functions of this VM: a Unix socket on which services answer as one MCP server
  # (`Codex.Bridge.Connection`). The CLI starts `codex_launcher bridge` as a stdio server, which
  # copies bytes to the socket. Path and token stand in its environment.
  #
  # The process that opens a bridge owns it. When that process ends, however it does, the
  # connection, all calls and the directory of the socket go, too.

  alias Codex.Bridge.{Connection, Service}
  alias Codex.{OwnerMonitor, TemporaryDirectories}
  alias Codex.Subprocess.Launcher

  @enforce_keys [:pid, :dir, :env]
  defstruct @enforce_keys

  # The token is a secret.
  defimpl Inspect do
    def inspect(bridge, _opts), do: "#Codex.Bridge<#{bridge.dir}>"
  end

  @type t :: %__MODULE__{pid: pid(), dir: Path.t(), env: %{String.t() => String.t()}}

  # The path of a socket has at most 103 bytes on some systems.
  @longest 103

  # How long a call may last beyond the time limit of its tool before the CLI gives up.
  @margin_s 30
  @startup_s 60

  @doc """
  Opens a bridge that is owned by the calling process. Nothing can connect without the token, and
  only one connection can have it.

  With `ended`, a function, any number of connections can have the token: the CLI makes one for each
  sub-agent. The function is called with `:lost` if a connection, or this side of all of them, ends
  before the CLI has closed it, and with `:last` when the CLI has closed the last one.
  """
  @spec open([Service.t()], Connection.ended() | nil) ::
          {:ok, t()} | {:error, {:bridge, :inet.posix() | :not_started}}
  def open(services, ended \\ nil) do
    dir = directory()

    with :ok <- TemporaryDirectories.adopt([dir], self(), :remove),
         {:ok, listener} <- listen(dir) do
      token = 32 |> :crypto.strong_rand_bytes() |> Base.encode16(case: :lower)
      env = %{"CODEX_SDK_BRIDGE_SOCKET" => socket(dir), "CODEX_SDK_BRIDGE_TOKEN" => token}
      {:ok, %__MODULE__{pid: start(listener, token, services, ended), dir: dir, env: env}}
    else
      {:error, reason} ->
        remove(dir)
        {:error, {:bridge, reason}}
    end
  end

  defp directory do
    name = "codex_sdk_" <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)
    dir = Path.join(System.tmp_dir() || "/tmp", name)
    if byte_size(socket(dir)) <= @longest, do: dir, else: Path.join("/tmp", name)
  end

  defp socket(dir), do: Path.join(dir, "s")

  # Nobody else can reach the socket: the directory is empty until its mode is set.
  defp listen(dir) do
    address = {:local, socket(dir)}

    with :ok <- File.mkdir(dir),
         :ok <- File.chmod(dir, 0o700),
         {:ok, listener} <- :gen_tcp.listen(0, [:binary, ifaddr: address, active: false]),
         :ok <- File.chmod(socket(dir), 0o600),
         do: {:ok, listener}
  end

  defp start(listener, token, services, ended) do
    owner = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)

        receive do
          :begin -> Connection.run(listener, token, services, ended)
        end
      end)

    _ = if ended, do: spawn(fn -> watch(pid, ended) end)
    :ok = :gen_tcp.controlling_process(listener, pid)
    send(pid, :begin)
    pid
  end

  defp watch(pid, ended) do
    ref = Process.monitor(pid)

    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> ended.(:lost)
    end
  end

  @doc "Ends the connection and all calls, and removes the directory."
  @spec close(t() | nil) :: :ok
  def close(nil), do: :ok

  def close(bridge) do
    Process.exit(bridge.pid, :kill)
    remove(bridge.dir)
  end

  defp remove(dir) do
    _ = File.rm_rf(dir)
    _ = TemporaryDirectories.forget([dir])
    :ok
  end

  @doc "Returns the command that is started as the MCP server."
  @spec command() :: [String.t(), ...]
  def command, do: [Launcher.path(), "bridge"]

  @doc """
  Returns the members of the server's configuration besides its command, for these services. The
  approvals are those of this server alone: its functions belong to the application.
  """
  @spec server([Service.t()]) :: [{String.t(), term()}]
  def server(services) do
    longest = services |> Enum.map(&Service.timeout_ms/1) |> Enum.max(fn -> 0 end)

    [
      {"required", true},
      {"default_tools_approval_mode", "approve"},
      {"supports_parallel_tool_calls", true},
      {"startup_timeout_sec", @startup_s},
      {"tool_timeout_sec", div(longest, 1_000) + @margin_s}
    ]
  end

  @doc """
  Returns a name for the server that is not taken.

      iex> Codex.Bridge.name(["docs", "host"])
      "host_2"
  """
  @spec name([String.t()]) :: String.t()
  def name(taken) do
    ["host"]
    |> Stream.concat(Stream.map(Stream.iterate(2, &(&1 + 1)), &"host_#{&1}"))
    |> Enum.find(&(&1 not in taken))
  end
end
