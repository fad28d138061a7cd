# See bench/sessions.

defmodule Bench.Sessions do
  alias Codex.Sessions

  @store System.fetch_env!("STORE")
  @ccusage System.fetch_env!("CCUSAGE")
  @runs String.to_integer(System.get_env("RUNS", "9"))
  # A second listing takes few ticks of the clock.
  @repeated 10

  def run do
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    home = Path.join(@store, "home")
    plain = plain_home(home)
    index = Path.join(@store, "index")

    expected =
      @store |> Path.join("expect.json") |> File.read!() |> Codex.JSON.decode() |> elem(1)

    usage = fn opts ->
      {:ok, usage} = Sessions.usage(opts)
      usage.usage
    end

    before = peak()
    # Warms the cache of files.
    exact = usage.(codex_home: home) == expected["usage"]
    memory = peak() - before
    list = fn -> Sessions.list(codex_home: home, index: index, limit: 10_000) end

    rows =
      for _ <- 1..@runs do
        File.rm(index)

        %{
          all: timed(fn -> usage.(codex_home: home) end),
          plain: timed(fn -> usage.(codex_home: plain) end),
          peer: child(@ccusage, ~w(codex --offline --json), [{"CODEX_HOME", home}]),
          first: timed(list),
          second: timed(fn -> Enum.each(1..@repeated, fn _ -> list.() end) end) / @repeated
        }
      end

    lines = child("sh", ["-c", "find '#{home}' -name '*.jsonl' -exec cat {} + | wc -l"], [])
    rg = if System.find_executable("rg"), do: child("rg", ["-c", "token_count", home], [])

    row("sum is exact", exact)
    row("all files", of(rows, & &1.all))
    row("all files, GB per CPU second", of(rows, &(expected["plain_bytes"] / 1.0e9 / &1.all)))
    row("plain files", of(rows, & &1.plain))
    row("ccusage (plain files only)", of(rows, & &1.peer))
    row("all / ccusage (limit 0.5)", of(rows, &(&1.all / &1.peer)))
    row("plain / ccusage (limit 0.35)", of(rows, &(&1.plain / &1.peer)))
    row("list with an index, first", of(rows, & &1.first))
    row("list with an index, second", of(rows, & &1.second))
    row("second / first (limit 0.02)", of(rows, &(&1.second / &1.first)))
    row("growth of the peak memory, MB", memory / 1024)
    row("cat | wc -l", lines)
    row("rg -c", rg || "not installed")
  end

  # The same store without its compressed files.
  defp plain_home(home) do
    plain = Path.join(@store, "plain")

    unless File.dir?(plain) do
      File.mkdir_p!(plain)
      {_out, 0} = System.cmd("cp", ["-rl", home <> "/.", plain])
      {_out, 0} = System.cmd("find", [plain, "-name", "*.zst", "-delete"])
    end

    plain
  end

  # The median of the repetitions. A ratio is taken within one.
  defp of(rows, value), do: rows |> Enum.map(value) |> median()

  # CPU seconds of this VM.
  defp timed(fun) do
    before = ticks("self", 13)
    _ = fun.()
    (ticks("self", 13) - before) / 100
  end

  # CPU seconds of a program, by the children of the VM's helper, which this shell reports.
  defp child(program, args, env) do
    script = ~s(TIMEFORMAT="%U %S"; { time "$0" "$@" >/dev/null 2>&1; } 2>&1)
    {out, _status} = System.cmd("bash", ["-c", script, program | args], env: env)
    out |> String.split() |> Enum.map(&String.to_float/1) |> Enum.sum()
  end

  # utime and stime stand behind the name of the program, which may hold blanks.
  defp ticks(pid, at) do
    fields =
      "/proc/#{pid}/stat" |> File.read!() |> String.split(") ") |> List.last() |> String.split()

    String.to_integer(Enum.at(fields, at - 2)) + String.to_integer(Enum.at(fields, at - 1))
  end

  # The most memory that this VM had, in KB.
  defp peak do
    [_, kb] = Regex.run(~r/VmHWM:\s+(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kb)
  end

  defp median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))

  defp row(name, value) when is_float(value),
    do: IO.puts(String.pad_trailing(name, 32) <> :erlang.float_to_binary(value, decimals: 3))

  defp row(name, value), do: IO.puts(String.pad_trailing(name, 32) <> "#{value}")
end

Bench.Sessions.run()
