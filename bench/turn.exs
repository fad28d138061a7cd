# Measures the time that a turn adds to the time of the child. See README.md.

for file <- ~w(support node), do: Code.require_file("#{file}.exs", __DIR__)

defmodule Bench.Turn do
  alias Codex.Thread

  @child Path.expand("children/message.sh", __DIR__)

  def run do
    repetitions = Bench.setting("REPETITIONS", 101)
    node = Bench.Node.start()
    cli = cli()
    version = cli && Bench.first_line(cli, ["--version"])
    Bench.machine([cli: version] ++ Bench.Node.versions(node))

    trivial(repetitions, node)

    if cli,
      do: real(max(div(repetitions, 5), 3), node),
      else: IO.puts("no CLI found: CODEX_PATH names one")
  end

  defp cli do
    case Codex.Test.codex_path() do
      {:ok, path} -> path
      {:error, _} -> nil
    end
  end

  # A child that only prints.
  defp trivial(repetitions, node) do
    {:ok, thread} = Codex.start_thread([codex_path: @child], skip_git_repo_check: true)
    argv = [@child, "exec", "--json", "--", "-"]

    measure("a child that only prints", repetitions, thread, argv, [], node, %{
      child: @child,
      env: %{}
    })
  end

  # The CLI with a scripted model on loopback, without a login.
  defp real(repetitions, node) do
    model = Codex.Test.start!([], default: "Hello world")
    options = Codex.Test.options(model)
    {:ok, thread} = Codex.start_thread(options, Codex.Test.thread_options(model))
    env = Map.put(model.env, "CODEX_HOME", model.home)
    argv = [options[:codex_path], "exec", "--json", "--skip-git-repo-check"]
    argv = argv ++ ["--cd", model.workspace, "--", "-"]

    measure("the CLI, model on loopback", repetitions, thread, argv, Map.to_list(env), node, %{
      child: options[:codex_path],
      env: env,
      options: %{workingDirectory: model.workspace}
    })

    Codex.Test.stop(model)
  end

  # All handling of failures is on, and no failure comes: measures the cost of being ready.
  @ready [
    retry: :resume,
    rate_limit: true,
    start_timeout_ms: 60_000,
    idle_timeout_ms: 60_000,
    total_timeout_ms: 60_000
  ]

  defp measure(title, repetitions, thread, argv, env, node, command) do
    variants =
      [
        {"bare", fn -> bare(argv, env) end},
        {"SDK", fn -> turn(thread) end},
        {"SDK, ready for failures", fn -> turn(thread, @ready) end},
        if(node, do: {"TypeScript SDK", fn -> typescript(node, command) end})
      ]
      |> Enum.filter(& &1)

    measured = Bench.interleave(variants, repetitions)

    IO.puts("## #{title}: #{repetitions} turns, milliseconds\n")

    rows =
      for {label, _} <- variants do
        over = Enum.zip_with(measured[label], measured["bare"], &(&1 - &2))

        [label | Enum.map([0.5, 0.25, 0.75, 0.99], &ms(Bench.quantile(measured[label], &1)))] ++
          [ms(Bench.median(over))]
      end

    Bench.table(["", "median", "25 %", "75 %", "99 %", "above bare, median"], rows)

    IO.puts(
      "retry, rate_limit and clocks on, against off: " <>
        Bench.show(Bench.ratio(measured, "SDK, ready for failures", "SDK")) <> " times\n"
    )
  end

  defp ms(seconds), do: :erlang.float_to_binary(seconds * 1000, decimals: 2)

  # The same child with the same input; its output is ignored. A port cannot close only stdin, so
  # the stand-in does not wait for the end of stdin, and the CLI gets a file.
  defp bare([@child | args], env), do: bare(@child, args, env, "go\n")

  defp bare(argv, env) do
    input = Path.join(System.tmp_dir!(), "codex_bench_#{System.pid()}")
    File.write!(input, "go\n")
    seconds = bare("/bin/sh", ["-c", "exec \"$@\" <\"$0\" 2>/dev/null", input | argv], env, "")
    File.rm!(input)
    seconds
  end

  defp bare(program, args, env, input) do
    env = for {key, value} <- env, do: {to_charlist(key), to_charlist(value)}

    {seconds, _} =
      Bench.fresh(fn ->
        port =
          Port.open({:spawn_executable, program}, [:binary, :exit_status, args: args, env: env])

        Port.command(port, input)
        wait(port, [])
      end)

    seconds
  end

  defp wait(port, acc) do
    receive do
      {^port, {:data, data}} -> wait(port, [acc | data])
      {^port, {:exit_status, 0}} -> true = IO.iodata_to_binary(acc) =~ "turn.completed"
    end
  end

  defp turn(thread, opts \\ []) do
    {seconds, {:ok, result}} = Bench.fresh(fn -> Thread.run(thread, "go", opts) end)
    "Hello world" = result.final_response.text
    seconds
  end

  defp typescript(node, command) do
    %{"seconds" => seconds, "count" => count} =
      Bench.Node.call(node, Map.put(command, :do, "turn"))

    if count < 1, do: raise("no item in TypeScript")
    seconds
  end
end

Bench.Turn.run()
