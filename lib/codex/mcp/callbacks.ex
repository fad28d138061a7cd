defmodule Codex.MCP.Callbacks do
  @moduledoc false
  # A transport of the application: `{module, state}` with `send(state, message)`, which returns
  # `:ok` or an error, and `recv(state, timeout_ms)` or `recv(state)`, which returns `{:ok,
  # message}` or `{:error, reason}`. A process for each direction calls them, as both may block.
  @behaviour Codex.MCP.Transport

  alias Codex.JSONRPC.Message
  alias Codex.OwnerMonitor

  @enforce_keys [:tag, :sender, :receiver]
  @derive {Inspect, only: []}
  defstruct [:tag, :sender, :receiver]

  @patience 60_000

  @impl true
  def open({module, state}) do
    conn = self()
    tag = make_ref()
    {:ok, sender} = start(fn -> sender(conn, tag, module, state) end)
    {:ok, receiver} = start(fn -> receiver(conn, tag, module, state, 0) end)
    {:ok, %__MODULE__{tag: tag, sender: sender, receiver: receiver}}
  end

  defp start(fun) do
    conn = self()

    Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
      OwnerMonitor.start(conn)
      fun.()
    end)
  end

  defp sender(conn, tag, module, state) do
    receive do
      {^tag, message} ->
        case module.send(state, message) do
          {:error, reason} -> failed(conn, tag, message, reason)
          _ok -> :ok
        end

        sender(conn, tag, module, state)
    end
  end

  defp failed(conn, tag, %{"id" => id, "method" => _}, reason),
    do: Kernel.send(conn, {tag, {:lost, id, reason}})

  defp failed(_conn, _tag, _message, _reason), do: :ok

  # One message ahead of the grants of the connection.
  defp receiver(conn, tag, module, state, failures) do
    case recv(module, state) do
      {:ok, message} ->
        Kernel.send(conn, {tag, {:message, message}})
        receive do: ({^tag, :grant} -> receiver(conn, tag, module, state, 0))

      {:error, reason} when reason in [:timeout, :empty] ->
        # A transport that does not wait must not make this process spin.
        if failures > 0, do: Process.sleep(min(failures, 50))
        receiver(conn, tag, module, state, failures + 1)

      {:error, reason} ->
        Kernel.send(conn, {tag, {:down, reason}})
    end
  end

  defp recv(module, state) do
    if function_exported?(module, :recv, 2),
      do: module.recv(state, @patience),
      else: module.recv(state)
  end

  @impl true
  def send(transport, message, _meta) do
    Kernel.send(transport.sender, {transport.tag, message})
    transport
  end

  @impl true
  def protocol(transport, _version, _era), do: transport

  @impl true
  def cancel(transport, _id), do: transport

  @impl true
  def grant(transport, _bytes) do
    Kernel.send(transport.receiver, {transport.tag, :grant})
    transport
  end

  @impl true
  def stream(%{tag: tag} = transport, {tag, {:message, message}}),
    do: {:ok, transport, [{:messages, [Message.from_term(message)], 1}]}

  def stream(%{tag: tag} = transport, {tag, {:lost, id, reason}}),
    do: {:ok, transport, [{:lost, id, reason}]}

  def stream(%{tag: tag} = transport, {tag, {:down, reason}}),
    do: {:ok, transport, [{:down, %{reason: reason}}]}

  def stream(_transport, _message), do: :unknown

  @impl true
  def stop(transport) do
    Process.exit(transport.sender, :kill)
    Process.exit(transport.receiver, :kill)
    :ok
  end

  @impl true
  def os_pid(_transport), do: nil

  @impl true
  def stderr(_transport), do: ""
end
