# Measures whether a keyring that does not answer delays other processes. See README.md.

Code.require_file("support.exs", __DIR__)
Code.require_file("../test/support/keyring.ex", __DIR__)

defmodule Bench.Ticker do
  # Measures the delay of timers, one for each millisecond, in an ordinary process.

  def start do
    owner = self()
    spawn_link(fn -> tick(owner, System.monotonic_time(:millisecond) + 1, []) end)
  end

  @doc "Ends it. Returns microseconds, one for each timer, in the order in which they were due."
  def stop(ticker) do
    send(ticker, :stop)

    receive do
      {^ticker, late} -> late
    end
  end

  defp tick(owner, due, late) do
    timer = :erlang.start_timer(due, self(), :tick, abs: true)

    receive do
      {:timeout, ^timer, :tick} ->
        {late, next} = count(late, due, System.monotonic_time(:microsecond))
        tick(owner, next, late)

      :stop ->
        send(owner, {self(), Enum.reverse(late)})
    end
  end

  # Timers that expired during a pause count, too; otherwise one long pause is a single sample.
  defp count(late, due, now) when due * 1000 <= now,
    do: count([now - due * 1000 | late], due + 1, now)

  defp count(late, due, _now), do: {late, due}
end

defmodule Bench.Auth do
  alias Bench.Ticker
  alias Codex.{Auth, Keyring}

  @limit_us 5_000
  @timeout {:keyring, :timeout, "the keyring did not answer in time"}

  def run do
    settings = %{
      calls: Bench.setting("CALLS", 1_000),
      timeout: Bench.setting("TIMEOUT", 5_000),
      seconds: Bench.setting("SECONDS", 5),
      repetitions: Bench.setting("REPETITIONS", 5)
    }

    Bench.machine(keyring: Bench.first_line("gnome-keyring-daemon", ["--version"]))

    IO.puts(
      "#{settings.calls} calls of Codex.Auth.preflight/1 at once, timeout #{settings.timeout} ms; " <>
        "a timer each millisecond; #{settings.repetitions} repetitions\n"
    )

    # The path of a socket is limited to about a hundred bytes.
    dir = Path.join(System.tmp_dir!(), "codex_bench-#{System.pid()}")
    File.mkdir!(dir)
    File.chmod!(dir, 0o700)

    try do
      settings |> Map.put(:dir, dir) |> measure() |> report(settings)
    after
      File.rm_rf!(dir)
    end
  end

  defp measure(%{dir: dir} = settings) do
    home!(dir)
    keyring = Keyring.start!(Path.join(dir, "k"))
    stopped = opts(settings, :keyring, Map.delete(Keyring.env(keyring), "HOME"))
    silent = opts(settings, :keyring, %{"DBUS_SESSION_BUS_ADDRESS" => silent!(dir)})
    file = opts(settings, :file, %{})

    # Loads modules, the schema and threads, and stores a login. A login in the keyring removes
    # the file.
    login = Auth.Credentials.api_key("sk-bench-0123456789")
    :ok = Auth.write(login, stopped)
    :ok = Auth.write(login, file)
    for opts <- [stopped, file], do: {:ok, %{ready?: true}} = Auth.preflight(opts)
    Keyring.freeze!(keyring)

    variants = [
      {"quiet", nil, fn -> Process.sleep(settings.seconds * 1000) && [] end},
      {"file, no keyring", nil, fn -> together(settings.calls, file) end},
      {"gnome-keyring-daemon, stopped", @timeout, fn -> together(settings.calls, stopped) end},
      {"a bus that never answers", @timeout, fn -> together(settings.calls, silent) end}
    ]

    rounds = for _ <- 1..settings.repetitions, variant <- variants, do: one(variant)

    # The daemon continues, and answers.
    Keyring.thaw!(keyring)
    {:ok, %{ready?: true}} = Auth.preflight(stopped)
    :ok = Keyring.stop!(keyring)
    for {name, _, _} <- variants, do: {name, for({^name, result} <- rounds, do: result)}
  end

  defp one({name, expected, fun}) do
    :erlang.garbage_collect()
    before = held()
    watch = spawn_link(fn -> watch(before) end)
    ticker = Ticker.start()
    answers = fun.()
    late = Ticker.stop(ticker)

    for {_, error} <- answers,
        error != expected,
        do: raise("#{name}: expected #{inspect(expected)}, got #{inspect(error)}")

    send(watch, {:stop, self()})

    most =
      receive do
        {^watch, most} -> most
      end

    times = for {time, _} <- answers, do: time
    {name, %{late: late, times: times, before: before, most: most, after: held()}}
  end

  # All calls begin at once, each in its own process.
  defp together(calls, opts) do
    owner = self()

    pids =
      for _ <- 1..calls do
        spawn_link(fn ->
          receive do
            :go -> send(owner, {self(), timed(opts)})
          end
        end)
      end

    Enum.each(pids, &send(&1, :go))

    for pid <- pids do
      receive do
        {^pid, answer} -> answer
      end
    end
  end

  defp timed(opts) do
    started = System.monotonic_time(:microsecond)
    {:ok, preflight} = Auth.preflight(opts)
    {System.monotonic_time(:microsecond) - started, preflight.error}
  end

  # --- Set-up ---

  defp home!(dir) do
    for name <- ["home", "work"], do: File.mkdir!(Path.join(dir, name))
    File.write!(Path.join(dir, "home/config.toml"), "model = \"gpt-5.5\"\n")
  end

  # A bus that accepts every connection and never answers. The accepting process keeps them open.
  defp silent!(dir) do
    path = Path.join(dir, "bus")
    options = [:binary, active: false, backlog: 128, ifaddr: {:local, path}]
    {:ok, socket} = :gen_tcp.listen(0, options)
    spawn_link(fn -> accept(socket) end)
    "unix:path=" <> path
  end

  defp accept(socket) do
    {:ok, _connection} = :gen_tcp.accept(socket)
    accept(socket)
  end

  defp opts(%{dir: dir, timeout: timeout}, store, env) do
    [
      store: store,
      env: Map.put(env, "HOME", dir),
      codex_home: Path.join(dir, "home"),
      cwd: Path.join(dir, "work"),
      system_dir: dir,
      timeout: timeout
    ]
  end

  # --- Memory and threads of the VM ---

  defp watch(most) do
    receive do
      {:stop, owner} -> send(owner, {self(), most})
    after
      100 -> watch(Map.merge(most, held(), fn _key, a, b -> max(a, b) end))
    end
  end

  defp held do
    status = File.read!("/proc/self/status")
    %{threads: figure(status, "Threads"), kb: figure(status, "VmRSS")}
  end

  defp figure(status, name) do
    [_, figure] = Regex.run(~r/^#{name}:\s+(\d+)/m, status)
    String.to_integer(figure)
  end

  # --- Tables ---

  defp report(results, settings) do
    [{"quiet", quiet} | _] = results

    IO.puts("## How late timers are, microseconds\n")

    head = ["", "timers", "50 %", "90 %", "99 %", "99.9 %", "max", "99 % in the first second"]
    rows = for {name, rounds} <- results, do: [name | lateness(rounds)] ++ [above(rounds, quiet)]
    Bench.table(head ++ ["99 %, above quiet"], rows)

    IO.puts("## The calls, milliseconds; threads of the VM; its memory, MB\n")
    held = for unit <- ["threads", "MB"], at <- ["before", "most", "after"], do: "#{unit} #{at}"
    Bench.table(["", "first", "median", "last"] ++ held, Enum.map(results, &calls/1))

    over =
      for {name, rounds} <- results, Bench.median(delays(rounds, quiet)) > @limit_us, do: name

    IO.puts(
      if over == [],
        do: "Within #{@limit_us} us of quiet at 99 %, with #{settings.calls} calls pending.",
        else: "over #{@limit_us} us above quiet at 99 %: #{Enum.join(over, ", ")}"
    )
  end

  defp lateness(rounds) do
    late = all(rounds, :late)
    first = Enum.flat_map(rounds, &Enum.take(&1.late, 1000))
    shares = Enum.map([0.5, 0.9, 0.99, 0.999, 1.0], &round(Bench.quantile(late, &1)))
    [length(late)] ++ shares ++ [round(Bench.quantile(first, 0.99))]
  end

  defp above(quiet, quiet), do: ""

  defp above(rounds, quiet) do
    delays = delays(rounds, quiet)
    [median, low, high] = Enum.map([0.5, 0.25, 0.75], &round(Bench.quantile(delays, &1)))
    "#{median} (#{low}..#{high})"
  end

  # Compares neighbours: other load of the machine affected both.
  defp delays(rounds, quiet) do
    Enum.zip_with(rounds, quiet, &(Bench.quantile(&1.late, 0.99) - Bench.quantile(&2.late, 0.99)))
  end

  defp calls({name, rounds}) do
    times = rounds |> all(:times) |> Enum.map(&(&1 / 1000))

    taken =
      if times == [],
        do: ["", "", ""],
        else: Enum.map([0.0, 0.5, 1.0], &Bench.number(Bench.quantile(times, &1)))

    [name | taken] ++
      for(key <- [:threads, :kb], at <- [:before, :most, :after], do: held(rounds, at, key))
  end

  defp held(rounds, at, key) do
    figures = Enum.map(rounds, & &1[at][key])
    if key == :kb, do: div(Enum.max(figures), 1024), else: Enum.max(figures)
  end

  defp all(rounds, key), do: Enum.flat_map(rounds, & &1[key])
end

Bench.Auth.run()
