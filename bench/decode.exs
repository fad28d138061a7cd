# Measures how fast events are decoded. See README.md.

for file <- ~w(support corpora lean), do: Code.require_file("#{file}.exs", __DIR__)

defmodule Bench.Decode do
  alias Bench.{Corpora, Lean}
  alias Codex.{JSONL, Native}

  # `Codex.JSONL` decodes in the process of the caller. The heap of a process that decodes much:
  @heap [min_heap_size: 65_536]

  def run do
    mb = Bench.setting("MB", 20)
    repetitions = Bench.setting("REPETITIONS", 9)
    jiffy = jiffy()

    Bench.machine(
      jiffy: jiffy && Application.spec(:jiffy, :vsn),
      json: json?() && "Elixir's JSON"
    )

    IO.puts("#{mb} MB a corpus, #{repetitions} repetitions\n")

    names = Corpora.names() |> only()
    for name <- names, do: corpus(name, mb, repetitions)
  end

  defp only(names) do
    case System.get_env("ONLY") do
      nil -> names
      text -> Enum.filter(names, &(Atom.to_string(&1) in String.split(text, ",")))
    end
  end

  defp jiffy do
    with false <- Code.ensure_loaded?(:jiffy),
         [ebin | _] <- Path.wildcard("/usr/lib/erlang/lib/jiffy-*/ebin") do
      Code.append_path(ebin)
      _ = Application.load(:jiffy)
      Code.ensure_loaded?(:jiffy)
    end

    Code.ensure_loaded?(:jiffy)
  end

  defp json?, do: Code.ensure_loaded?(JSON)

  defp corpus(name, mb, repetitions) do
    chunks = Corpora.chunks(name, mb)
    bytes = chunks |> Enum.map(&byte_size/1) |> Enum.sum()

    decoders =
      [
        {"SDK", &sdk/1, @heap},
        {"SDK, default heap", &sdk/1, []},
        if(jiffy(), do: {"jiffy + structs", lines_by(&jiffy_event/1), []}),
        if(jiffy(), do: {"jiffy + structs, same heap", lines_by(&jiffy_event/1), @heap}),
        if(json?(), do: {"JSON + structs", lines_by(&json_event/1), []})
      ]
      |> Enum.filter(& &1)

    same!(name, chunks, decoders)

    variants =
      for {label, decoder, heap} <- decoders do
        {label, fn -> timed(chunks, decoder, heap) end}
      end

    null = {"parse only", fn -> null(chunks) end}
    measured = Bench.interleave([null | variants], repetitions)

    events = chunks |> Enum.map(&length(:binary.matches(&1, "\n"))) |> Enum.sum()

    IO.puts("## #{name}: #{events} events of #{div(bytes, events)} bytes\n")

    rows =
      for {label, _} <- [null | variants] do
        seconds = Bench.median(measured[label])

        against = &Bench.share(measured, &1, label)

        [
          label,
          Bench.number(bytes / seconds / 1.0e6),
          Bench.number(events / seconds / 1.0e3),
          against.("jiffy + structs"),
          against.("jiffy + structs, same heap")
        ] ++
          if(json?(), do: [against.("JSON + structs")], else: []) ++
          [against.("parse only")]
      end

    head =
      ["", "MB/s", "1000 events/s", "x jiffy", "x jiffy, same heap"] ++
        if(json?(), do: ["x JSON"], else: []) ++ ["share of parse only"]

    Bench.table(head, rows)
  end

  defp timed(chunks, decoder, heap) do
    {seconds, _} = Bench.fresh(fn -> decoder.(chunks) end, heap)
    seconds
  end

  # The same parser without results.
  defp null(chunks) do
    %JSONL{ref: ref} = JSONL.new()
    {_lines, nanoseconds} = Native.decoder_feed_null(ref, chunks)
    nanoseconds / 1.0e9
  end

  # Reads the events and drops them.
  defp sdk(chunks) do
    decoder = JSONL.new()
    Enum.reduce(chunks, 0, fn chunk, n -> n + length(JSONL.feed(decoder, chunk)) end)
  end

  defp lines_by(decode_line) do
    fn chunks ->
      Enum.reduce(chunks, 0, fn chunk, n -> n + length(events_of(chunk, decode_line)) end)
    end
  end

  defp events_of(chunk, decode_line),
    do: for(line <- :binary.split(chunk, "\n", [:global]), line != "", do: decode_line.(line))

  defp jiffy_event(line), do: line |> :jiffy.decode([:return_maps, :use_nil]) |> Lean.event()

  if Code.ensure_loaded?(JSON) do
    defp json_event(line), do: line |> JSON.decode!() |> Lean.event()
  else
    defp json_event(line), do: raise("no JSON for #{line}")
  end

  # Results must be equal; otherwise the comparison is meaningless.
  defp same!(name, chunks, decoders) do
    for chunk <- Enum.take(chunks, 20),
        ours = JSONL.decode(chunk),
        {label, _, _} <- decoders,
        not String.starts_with?(label, "SDK") do
      event = if label =~ "jiffy", do: &jiffy_event/1, else: &json_event/1
      theirs = chunk |> String.split("\n", trim: true) |> Enum.map(event)
      if ours != theirs, do: raise("#{name}: #{label} decodes to something else")
    end
  end
end

Bench.Decode.run()
