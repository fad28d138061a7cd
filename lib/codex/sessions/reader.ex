defmodule Codex.Sessions.Reader do
  @moduledoc false
  # The lines of rollouts as a lazy stream: a native thread reads the next piece when the one before
  # is used up.

  alias Codex.{Native, NativePool}
  alias Codex.Sessions.{Record, Store, Tokens}

  @piece 512 * 1024

  @typedoc """
  A part of a history: a file; the position at which its part ends, or 0; whether it belongs to
  another thread.
  """
  @type part :: {Store.file(), non_neg_integer(), boolean()}

  @typedoc """
  A line: the index of its turn in the file, its time, the tokens of the turn so far, and an event
  of the native part or a payload.
  """
  @type line ::
          {non_neg_integer() | :none, non_neg_integer(), String.t(), non_neg_integer() | nil,
           Tokens.t() | nil, {:event, tuple()} | {:line, String.t(), String.t(), map()}}

  @doc """
  Returns the parts of a thread's history, the oldest first, and the ids of rollouts that are
  missing. With `inherited: true` the history before its first file comes first.
  """
  @spec parts(Store.t(), String.t(), keyword()) :: {[part()], [String.t()]}
  def parts(store, id, opts) do
    own = for file <- Map.fetch!(store.threads, id), do: {file, 0, false}
    if opts[:inherited], do: before(store, hd(own), own, []), else: {own, []}
  end

  defp before(store, {file, _end, _other}, parts, missing) do
    [record] = store |> Record.stream([file.thread]) |> Enum.to_list()

    with {_file, {:ok, summary}} <- List.keyfind(record.results, file, 0),
         {base, _ordinal, position} <- summary.meta.history_base do
      case store.rollouts do
        %{^base => older} -> with_older(store, {older, position, true}, parts, missing)
        _not_there -> {parts, [base | missing]}
      end
    else
      _no_base_or_unreadable -> {parts, missing}
    end
  end

  # A history that leads in a circle ends there.
  defp with_older(store, {older, _, _} = part, parts, missing) do
    if Enum.any?(parts, fn {file, _, _} -> file.rollout == older.rollout end),
      do: {parts, missing},
      else: before(store, part, [part | parts], missing)
  end

  @doc """
  Streams the lines of a part, then `{:summary, summary}`, or `{:error, reason}` if the file cannot
  be read to its end. Options: those of `open/3`. Halting the stream closes the file.
  """
  @spec stream(Store.t(), part(), keyword()) :: Enumerable.t()
  def stream(store, part, opts) do
    Stream.resource(
      fn -> open(store, part, opts) end,
      fn
        {:ok, reader, _file} = opened -> lines(next(reader), opened)
        {:error, reason} -> {[{:error, reason}], :halt}
        :halt -> {:halt, :halt}
      end,
      fn
        {:ok, reader, _file} -> close(reader)
        _closed -> :ok
      end
    )
  end

  defp lines({:more, lines}, opened), do: {lines, opened}
  defp lines({:done, lines, summary}, _opened), do: {lines ++ [{:summary, summary}], :halt}
  defp lines({:error, reason}, _opened), do: {[{:error, reason}], :halt}

  @doc """
  Opens the file of a part, if need be at the place to which it moved, and returns that place, too.

  Options: `:images`, true for messages with the bytes of images; `:inherited`; `:grows`, whether
  the end of the file is its end for now. The file is open until `close/1`, the death of the
  process, or its end.
  """
  @spec open(Store.t(), part(), keyword()) ::
          {:ok, reference(), Store.file()} | {:error, Record.reason()}
  def open(store, {file, stop, other} = part, opts) do
    path = Path.join(store.home, file.path)
    history = other or opts[:inherited] == true
    wanted = {history, stop, opts[:images] == true, opts[:grows] == true}

    case NativePool.call(&Native.rollout_open(&1, &2, path, file.thread, wanted)) do
      {:ok, reader} -> {:ok, reader, file}
      {:error, :enoent} -> open_moved(store, part, opts)
      {:error, reason} -> {:error, reason}
    end
  end

  defp open_moved(store, {file, stop, other}, opts) do
    case Store.moved(store, file) do
      [%{path: path} = moved | _others] when path != file.path ->
        open(store, {moved, stop, other}, opts)

      _gone ->
        {:error, :enoent}
    end
  end

  @doc """
  Reads the next lines. A file that grows has no end: `{:wait, lines}`, or `{:moved, lines}` if it
  is not at its path any more.
  """
  @spec next(reference()) ::
          {:more | :wait | :moved, [line()]}
          | {:done, [line()], Record.summary()}
          | {:error, Record.reason() | :replaced}
  def next(reader), do: NativePool.call(&Native.rollout_next(&1, &2, reader, @piece))

  @doc """
  Goes on after the last whole line at another place. An error leaves the reader as it is; it is
  `:replaced` if the file there has other content.
  """
  @spec reopen(reference(), Path.t()) :: :ok | {:error, Record.reason() | :replaced}
  def reopen(reader, path), do: NativePool.call(&Native.rollout_reopen(&1, &2, reader, path))

  @doc "Ends the growth of a file: `next/1` reads it to its end."
  @spec finish(reference()) :: :ok
  def finish(reader), do: Native.rollout_end(reader)

  @doc "Closes a file."
  @spec close(reference()) :: :ok
  def close(reader), do: Native.rollout_close(reader)

  @doc "Returns whether a summary has usage."
  @spec recorded?(Record.summary()) :: boolean()
  def recorded?(summary), do: Record.calls(summary) > 0
end
