defmodule Codex.Sessions.Reader do
  @moduledoc false
  # The lines of rollouts as a lazy stream: a native thread reads the next piece when the one before
  # is used up.

  alias Codex.{Native, NativePool}
  alias Codex.Sessions.{Record, Scan, Store, Tokens}

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
    with [{_file, {:ok, summary}}] <- store |> Scan.stream([file]) |> Enum.to_list(),
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
  be read to its end. Options: `:images`, true for messages with the bytes of images; `:inherited`.
  """
  @spec stream(Store.t(), part(), keyword()) :: Enumerable.t()
  def stream(store, part, opts) do
    Stream.resource(
      fn -> open(store, part, opts) end,
      fn
        {:ok, reader} -> next(reader)
        {:error, reason} -> {[{:error, reason}], :halt}
        :halt -> {:halt, :halt}
      end,
      fn _state -> :ok end
    )
  end

  defp open(store, {file, stop, other} = part, opts) do
    path = Path.join(store.home, file.path)
    history = other or opts[:inherited] == true
    images = opts[:images] == true

    wanted = {history, stop, images}

    case NativePool.call(&Native.rollout_open(&1, &2, path, file.thread, wanted)) do
      {:error, :enoent} -> reopen(store, part, opts)
      opened -> opened
    end
  end

  defp reopen(store, {file, stop, other}, opts) do
    case Store.moved(store, file) do
      {:ok, %{path: path} = moved} when path != file.path ->
        open(store, {moved, stop, other}, opts)

      _gone ->
        {:error, :enoent}
    end
  end

  defp next(reader) do
    case NativePool.call(&Native.rollout_next(&1, &2, reader, @piece)) do
      {:more, lines} -> {lines, {:ok, reader}}
      {:done, lines, summary} -> {lines ++ [{:summary, summary}], :halt}
      {:error, reason} -> {[{:error, reason}], :halt}
    end
  end

  @doc "Returns whether a summary has usage."
  @spec recorded?(Scan.summary()) :: boolean()
  def recorded?(summary), do: Record.calls(summary) > 0
end
