# See bench/sessions.

defmodule Bench.Sessions do
  alias Codex.Sessions

  @store System.fetch_env!("STORE")
  @ccusage System.fetch_env!("CCUSAGE")
  @runs String.to_integer(System.get_env("RUNS", "3"))

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

    # Warms the cache of files.
    exact = usage.(codex_home: home) == expected["usage"]
    before = peak()
    all = cpu(fn -> usage.(codex_home: home) end)
    memory = peak() - before
    only_plain = cpu(fn -> usage.(codex_home: plain) end)
    File.rm(index)
    {:ok, first} = timed(fn -> Sessions.list(codex_home: home, index: index, limit: 10_000) end)
    second = cpu(fn -> Sessions.list(codex_home: home, index: index, limit: 10_000) end)
    peer = child(@ccusage, ~w(codex --offline --json), [{"CODEX_HOME", home}])
    lines = child("sh", ["-c", "find '#{home}' -name '*.jsonl' -exec cat {} + | wc -l"], [])
    rg = if System.find_executable("rg"), do: child("rg", ["-c", "token_count", home], [])

    row("sum is exact", exact)
    row("all files", all)
    row("all files, GB per CPU second", expected["plain_bytes"] / 1.0e9 / all)
    row("plain files", only_plain)
    row("ccusage (plain files only)", peer)
    row("all / ccusage (limit 0.5)", all / peer)
    row("plain / ccusage (limit 0.35)", only_plain / peer)
    row("list with an index, first", first)
    row("list with an index, second", second)
    row("second / first (limit 0.02)", second / first)
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

  defp cpu(fun), do: 1..@runs |> Enum.map(fn _ -> elem(timed(fun), 1) end) |> median()

  # CPU seconds of this VM.
  defp timed(fun) do
    before = ticks("self", 13)
    _ = fun.()
    {:ok, (ticks("self", 13) - before) / 100}
  end

  # CPU seconds of a program, by the children of the VM's helper, which this shell reports.
  defp child(program, args, env) do
    1..@runs
    |> Enum.map(fn _ ->
      script = ~s(TIMEFORMAT="%U %S"; { time "$0" "$@" >/dev/null 2>&1; } 2>&1)
      {out, _status} = System.cmd("bash", ["-c", script, program | args], env: env)
      out |> String.split() |> Enum.map(&String.to_float/1) |> Enum.sum()
    end)
    |> median()
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
