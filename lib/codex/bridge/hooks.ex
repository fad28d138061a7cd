defmodule Codex.Bridge.Hooks do
  @moduledoc false
  # The hooks of a thread as a service of a bridge: one tool, which no list has, so that the model
  # never sees it. The answer is always a text: the CLI takes an error for no opinion.

  @behaviour Codex.Bridge.Service

  alias Codex.Hooks.{Call, Config, Set}

  @enforce_keys [:current]
  defstruct [:current]

  @typedoc "`current` returns the hooks that count when a call comes, or nil if nobody knows."
  @type t :: %__MODULE__{current: (... -> Set.t() | nil)}

  @impl true
  def list(_service), do: []

  @impl true
  def timeout_ms(_service), do: Set.max_ms()

  @impl true
  def call(service, call) do
    if call.name == Config.tool() do
      case {service.current.(), Call.event(call.arguments, thread_id(call.meta))} do
        {%Set{} = set, {name, event}} ->
          :ok = Set.begin_call(set)

          %{
            run: fn -> text(Call.run(set, name, event)) end,
            timeout_ms: Set.limit(set, name),
            failed: fn why -> {:ok, text(Call.failed(set, name, event, why))} end,
            done: fn -> Set.end_call(set) end
          }

        _gone ->
          closed = text(Call.closed(call.arguments))
          failed = fn _why -> {:ok, closed} end
          %{run: fn -> closed end, timeout_ms: 5_000, failed: failed, done: fn -> :ok end}
      end
    end
  end

  defp thread_id(%{"threadId" => id}) when is_binary(id), do: id
  defp thread_id(%{"x-codex-turn-metadata" => %{"thread_id" => id}}) when is_binary(id), do: id
  defp thread_id(_meta), do: nil

  defp text(text), do: %{"content" => [%{"type" => "text", "text" => text}], "isError" => false}
end
