defmodule Codex.Sessions.Scan do
  @moduledoc false
  # Sums up rollouts on native threads, lazily: a few batches of files are under way while the
  # results of the first one are used. Halting the stream gives them up, and the death of the
  # process that runs it ends them, too.

  alias Codex.{Native, NativePool}
  alias Codex.Sessions.Store

  # A batch is so large that messages cost little, and so small that halting soon takes effect.
  @batch_bytes 4 * 1024 * 1024
  @batch_files 32

  @typedoc """
  The sum of a file: a map as `rollout_scan` of `codex_nif` makes it. Turns and cells of tokens name
  models and directories by their index.
  """
  @type summary :: map()
  @type reason :: :damaged | :stopped | Codex.Reason.file()
  @type result :: {Store.file(), {:ok, summary()} | {:error, reason()}}

  @doc """
  Streams the results of files in their order. With `turns: true`, summaries have turns with texts.

  A file that moved meanwhile is read at its new place, which its result names.
  """
  @spec stream(Store.t(), Enumerable.t(), keyword()) :: Enumerable.t()
  def stream(store, files, opts \\ []) do
    turns = opts[:turns] == true
    batches = batches(files)

    Stream.resource(
      fn -> {batches, :queue.new()} end,
      fn {batches, queue} ->
        {batches, queue} = fill(batches, queue, store, turns)

        case :queue.out(queue) do
          {{:value, {files, call}}, queue} ->
            {results(store, files, NativePool.await(call), turns), {batches, queue}}

          {:empty, _queue} ->
            {:halt, {batches, queue}}
        end
      end,
      fn {_batches, queue} ->
        Enum.each(:queue.to_list(queue), fn {_files, call} -> NativePool.give_up(call) end)
      end
    )
  end

  defp batches(files) do
    Enum.chunk_while(
      files,
      {[], 0},
      fn file, {batch, bytes} ->
        bytes = bytes + file.size

        if bytes >= @batch_bytes or length(batch) + 1 >= @batch_files,
          do: {:cont, Enum.reverse([file | batch]), {[], 0}},
          else: {:cont, {[file | batch], bytes}}
      end,
      fn
        {[], 0} -> {:cont, {[], 0}}
        {batch, _bytes} -> {:cont, Enum.reverse(batch), {[], 0}}
      end
    )
  end

  defp fill([batch | batches] = all, queue, store, turns) do
    if :queue.len(queue) < System.schedulers_online() do
      {:ok, call} = start(store, batch, turns)
      fill(batches, :queue.in({batch, call}, queue), store, turns)
    else
      {all, queue}
    end
  end

  defp fill([], queue, _store, _turns), do: {[], queue}

  defp start(store, files, turns) do
    named = for file <- files, do: {Path.join(store.home, file.path), file.thread}
    NativePool.start(&Native.rollout_scan(&1, &2, named, turns))
  end

  defp results(store, files, results, turns) when is_list(results) do
    for {file, result} <- Enum.zip(files, results), do: result(store, file, result, turns)
  end

  defp results(_store, files, {:error, _reason} = error, _turns),
    do: Enum.map(files, &{&1, error})

  defp result(store, file, {:error, :enoent}, turns) do
    with {:ok, file} <- Store.moved(store, file),
         {:ok, call} <- start(store, [file], turns),
         [result] <- NativePool.await(call) do
      {file, result}
    else
      _gone -> {file, {:error, :enoent}}
    end
  end

  defp result(_store, file, result, _turns), do: {file, result}
end
