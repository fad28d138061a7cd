defmodule Codex.MCP.Raw do
  @moduledoc false
  # The process of a transport that an application holds: messages one by one, by `send` and `recv`.
  # The transport is opened with the first message, and reads on when its messages were fetched.
  use GenServer

  alias Codex.MCP.Transport

  @derive {Inspect, only: []}
  defstruct [:opener, :transport, :down, came: :queue.new(), waiting: [], owed: 0]

  @type t :: %__MODULE__{}

  @doc "Starts the process. The opener comes as a function, because it holds secrets."
  @spec start_link((... -> Transport.opener())) :: GenServer.on_start()
  def start_link(opener), do: GenServer.start_link(__MODULE__, opener)

  @doc "Sends a message, without waiting for the server."
  @spec send(pid(), map()) :: :ok | {:error, term()}
  def send(pid, message), do: ask(pid, {:send, message})

  @doc "Waits for the next message."
  @spec recv(pid(), timeout()) :: {:ok, map()} | {:error, term()}
  def recv(pid, timeout), do: ask(pid, {:recv, timeout})

  @doc "Returns the opener, for a connection of its own."
  @spec held(pid()) :: Transport.opener()
  def held(pid), do: GenServer.call(pid, :opener, :infinity).()

  defp ask(pid, call) do
    GenServer.call(pid, call, :infinity)
  catch
    :exit, {reason, {GenServer, :call, _}} -> {:error, {:server_down, %{reason: reason}}}
  end

  @impl true
  def init(opener) do
    _ = Process.flag(:trap_exit, true)
    {:ok, %__MODULE__{opener: opener}}
  end

  @impl true
  def handle_call(call, from, raw), do: call(raw, call, from)

  @impl true
  def handle_info({:EXIT, _pid, reason}, raw), do: {:stop, reason, raw}
  def handle_info(message, raw), do: {:noreply, info(raw, message)}

  @impl true
  def terminate(_reason, %{transport: nil}), do: :ok
  def terminate(_reason, raw), do: Transport.stop(raw.transport)

  defp call(raw, :opener, _from), do: {:reply, raw.opener, raw}

  defp call(%{transport: nil, down: nil} = raw, {:send, _} = call, from) do
    case Transport.open(raw.opener.()) do
      {:ok, transport} -> call(%{raw | transport: transport}, call, from)
      {:error, reason} -> {:reply, {:error, reason}, raw}
    end
  end

  defp call(%{down: nil} = raw, {:send, message}, _from),
    do: {:reply, :ok, %{raw | transport: Transport.send(raw.transport, message, %{})}}

  defp call(raw, {:send, _message}, _from), do: {:reply, {:error, raw.down}, raw}

  defp call(raw, {:recv, ms}, from) do
    _timer = if ms != :infinity, do: Process.send_after(self(), {:expired, from}, ms)
    {:noreply, deliver(%{raw | waiting: raw.waiting ++ [from]})}
  end

  defp info(raw, {:expired, from}) do
    if from in raw.waiting, do: GenServer.reply(from, {:error, :timeout})
    %{raw | waiting: List.delete(raw.waiting, from)}
  end

  defp info(%{transport: nil} = raw, _message), do: raw

  defp info(raw, message) do
    case Transport.stream(raw.transport, message) do
      {:ok, transport, outputs} ->
        outputs |> Enum.reduce(%{raw | transport: transport}, &output/2) |> deliver()

      :unknown ->
        raw
    end
  end

  defp output({:messages, messages, bytes}, raw) do
    came = for message <- Enum.flat_map(messages, &unpack/1), map = map(message), do: {:ok, map}
    came = Enum.reduce(came, raw.came, &:queue.in/2)
    %{raw | came: came, owed: raw.owed + bytes}
  end

  defp output({:lost, _id, reason}, raw),
    do: %{raw | came: :queue.in({:error, reason}, raw.came)}

  defp output({:session_lost, _ids}, raw),
    do: %{raw | came: :queue.in({:error, :session_lost}, raw.came)}

  defp output({:down, info}, raw), do: %{raw | down: {:server_down, info}}

  defp unpack({:batch, messages}), do: messages
  defp unpack(message), do: [message]

  defp map({:request, id, method, params}),
    do: rpc(%{"id" => id, "method" => method, "params" => params})

  defp map({:notification, method, params}), do: rpc(%{"method" => method, "params" => params})
  defp map({:result, id, result}), do: rpc(%{"id" => id, "result" => result})
  defp map({:error, id, error}), do: rpc(%{"id" => id, "error" => error})
  defp map(_noise), do: nil

  defp rpc(map), do: Map.put(map, "jsonrpc", "2.0")

  defp deliver(%{waiting: []} = raw), do: raw

  defp deliver(%{waiting: [from | rest]} = raw) do
    case :queue.out(raw.came) do
      {{:value, result}, came} ->
        GenServer.reply(from, result)
        deliver(%{raw | came: came, waiting: rest})

      {:empty, _came} when raw.down != nil ->
        GenServer.reply(from, {:error, raw.down})
        deliver(%{raw | waiting: rest})

      {:empty, _came} ->
        grant(raw)
    end
  end

  defp grant(%{owed: 0} = raw), do: raw
  defp grant(raw), do: %{raw | transport: Transport.grant(raw.transport, raw.owed), owed: 0}
end
