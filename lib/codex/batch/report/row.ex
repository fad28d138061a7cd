defmodule Codex.Batch.Report.Row do
  @moduledoc false
  # A job of a report: texts for people, and times in ms since 1970.

  alias Codex.Batch.Result
  alias Codex.Text

  @longest_key 120
  @longest_message 300

  @enforce_keys [:index, :key, :status, :usage]
  defstruct [
    :index,
    :key,
    :status,
    :usage,
    :usd,
    :model,
    :node,
    :kind,
    :message,
    :thread_id,
    :from,
    ms: 0,
    waits: [],
    attempts: 0
  ]

  @typedoc "`waits` are `{from, to}`, in the time of the job."
  @type t :: %__MODULE__{}

  @doc "Makes the row of a result."
  @spec new(Result.t()) :: t()
  def new(result) do
    from = result.started_at && DateTime.to_unix(result.started_at, :millisecond)
    ms = result.duration_ms || 0

    %__MODULE__{
      index: result.index,
      key: result |> Result.key_text() |> short(@longest_key),
      status: result.status,
      usage: result.usage || %{},
      usd: result.usd,
      model: result.model && short(result.model, @longest_key),
      node: result.node && result.node |> Atom.to_string() |> short(@longest_key),
      kind: result.error && result.error.kind,
      message: result.error && short(result.error.message, @longest_message),
      thread_id: result.thread_id && short(result.thread_id, @longest_key),
      from: from,
      ms: ms,
      waits: if(from, do: waits(result.waits, from, from + ms), else: []),
      attempts: result.attempts
    }
  end

  defp waits(waits, from, to) do
    for {began, ms} <- waits,
        began = DateTime.to_unix(began, :millisecond),
        first = min(max(began, from), to),
        last = min(max(began + ms, first), to),
        first < last,
        do: {first, last}
  end

  @doc "Returns the time in which the job waited for limits, in ms."
  @spec waited(t()) :: non_neg_integer()
  def waited(row), do: row.waits |> Enum.map(fn {from, to} -> to - from end) |> Enum.sum()

  @doc "Returns the parts of the job's time: `{:ok | :bad | :wait, from, to}`, in order."
  @spec parts(t()) :: [{:ok | :bad | :wait, integer(), integer()}]
  def parts(%{from: nil}), do: []

  def parts(row) do
    class = if row.status == :ok, do: :ok, else: :bad

    {parts, at} =
      Enum.flat_map_reduce(row.waits, row.from, fn {from, to}, at ->
        {[{class, at, max(from, at)}, {:wait, max(from, at), to}], max(to, at)}
      end)

    for {_class, from, to} = part <- parts ++ [{class, at, row.from + row.ms}],
        from < to,
        do: part
  end

  # One line without control characters.
  defp short(text, most) do
    # A character has 4 bytes at most, and more than so many are not looked at.
    part = binary_part(text, 0, min(byte_size(text), most * 8))
    line = Text.line(part)

    if part == text and String.length(line) <= most,
      do: line,
      else: String.slice(line, 0, most) <> "…"
  end
end
