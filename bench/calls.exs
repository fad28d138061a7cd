# Measures whether a call blocks a scheduler for a millisecond, for any input. See README.md.

for file <- ~w(support corpora), do: Code.require_file("#{file}.exs", __DIR__)

defmodule Bench.Calls do
  alias Bench.Corpora
  alias Codex.{JSONL, Native}

  @size 65_536
  @limit_us 1000

  def run do
    calls = Bench.setting("CALLS", 300)
    Bench.machine()
    IO.puts("#{calls} calls an input; microseconds in one call of the NIF on a normal scheduler")

    IO.puts(
      "`min` is what the call itself takes; `max` has whatever else the machine did meanwhile\n"
    )

    rows = for {name, input} <- inputs(), only?(name), do: row(name, input, calls)

    Bench.table(~w(input bytes calls then min median p99 max), rows)
    slow = for [name, _, _, _, min | _] <- rows, String.to_float(min) > @limit_us, do: name
    if slow != [], do: IO.puts("over #{@limit_us} us: #{Enum.join(slow, ", ")}")
  end

  defp only?(name) do
    only = System.get_env("ONLY")
    only == nil or String.contains?(name, only)
  end

  # Makes a row for the slowest call of an input. An input may take several calls; calls on a dirty
  # scheduler block no other work and are not counted.
  defp row(name, input, calls) do
    samples = for _ <- 1..calls, do: sample(input)
    {count, long?, _} = hd(samples)

    slowest =
      for i <- 0..(count - 1) do
        for {_, _, times} <- samples, do: Enum.at(times, i)
      end
      |> Enum.max_by(&Enum.min/1)

    figures = [
      Enum.min(slowest),
      Bench.median(slowest),
      Bench.quantile(slowest, 0.99),
      Enum.max(slowest)
    ]

    [name, byte_size(input), count, if(long?, do: "dirty", else: "")] ++
      Enum.map(figures, &:erlang.float_to_binary(&1 / 1000, decimals: 1))
  end

  # Each input has its own process and decoder, so that garbage of the last one is not collected.
  defp sample(input) do
    {_, result} =
      Bench.fresh(fn ->
        %JSONL{ref: ref} = JSONL.new()
        feed(ref, input, 0, [])
      end)

    result
  end

  defp feed(ref, input, at, times) do
    started = System.monotonic_time(:nanosecond)
    {_lines, progress} = Native.decoder_feed(ref, input, at)
    times = [System.monotonic_time(:nanosecond) - started | times]

    case progress do
      :done -> {length(times), false, Enum.reverse(times)}
      {:more, at} -> feed(ref, input, at, times)
      {:long, at} -> long(ref, input, at, times)
    end
  end

  defp long(ref, input, at, times) do
    case Native.decoder_feed_long(ref, input, at) do
      {_lines, :done} ->
        {length(times), true, Enum.reverse(times)}

      {_lines, {_, at}} ->
        {n, _, times} = feed(ref, input, at, times)
        {n, true, times}
    end
  end

  defp inputs do
    corpora =
      for name <- Corpora.names() do
        chunks = Corpora.chunks(name, 1)

        # `large` has lines of 208 KB, which is below the limit for normal schedulers.
        {"#{name}", hd(chunks)}
      end

    corpora ++
      for size <- [@size, 4 * @size - 8], {name, make} <- hostile() do
        {"#{name}, #{div(size + 8, 1024)} KiB", make.(size)}
      end
  end

  # Worst cases of `size` bytes each.
  defp hostile do
    [
      {"objects of one", &list(&1, fn _ -> ~s({"a":1}) end)},
      {"empty objects", &list(&1, fn _ -> "{}" end)},
      {"empty lists", &list(&1, fn _ -> "[]" end)},
      {"empty strings", &list(&1, fn _ -> ~s("") end)},
      {"small integers", &list(&1, fn _ -> "1" end)},
      {"nulls", &list(&1, fn _ -> "null" end)},
      {"open brackets", fn size -> String.duplicate("[", size) <> "\n" end},
      {"deep lists",
       &list(&1, fn _ -> String.duplicate("[", 200) <> String.duplicate("]", 200) end)},
      {"open brackets in lines", &lines(&1, fn _ -> String.duplicate("[", 300) end)},
      {"distinct keys", &object(&1, fn i -> "a#{i}" end)},
      {"distinct keys, the first repeated at the end",
       &object(&1, fn i -> "a#{i}" end, "{", ~s(,"a0":1}\n))},
      {"one key repeated", &object(&1, fn _ -> "a" end)},
      {"two keys in turn", &object(&1, fn i -> "a#{rem(i, 2)}" end)},
      {"objects of 32 keys", &list(&1, fn _ -> small_object(Enum.shuffle(1..32)) end)},
      {"objects of 33 keys", &list(&1, fn _ -> small_object(1..33) end)},
      {"objects of 33 keys, one repeated",
       &list(&1, fn _ -> small_object([1 | Enum.to_list(1..32)]) end)},
      {"objects of 2, repeated", &list(&1, fn _ -> ~s({"":1,"":1}) end)},
      {"distinct keys in an event",
       &object(&1, fn i -> "a#{i}" end, ~s({"type":"turn.completed","usage":{), "}}\n")},
      {"foreign keys in an event", &object(&1, fn i -> "a#{i}" end, ~s({"type":"turn.started",))},
      {"records", fn size -> records(size) end},
      {"garbage lines", &lines(&1, fn i -> String.duplicate("garbage #{i} ", 25) end)},
      {"garbage lines of a byte", &lines(&1, fn _ -> "x" end)},
      {"numbers as lines", &lines(&1, fn _ -> "1" end)},
      {"strings as lines", &lines(&1, fn _ -> ~s("a") end)},
      {"empty objects as lines", &lines(&1, fn _ -> "{}" end)},
      {"shortest events", &lines(&1, fn _ -> ~s({"type":"turn.started"}) end)},
      {"blank lines", fn size -> String.duplicate("\n", size) end},
      {"blank lines with \\r", fn size -> String.duplicate("\r\n", div(size, 2)) end},
      {"spaces", fn size -> String.duplicate(" ", size - 1) <> "\n" end},
      {"integers of 1024 digits", &list(&1, fn i -> digits(1024, i) end)},
      {"integers of 25 digits", &list(&1, fn i -> digits(25, i) end)},
      {"integers of 20 digits", &list(&1, fn i -> digits(20, i) end)},
      {"integers of 19 digits", &list(&1, fn i -> digits(19, i) end)},
      {"floats of 700 digits", &list(&1, fn i -> "0." <> digits(700, i) end)},
      {"floats half way between two",
       &list(&1, fn _ -> "1.00000000000000011102230246251565404236316680908203125" end)},
      {"floats of 20 digits", &list(&1, fn i -> "0." <> digits(20, i) end)},
      {"floats of 2 digits", &list(&1, fn _ -> "0.1" end)},
      {"floats out of range", &lines(&1, fn _ -> "1e999" end)},
      {"\\uXXXX escapes",
       fn size -> ~s(") <> String.duplicate("\\u00e9", div(size - 3, 6)) <> ~s("\n) end},
      {"\\n escapes",
       fn size -> ~s(") <> String.duplicate("\\n", div(size - 3, 2)) <> ~s("\n) end},
      {"strings of one escape", &list(&1, fn _ -> ~s("\\n") end)},
      {"strings of a surrogate", &list(&1, fn _ -> ~s("\\ud800") end)},
      {"lone surrogates",
       fn size -> ~s(") <> String.duplicate("\\ud800", div(size - 3, 6)) <> ~s("\n) end},
      {"lone surrogates in lines", &lines(&1, fn _ -> ~s("\\ud800") end)},
      {"invalid UTF-8 in every line", &lines(&1, fn _ -> ~s({"a":"\xFF"}) end)},
      {"short invalid lines", &lines(&1, fn _ -> "\xFF" end)},
      {"invalid UTF-8 all over",
       fn size -> ~s(") <> String.duplicate("\xFF", size - 3) <> ~s("\n) end},
      {"strings of 100 bytes",
       &list(&1, fn _ -> ~s(") <> String.duplicate("x", 100) <> ~s(") end)}
    ]
  end

  defp list(size, item) do
    fill(size - 3, "[", fn i -> [item.(i), ","] end) |> close("]\n")
  end

  defp object(size, key, start \\ "{", tail \\ "}\n") do
    room = size - byte_size(tail) + 1
    fill(room, start, fn i -> [~s("), key.(i), ~s(":1,)] end) |> close(tail)
  end

  defp small_object(keys),
    do: "{" <> Enum.map_join(keys, ",", fn key -> ~s("#{key}":1) end) <> "}"

  defp records(size) do
    start =
      ~s({"type":"item.completed","item":{"id":"item_0","type":"file_change","status":"completed","changes":[)

    fill(size - 5, start, fn _ -> "{}," end) |> close("]}}\n")
  end

  defp lines(size, line), do: fill(size, "", fn i -> [line.(i), "\n"] end)

  defp close(body, tail), do: String.trim_trailing(body, ",") <> tail

  defp fill(size, start, piece) do
    Stream.iterate(0, &(&1 + 1))
    |> Enum.reduce_while({[start], byte_size(start)}, fn i, {acc, length} ->
      piece = IO.iodata_to_binary(piece.(i))

      if length + byte_size(piece) > size,
        do: {:halt, acc},
        else: {:cont, {[acc | piece], length + byte_size(piece)}}
    end)
    |> IO.iodata_to_binary()
  end

  defp digits(n, i),
    do:
      "1234567890"
      |> String.duplicate(div(n, 10) + 1)
      |> binary_part(0, n - 4)
      |> Kernel.<>("#{1000 + rem(i, 9000)}")
end

Bench.Calls.run()
