defmodule Codex.Peers do
  @moduledoc """
  Nodes on this machine with the code of this VM, which is no node itself. They listen on
  127.0.0.1, need no port mapper, and end with the process that started them.
  """

  alias Codex.Stub

  defmodule Ports do
    @moduledoc "Stands in for the port mapper: the name of a node ends with its port."

    def start_link, do: :ignore
    def register_node(name, port), do: register_node(name, port, :inet)
    def register_node(_name, _port, _family), do: {:ok, 1}
    def listen_port_please(name, _host), do: {:ok, port(name)}
    def port_please(name, host), do: port_please(name, host, :infinity)
    def port_please(name, _host, _timeout), do: {:port, port(name), 6}
    def address_please(_name, host, family), do: :inet.getaddr(host, family)
    def names(_host), do: {:error, :address}

    defp port(name) when is_atom(name), do: name |> :erlang.atom_to_list() |> port()

    defp port(name),
      do: name |> :string.split(~c"_", :trailing) |> List.last() |> :erlang.list_to_integer()
  end

  defstruct [:name, :node, :cookie, :pid, :os_pid]

  @doc "Starts so many nodes, which are connected."
  def start(count) do
    cookie = Base.encode16(:crypto.strong_rand_bytes(8))

    peers =
      for n <- 1..count do
        boot(%__MODULE__{name: "codex#{n}_#{free_port()}", cookie: cookie})
      end

    for a <- peers, b <- peers, a != b, do: true = call(a, Node, :connect, [b.node])
    peers
  end

  @doc "Starts another node beside these. It ends with the calling process."
  def add([first | _] = peers) do
    peer = boot(%__MODULE__{name: "codex_#{free_port()}", cookie: first.cookie})
    for other <- peers, do: true = call(peer, Node, :connect, [other.node])
    peer
  end

  # Below the ports that the system gives away.
  defp free_port do
    port = 20_000 + :rand.uniform(10_000)

    case :gen_tcp.listen(port, ip: {127, 0, 0, 1}) do
      {:ok, socket} -> :gen_tcp.close(socket) && port
      {:error, _used} -> free_port()
    end
  end

  @doc "Starts a node, also again after it was killed."
  def boot(peer) do
    paths = for path <- :code.get_path(), path != ~c".", do: [~c"-pa", path]

    args =
      [
        ~c"-start_epmd",
        ~c"false",
        ~c"-epmd_module",
        ~c"#{Ports}",
        ~c"-setcookie",
        ~c"#{peer.cookie}"
      ] ++
        [~c"-kernel", ~c"inet_dist_use_interface", ~c"{127,0,0,1}"] ++ Enum.concat(paths)

    {:ok, pid, node} =
      :peer.start_link(%{
        name: String.to_atom(peer.name),
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        peer_down: :continue,
        wait_boot: 60_000,
        args: args
      })

    peer = %{peer | pid: pid, node: node}
    {:ok, _} = call(peer, :application, :ensure_all_started, [:logger])
    :ok = call(peer, Logger, :configure, [[level: :none]])
    {:ok, _} = call(peer, :application, :ensure_all_started, [:codex_sdk])
    %{peer | os_pid: call(peer, System, :pid, [])}
  end

  @doc "Calls a function on a node."
  def call(peer, module, function, args, timeout \\ 60_000),
    do: :peer.call(peer.pid, module, function, args, timeout)

  @doc "Evaluates code on a node, with variables."
  def eval(peer, code, bindings \\ [], timeout \\ 60_000) do
    {value, _} = call(peer, Code, :eval_string, [code, bindings], timeout)
    value
  end

  @doc "Kills the VM of a node. Returns when it is gone."
  def kill(peer) do
    {_, 0} = System.cmd("kill", ["-KILL", peer.os_pid])
    true = Stub.eventually(fn -> not Stub.alive?(peer.os_pid) end)
    :peer.stop(peer.pid)
  end

  @doc "Makes a node a member of a group."
  def join(peer, options) do
    {:ok, _} =
      call(peer, Supervisor, :start_child, [Codex.Supervisor, {Codex.Batch.Node, options}])

    :ok
  end
end
