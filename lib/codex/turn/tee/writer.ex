defmodule Codex.Turn.Tee.Writer do
  @moduledoc false
  # The process that writes the output of a run: `raw.jsonl`, `stderr.log` and `events.jsonl` in a
  # folder of the run. It ends with the run, or with the process that reads it, and writes what it
  # has received until then. After an error of the file system it only counts.

  alias Codex.{Events, FileSystem, JSON, Redaction, Telemetry, Text}
  alias Codex.Turn.Tee.{Log, Mask}

  @files %{raw: "raw.jsonl", stderr: "stderr.log", events: "events.jsonl"}

  # A longer line is dropped, because a secret could be cut by a part of it.
  @longest 8 * 1024 * 1024

  @doc "Runs the process. The argument is made by `Codex.Turn.Tee.open/1`."
  @spec run(map()) :: :ok
  def run(start) do
    state =
      Map.merge(start, %{
        owner: Process.monitor(start.owner),
        began: System.monotonic_time(),
        secrets: [],
        mask: nil,
        hold: %{raw: nil, events: nil},
        logs: logs(start),
        # Bytes of a line that has not ended, and how much had been dropped before.
        open: %{raw: {[], 0, false}, stderr: {[], 0, false}},
        seen: %{raw: 0, stderr: 0, events: 0},
        bytes: 0,
        lost: 0,
        error: nil
      })

    state |> masking([]) |> make_folder() |> note("run", facts(start.run)) |> loop()
  end

  defp logs(%{path: path, limits: limits}) do
    Map.new(@files, fn {stream, name} ->
      log = %Log{
        path: Path.join(path, name),
        max_bytes: limits.max_bytes,
        max_files: limits.max_files
      }

      {stream, log}
    end)
  end

  defp facts(run) do
    version = to_string(Application.spec(:codex_sdk, :vsn))
    Map.merge(run, %{"codex_sdk" => version, "at" => DateTime.to_iso8601(DateTime.utc_now())})
  end

  defp make_folder(state) do
    case FileSystem.make_private(state.path) do
      :ok -> state
      {:error, reason} -> failed(state, reason)
    end
  end

  defp loop(%{owner: owner} = state) do
    receive do
      {:tee, :secrets, secrets} ->
        state |> masking(secrets) |> loop()

      {:tee, stream, data, size, dropped} ->
        state = state |> gap(stream, dropped) |> take(stream, data)
        state.taken.(size)
        loop(state)

      {:finish, from, ref} ->
        send(from, {ref, finish(state, "done")})
        :ok

      {:DOWN, ^owner, :process, _pid, _reason} ->
        _ = finish(state, "the reader has ended")
        :ok
    end
  end

  defp masking(%{secrets: known} = state, secrets) do
    case Enum.uniq(known ++ secrets) do
      ^known when state.mask != nil -> state
      all -> %{state | secrets: all, mask: Mask.new(all, state.patterns)}
    end
  end

  ## Output

  # What was dropped since the last output of this stream, at the place where it is missing. A line
  # that has lost a part is dropped as a whole.
  defp gap(state, stream, dropped) do
    case dropped - state.seen[stream] do
      0 ->
        state

      bytes ->
        state = put_in(state.seen[stream], dropped)
        {state, cut} = cut(state, stream)
        mark(%{state | lost: state.lost + cut}, stream, bytes + cut)
    end
  end

  defp cut(%{open: open} = state, stream) when is_map_key(open, stream) do
    {_line, size, _skip?} = open[stream]
    {put_in(state.open[stream], {[], 0, true}), size}
  end

  defp cut(state, _stream), do: {state, 0}

  defp mark(state, :stderr, bytes),
    do: write(state, :stderr, ["[codex_sdk: #{bytes} bytes were dropped]\n"])

  defp mark(state, stream, bytes),
    do: write(state, stream, [[json(%{"type" => "codex_sdk.dropped", "bytes" => bytes}), ?\n]])

  defp take(state, stream, bytes) when is_binary(bytes), do: split(state, stream, bytes)

  defp take(state, stream, terms) do
    hold = state.hold[stream] || state.mask.redaction
    {terms, hold} = Redaction.hold(terms, %{hold | patterns: state.mask.redaction.patterns})
    state = put_in(state.hold[stream], hold)
    write(state, stream, for(term <- terms, do: [masked(encode(term), state), ?\n]))
  end

  defp split(state, stream, bytes) do
    {line, size, skip?} = state.open[stream]

    case :binary.split(bytes, "\n", [:global]) do
      [part] ->
        partly(state, stream, {[line, part], size + byte_size(part), skip?})

      [part | more] ->
        {last, lines} = List.pop_at(more, -1)
        {first, lost} = if skip?, do: {[], byte_size(part) + 1}, else: {[[line, part]], 0}
        state = %{state | lost: state.lost + lost}
        lines = for line <- first ++ lines, do: [masked(IO.iodata_to_binary(line), state), ?\n]
        # A copy does not keep the chunk.
        rest = {:binary.copy(last), byte_size(last), false}
        state |> write(stream, lines) |> partly(stream, rest)
    end
  end

  defp partly(state, stream, {_line, size, true}), do: skip(state, stream, size)

  defp partly(state, stream, {_line, size, false}) when size > @longest,
    do: state |> mark(stream, size) |> skip(stream, size)

  defp partly(state, stream, line), do: put_in(state.open[stream], line)

  defp skip(state, stream, size),
    do: put_in(%{state | lost: state.lost + size}.open[stream], {[], 0, true})

  defp masked(line, state), do: Mask.line(line, state.mask)

  defp encode({:notification, method, params}),
    do: json(%{"method" => method, "params" => params})

  defp encode(%Events.Unknown{raw: raw}) when is_binary(raw),
    do: json(%{"type" => "codex_sdk.unknown", "text" => Text.utf8(raw)})

  defp encode(%_{} = event), do: event |> Events.to_map() |> json()
  defp encode(%{} = map), do: json(map)

  defp json(map) do
    case JSON.encode(map) do
      {:ok, line} -> line
      {:error, _} -> JSON.encode!(%{"type" => "codex_sdk.unencodable"})
    end
  end

  defp note(state, name, facts),
    do: take(state, :events, [Map.put(facts, "type", "codex_sdk." <> name)])

  ## Files

  defp write(state, _stream, []), do: state

  defp write(%{error: nil} = state, stream, data) do
    case Log.write(state.logs[stream], data) do
      {:ok, log} ->
        put_in(%{state | bytes: state.bytes + IO.iodata_length(data)}.logs[stream], log)

      {:error, reason} ->
        state |> failed(reason) |> write(stream, data)
    end
  end

  defp write(state, _stream, data), do: %{state | lost: state.lost + IO.iodata_length(data)}

  defp failed(state, reason), do: %{state | error: FileSystem.message(reason)}

  ## The end

  defp finish(state, reason) do
    state = Enum.reduce([:raw, :stderr, :events], state, &rest/2)
    facts = %{"reason" => reason, "dropped_bytes" => dropped(state)}
    state = note(state, "end", facts)
    for {_stream, log} <- state.logs, do: :ok = Log.close(log)
    :ok = emit(state, dropped(state))
    %{bytes: state.bytes, dropped_bytes: dropped(state), error: state.error}
  end

  # The last gap, texts that were held back, and a line without its end.
  defp rest(stream, state) do
    state = gap(state, stream, state.dropped.(stream))

    case state do
      %{open: %{^stream => {line, size, false}}} when size > 0 ->
        write(state, stream, [[masked(IO.iodata_to_binary(line), state), ?\n]])

      %{hold: %{^stream => %{} = hold}} ->
        {terms, _hold} = Redaction.release(hold)
        write(state, stream, for(term <- terms, do: [masked(encode(term), state), ?\n]))

      _nothing ->
        state
    end
  end

  defp dropped(state), do: state.lost + Enum.sum(Map.values(state.seen))

  defp emit(%{telemetry: nil}, _dropped), do: :ok

  defp emit(state, dropped) do
    measurements = %{bytes: state.bytes, dropped_bytes: dropped}
    spent = Map.put(Telemetry.spent(state.began), :system_time, System.system_time())
    metadata = %{originator: :sdk, path: state.path, error: state.error}
    Telemetry.execute(state.telemetry ++ [:tee, :stop], Map.merge(spent, measurements), metadata)
  end
end
