# Measures the way from the stdout of a child to typed events in the reader. See README.md.

for file <- ~w(support corpora node), do: Code.require_file("#{file}.exs", __DIR__)

defmodule Bench.Pipe do
  alias Bench.Corpora
  alias Codex.{Exec, JSONL}

  @child Path.expand("children/prints.sh", __DIR__)

  def run do
    mb = Bench.setting("MB", 50)
    repetitions = Bench.setting("REPETITIONS", 7)
    node = Bench.Node.start()
    Bench.machine(Bench.Node.versions(node))
    IO.puts("#{mb} MB a stream, #{repetitions} repetitions\n")

    for name <- [:small, :mixed, :large], only?(name), do: stream(name, mb, repetitions, node)
    if only?(:memory), do: memory(node)
  end

  defp only?(name) do
    only = System.get_env("ONLY")
    only == nil or Atom.to_string(name) in String.split(only, ",")
  end

  defp env(path, times), do: %{"BENCH_STREAM" => path, "BENCH_TIMES" => "#{times}"}

  ## Speed

  defp stream(name, mb, repetitions, node) do
    path = Corpora.path(name, mb)
    env = env(path, 1)
    bytes = File.stat!(path).size
    events = count_lines(path) + 2

    heap = [min_heap_size: 65_536]

    variants =
      [
        {"SDK", fn -> timed(fn -> read(env) end, events) end},
        {"SDK, 64k words of heap", fn -> timed(fn -> read(env) end, events, heap) end},
        {"bare port, bytes only", fn -> timed(fn -> bare(env) end) end},
        {"bare port and decoder", fn -> timed(fn -> bare_decoded(env) end, events) end},
        if(node, do: {"TypeScript SDK", fn -> typescript(node, env, events) end})
      ]
      |> Enum.filter(& &1)

    measured = Bench.interleave(variants, repetitions)

    IO.puts("## #{name}: #{events} events of #{div(bytes, events)} bytes\n")

    rows =
      for {label, _} <- variants do
        seconds = Bench.median(measured[label])

        [label, Bench.number(bytes / seconds / 1.0e6), Bench.number(events / seconds / 1.0e3)] ++
          for other <- ["TypeScript SDK", "bare port, bytes only"],
              do: Bench.share(measured, other, label)
      end

    Bench.table(["", "MB/s", "1000 events/s", "x TypeScript", "share of the bare port"], rows)
  end

  defp count_lines(path),
    do:
      path
      |> File.stream!([], 65_536)
      |> Enum.reduce(0, &(&2 + length(:binary.matches(&1, "\n"))))

  defp timed(fun, events \\ nil, heap \\ []) do
    {seconds, count} = Bench.fresh(fun, heap)
    if events && count != events, do: raise("#{count} events instead of #{events}")
    seconds
  end

  # Reads typed events.
  defp read(env) do
    {:ok, stream} = Exec.run_stream("go", codex_opts: options(env))
    Enum.reduce(stream, 0, fn %_{}, n -> n + 1 end)
  end

  defp options(env) do
    {:ok, options} = Codex.Options.new(codex_path: @child, env: env)
    options
  end

  defp bare(env), do: env |> open() |> bytes(0)

  defp bytes(port, n) do
    receive do
      {^port, {:data, data}} -> bytes(port, n + byte_size(data))
      {^port, {:exit_status, 0}} -> n
    end
  end

  defp bare_decoded(env), do: env |> open() |> events(JSONL.new(), 0)

  defp events(port, decoder, n) do
    receive do
      {^port, {:data, data}} -> events(port, decoder, n + length(JSONL.feed(decoder, data)))
      {^port, {:exit_status, 0}} -> n + length(JSONL.finish(decoder))
    end
  end

  # A port cannot close only the stdin of the child.
  defp open(env) do
    env = for {key, value} <- env, do: {to_charlist(key), to_charlist(value)}
    args = ["-c", "exec \"$0\" </dev/null", @child]
    Port.open({:spawn_executable, "/bin/sh"}, [:binary, :exit_status, args: args, env: env])
  end

  defp typescript(node, env, events) do
    %{"seconds" => seconds, "count" => count} =
      Bench.Node.call(node, %{do: "stream", child: @child, env: env})

    if count != events, do: raise("#{count} events in TypeScript instead of #{events}")
    seconds
  end

  ## Memory

  # The child offers a gigabyte; the reader takes one event and sleeps.
  defp memory(node) do
    seconds = Bench.setting("SLEEP", 3)
    path = Corpora.path(:mixed, 50)
    env = env(path, 20)

    read_one = fn sleep ->
      {:ok, stream} = Exec.run_stream("go", codex_opts: options(env))
      Enum.reduce_while(stream, nil, fn _, _ -> {:halt, sleep.()} end)
    end

    ours = for _ <- 1..3, do: most(seconds, read_one)

    # A fifth of it, because a port has no limit.
    bare =
      most(seconds, fn sleep ->
        port = open(env(path, 4))
        sleep.()
        # Everything may be in the mailbox already, and the port closed.
        if Port.info(port), do: Port.close(port)
      end)

    theirs =
      if node do
        Bench.Node.call(node, %{do: "sleeper", child: @child, env: env, seconds: seconds})
      end

    IO.puts("## memory while a reader sleeps #{seconds} s: the greatest growth, MB\n")
    show = fn bytes -> Bench.number(bytes / 1.0e6) end

    Bench.table(["", "offered", "VM", "resident"], [
      [
        "SDK",
        "1000",
        show.(Bench.median(for {vm, _} <- ours, do: vm)),
        show.(Bench.median(for {_, rss} <- ours, do: rss))
      ],
      ["bare port", "200", show.(elem(bare, 0)), show.(elem(bare, 1))],
      ["TypeScript SDK", "1000", "-", if(theirs, do: show.(theirs["rss"]), else: "-")]
    ])
  end

  defp most(seconds, fun) do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    before = held()

    {_, most} =
      Bench.fresh(fn ->
        me = self()
        fun.(fn -> send(me, samples(seconds)) end)

        receive do
          samples when is_list(samples) -> samples
        end
      end)

    {vm, rss} = Enum.unzip(most)
    {max(Enum.max(vm) - elem(before, 0), 0), max(Enum.max(rss) - elem(before, 1), 0)}
  end

  defp samples(seconds), do: for(_ <- 1..(seconds * 10), do: Process.sleep(100) && held())

  defp held, do: {:erlang.memory(:total), rss()}

  defp rss do
    with {:ok, status} <- File.read("/proc/self/status"),
         [_, kb] <- Regex.run(~r/VmRSS:\s+(\d+)/, status),
         do: String.to_integer(kb) * 1024,
         else: (_ -> 0)
  end
end

Bench.Pipe.run()
