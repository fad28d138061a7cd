defmodule Codex.MCPServers do
  @moduledoc "MCP servers of others, which bin/test installs into .codex-cli/mcp."

  alias Codex.Subprocess

  @npm Path.expand(".codex-cli/mcp/npm/node_modules/@modelcontextprotocol")
  @python Path.expand(".codex-cli/mcp/python/bin/python")
  @peer Path.expand("test/children/mcp_peer.py")
  # The servers of npm would listen on all addresses.
  @loopback Path.expand("test/conformance/loopback.cjs")

  @doc "Returns whether the servers of npm are installed."
  def npm?, do: Enum.all?(["everything", "filesystem", "memory"], &File.exists?(script(&1)))

  @doc "Returns the command of a server of npm."
  def npm(name), do: [System.find_executable("node"), script(name)]

  defp script(name), do: "#{@npm}/server-#{name}/dist/index.js"

  @doc "Returns whether the Python package is installed."
  def python?, do: File.exists?(@python)

  @doc "Returns the command of `test/children/mcp_peer.py`."
  def python, do: [@python, @peer]

  @doc """
  Starts a server over HTTP, which ends with the calling process or with `Codex.Subprocess.stop/1`.
  `:port` starts it at a port. Returns its URL and the subprocess.
  """
  def serve!(server, opts \\ [])

  def serve!(:everything, opts) do
    serve!(opts, fn port ->
      env = %{"PORT" => "#{port}", "NODE_OPTIONS" => "--require #{@loopback}"}
      {npm("everything") ++ ["streamableHttp"], env}
    end)
  end

  def serve!(:python, opts), do: serve!(opts, fn port -> {python() ++ ["#{port}"], %{}} end)

  def serve!(opts, command) when is_function(command, 1) do
    port = opts[:port] || free_port()
    {argv, env} = command.(port)
    {:ok, sub} = Subprocess.open(argv, env: env)
    listening(port, 600)
    {"http://127.0.0.1:#{port}/mcp", sub}
  end

  @doc "Returns a port of 127.0.0.1 on which nothing listens."
  def free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    port
  end

  defp listening(port, attempts) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, []) do
      {:ok, socket} ->
        :gen_tcp.close(socket)

      {:error, :econnrefused} when attempts > 0 ->
        Process.sleep(100)
        listening(port, attempts - 1)
    end
  end
end
