defmodule Codex.AppServer.Spans do
  @moduledoc false
  # Requests and approvals as `:telemetry` is told of them. Parameters and answers are content, and are not told.

  alias Codex.AppServer.Message
  alias Codex.Telemetry
  alias Codex.Telemetry.Span

  @tools %{
    "item/commandExecution/requestApproval" => "command",
    "item/fileChange/requestApproval" => "apply_patch",
    "item/permissions/requestApproval" => "permissions"
  }

  defstruct [:prefix, open: %{}]

  @typedoc "What has begun: requests by who asked, approvals by `{:asked, id}`."
  @type t :: %__MODULE__{prefix: [atom(), ...], open: %{term() => {integer(), map()}}}

  @spec new([atom(), ...]) :: t()
  def new(prefix), do: %__MODULE__{prefix: prefix}

  @doc "A request begins."
  @spec request(t(), term(), String.t(), map() | nil) :: t()
  def request(spans, from, method, params) do
    meta = meta(method, params || %{})
    start(spans, from, [:request, :start], meta)
  end

  @doc "A call has its reply. Not every call is a request."
  @spec reply(t(), term(), term()) :: t()
  def reply(spans, from, result) do
    {outcome, error} =
      with {:error, error} <- result, do: {:error, error}, else: (_ -> {:ok, nil})

    stop(spans, from, [:request, :stop], %{result: outcome, error: named(error)})
  end

  # A server's error has the words of the provider, and no more.
  defp named(%{"code" => code, "message" => message}), do: %{code: code, message: message}
  defp named(%{} = error), do: %{message: error["message"]}
  defp named(error), do: error

  @doc "The server asks. Only approvals are told."
  @spec asked(t(), term(), String.t(), map()) :: t()
  def asked(spans, id, method, params) do
    case tool(method, params) do
      tool when tool == nil or is_map_key(spans.open, {:asked, id}) ->
        spans

      tool ->
        meta = Map.merge(meta(method, params), approval(tool, params))
        start(spans, {:asked, id}, [:approval, :requested], meta)
    end
  end

  # Of an MCP server, input may be wanted, too.
  defp tool("mcpServer/elicitation/request", %{"_meta" => %{"codex_approval_kind" => _} = meta}),
    do: meta["tool_name"] || "mcp_tool"

  defp tool(method, _params), do: @tools[method]

  defp approval(tool, params),
    do: %{tool: tool, call_id: params["itemId"], turn_id: Message.turn_id(params)}

  @doc "It was answered by a process of ours, is not answered, or needs no answer any more."
  @spec answered(
          t(),
          term(),
          {:ok, map()} | {:error, map()} | :expired | :nobody | :resolved | :down
        ) ::
          t()
  def answered(spans, id, answer) do
    case outcome(answer) do
      {stage, meta} -> stop(spans, {:asked, id}, [:approval, stage], meta)
      nil -> %{spans | open: Map.delete(spans.open, {:asked, id})}
    end
  end

  defp outcome(:resolved), do: nil
  defp outcome(:expired), do: {:timeout, %{}}
  defp outcome({:error, _}), do: {:denied, %{reason: "error"}}

  defp outcome({:ok, answer}) when not is_map(answer), do: {:denied, %{reason: "no decision"}}

  defp outcome({:ok, answer}) do
    case Map.new(answer, fn {key, value} -> {to_string(key), value} end) do
      %{"decision" => decision} -> decision(decision)
      %{"permissions" => granted} when granted != %{} -> {:approved, %{}}
      %{"action" => "accept"} -> {:approved, %{}}
      %{"action" => action} -> {:denied, %{reason: action}}
      _ -> {:denied, %{reason: "none granted"}}
    end
  end

  defp outcome(why), do: {:denied, %{reason: why}}

  # As on the wire, in snake_case, or a map with one of them as its key.
  defp decision(decision) when is_map(decision) or is_list(decision),
    do: decision |> Map.new() |> Map.keys() |> List.first() |> decision()

  defp decision(decision) do
    word = to_string(decision)
    if String.starts_with?(word, "accept"), do: {:approved, %{}}, else: {:denied, %{reason: word}}
  end

  defp meta(method, params),
    do: %{
      lane: :app_server,
      originator: :sdk,
      method: method,
      thread_id: Message.thread_id(params)
    }

  defp start(spans, key, name, meta) do
    tell(spans, name, %{system_time: System.system_time()}, meta)
    put_in(spans.open[key], {System.monotonic_time(), meta})
  end

  defp stop(spans, key, name, more) do
    case Map.pop(spans.open, key) do
      {nil, _} ->
        spans

      {{began, meta}, open} ->
        measurements = Map.put(Span.spent(began), :system_time, System.system_time())
        tell(spans, name, measurements, Map.merge(meta, more))
        %{spans | open: open}
    end
  end

  defp tell(spans, name, measurements, meta),
    do: Telemetry.execute(spans.prefix ++ name, measurements, meta)
end
