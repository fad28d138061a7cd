defmodule Codex.MCP.Raw do
  @moduledoc false
  # Messages of a transport one by one, for processes that offer `send` and `recv`. The transport is
  # opened with the first message, and reads on when its messages were fetched.

  alias Codex.MCP.Transport

  @derive {Inspect, only: []}
  defstruct [:opener, :transport, :down, came: :queue.new(), waiting: [], owed: 0]

  @type t :: %__MODULE__{}

  @doc "Makes a closed transport. The opener comes as a function, because it holds secrets."
  @spec new((... -> Transport.opener())) :: t()
  def new(opener), do: %__MODULE__{opener: opener}

  @doc "Handles a call of the process that holds the transport."
  @spec call(t(), term(), GenServer.from()) :: {:reply, term(), t()} | {:noreply, t()}
  def call(raw, :opener, _from), do: {:reply, raw.opener, raw}

  def call(%{transport: nil, down: nil} = raw, {:send, _} = call, from) do
    case Transport.open(raw.opener.()) do
      {:ok, transport} -> call(%{raw | transport: transport}, call, from)
      {:error, reason} -> {:reply, {:error, reason}, raw}
    end
  end

  def call(%{down: nil} = raw, {:send, message}, _from),
    do: {:reply, :ok, %{raw | transport: Transport.send(raw.transport, message, %{})}}

  def call(raw, {:send, _message}, _from), do: {:reply, {:error, raw.down}, raw}

  def call(raw, {:recv, ms}, from) do
    _timer = if ms != :infinity, do: Process.send_after(self(), {:expired, from}, ms)
    {:noreply, deliver(%{raw | waiting: raw.waiting ++ [from]})}
  end

  @doc "Handles another message of the process."
  @spec info(t(), term()) :: t()
  def info(raw, {:expired, from}) do
    if from in raw.waiting, do: GenServer.reply(from, {:error, :timeout})
    %{raw | waiting: List.delete(raw.waiting, from)}
  end

  def info(%{transport: nil} = raw, _message), do: raw

  def info(raw, message) do
    case Transport.stream(raw.transport, message) do
      {:ok, transport, outputs} ->
        outputs |> Enum.reduce(%{raw | transport: transport}, &output/2) |> deliver()

      :unknown ->
        raw
    end
  end

  @doc "Ends the server."
  @spec stop(t()) :: :ok | {:behind, pid()}
  def stop(%{transport: nil}), do: :ok
  def stop(raw), do: Transport.stop(raw.transport)

  defp output({:messages, messages, bytes}, raw) do
    came = for message <- messages, map = map(message), do: {:ok, map}
    came = Enum.reduce(came, raw.came, &:queue.in/2)
    %{raw | came: came, owed: raw.owed + bytes}
  end

  defp output({:lost, _id, reason}, raw),
    do: %{raw | came: :queue.in({:error, reason}, raw.came)}

  defp output({:session_lost, _ids}, raw),
    do: %{raw | came: :queue.in({:error, :session_lost}, raw.came)}

  defp output({:down, info}, raw), do: %{raw | down: {:server_down, info}}

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
