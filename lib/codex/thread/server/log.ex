defmodule Codex.Thread.Server.Log do
  @moduledoc false
  # The newest entries of a thread, by offset, limited in number and bytes. Pure.
  #
  # Offsets grow by one. The first offset of a log is a time in microseconds, so offsets of a server
  # that ended are lower than those of the next one.

  defstruct [:most, :most_bytes, :first, :next, entries: %{}, bytes: 0]

  @type offset :: non_neg_integer()
  @type t :: %__MODULE__{
          most: pos_integer(),
          most_bytes: pos_integer(),
          first: offset(),
          next: offset(),
          entries: %{offset() => {term(), bytes :: non_neg_integer()}},
          bytes: non_neg_integer()
        }

  # The size of a message for a follower. A longer entry is alone in its message.
  @most_read 64
  @most_read_bytes 65_536

  @doc "Returns an empty log, whose first entry gets the offset `first`."
  @spec new(pos_integer(), pos_integer(), offset()) :: t()
  def new(most, most_bytes, first),
    do: %__MODULE__{most: most, most_bytes: most_bytes, first: first, next: first}

  @doc "Adds an entry."
  @spec put(t(), term()) :: t()
  def put(log, entry) do
    bytes = :erlang.external_size(entry)
    entries = Map.put(log.entries, log.next, {entry, bytes})
    %{log | entries: entries, bytes: log.bytes + bytes, next: log.next + 1}
  end

  @doc "Drops the oldest entries beyond the limits. The newest one always stays."
  @spec trim(t()) :: t()
  def trim(%{first: first, next: next} = log)
      when next - first > 1 and (next - first > log.most or log.bytes > log.most_bytes) do
    {{_entry, bytes}, entries} = Map.pop!(log.entries, first)
    trim(%{log | entries: entries, bytes: log.bytes - bytes, first: first + 1})
  end

  def trim(log), do: log

  @doc """
  Returns entries from an offset on, as many as one message holds, and the offset after them.
  Dropped entries are `{:cut, first, last}`, at the offset of the last one.

      iex> alias Codex.Thread.Server.Log
      iex> log = Enum.reduce([:a, :b, :c], Log.new(2, 1_000, 7), &Log.put(&2, &1))
      iex> log |> Log.trim() |> Log.read(7)
      {[{7, {:cut, 7, 7}}, {8, :b}, {9, :c}], 10}
  """
  @spec read(t(), offset()) :: {[{offset(), term()}], offset()}
  def read(%{first: first} = log, from) when from < first do
    {entries, next} = read(log, first)
    {[{first - 1, {:cut, from, first - 1}} | entries], next}
  end

  def read(log, from) do
    last = min(from + @most_read, log.next) - 1
    take(log, Enum.to_list(from..last//1), 0, [])
  end

  defp take(log, [], _bytes, entries), do: {Enum.reverse(entries), next(entries, log)}

  defp take(log, [offset | offsets], bytes, entries) do
    {entry, size} = Map.fetch!(log.entries, offset)

    if entries != [] and bytes + size > @most_read_bytes,
      do: {Enum.reverse(entries), offset},
      else: take(log, offsets, bytes + size, [{offset, entry} | entries])
  end

  defp next([{offset, _entry} | _], _log), do: offset + 1
  defp next([], log), do: log.next

  @doc """
  Returns the entries from an offset on as one message: the newest ones, with those before as
  `{:cut, first, last}`.
  """
  @spec rest(t(), offset()) :: [{offset(), term()}]
  def rest(log, from) do
    offsets = Enum.to_list((log.next - 1)..max(from, log.first)//-1)

    {entries, first} =
      Enum.reduce_while(Enum.take(offsets, @most_read), {[], log.next, 0}, fn
        offset, {entries, first, bytes} ->
          {entry, size} = Map.fetch!(log.entries, offset)

          if entries != [] and bytes + size > @most_read_bytes,
            do: {:halt, {entries, first, bytes}},
            else: {:cont, {[{offset, entry} | entries], offset, bytes + size}}
      end)
      |> then(fn {entries, first, _bytes} -> {entries, first} end)

    if from < first, do: [{first - 1, {:cut, from, first - 1}} | entries], else: entries
  end
end
