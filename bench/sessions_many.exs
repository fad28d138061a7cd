# See bench/sessions_many.

defmodule Bench.SessionsMany do
  alias Codex.{JSON, Sessions}

  @folder System.fetch_env!("FOLDER")
  @files String.to_integer(System.get_env("FILES", "100000"))
  @time "2026-11-26T20:03:18.000Z"

  def run do
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    home = Path.join(@folder, "home-#{@files}")
    unless File.dir?(home), do: make(home)
    index = Path.join(@folder, "index")
    File.rm(index)
    opts = [codex_home: home]
    all = [limit: @files] ++ opts

    IO.puts("| call | s | CPU s | peak memory, MB |\n| --- | --- | --- | --- |")
    # Warms the cache of files.
    {:ok, %{calls: @files}} = Sessions.usage(opts)
    row("usage", fn -> {:ok, %{calls: @files}} = Sessions.usage(opts) end)
    row("usage, a row a thread", fn -> {:ok, _} = Sessions.usage([scope: :thread] ++ opts) end)
    row("find", fn -> {:ok, _} = Sessions.find(id(@files), opts) end)
    row("list, 10 sessions", fn -> {:ok, _} = Sessions.list([limit: 10] ++ opts) end)
    row("list, all", fn -> {:ok, %{next: nil}} = Sessions.list(all) end)
    row("list, all, index made", fn -> {:ok, _} = Sessions.list([index: index] ++ all) end)
    row("list, all, index read", fn -> {:ok, _} = Sessions.list([index: index] ++ all) end)

    row("list, 10, index read", fn ->
      {:ok, _} = Sessions.list([limit: 10, index: index] ++ opts)
    end)

    row("usage, index read", fn -> {:ok, _} = Sessions.usage([index: index] ++ opts) end)
  end

  defp id(n), do: "01a21974-8f0c-7940-b1d5-" <> String.pad_leading("#{n}", 12, "0")

  defp make(home) do
    for n <- 1..@files do
      day = String.pad_leading("#{rem(n, 28) + 1}", 2, "0")
      folder = Path.join(home, "sessions/2026/11/" <> day)
      if n <= 28, do: File.mkdir_p!(folder)
      name = "rollout-2026-11-#{day}T20-03-18-#{id(n)}.jsonl"
      File.write!(Path.join(folder, name), rollout(n), [:raw])
    end
  end

  defp rollout(n) do
    tokens = %{input_tokens: n, cached_input_tokens: 0, output_tokens: 1}
    info = %{total_token_usage: tokens, last_token_usage: tokens}

    [
      line("session_meta", %{id: id(n), timestamp: @time, cwd: "/w"}),
      line("event_msg", %{type: "user_message", message: "prompt #{n}"}),
      line("event_msg", %{type: "token_count", info: info})
    ]
  end

  defp line(type, payload),
    do: [~s({"timestamp":"#{@time}","type":"#{type}","payload":), JSON.encode!(payload), "}\n"]

  # Each call runs in a process of its own, whose memory is gone afterwards.
  defp row(name, fun) do
    :erlang.garbage_collect()
    # The peak of this VM is forgotten.
    File.write!("/proc/self/clear_refs", "5")
    {memory, cpu, start} = {peak(), cpu(), System.monotonic_time(:millisecond)}
    Task.await(Task.async(fn -> fun.() && :ok end), :infinity)
    seconds = (System.monotonic_time(:millisecond) - start) / 1000
    mb = div(peak() - memory, 1024)
    IO.puts("| #{name} | #{Float.round(seconds, 2)} | #{Float.round(cpu() - cpu, 2)} | #{mb} |")
  end

  defp peak do
    [_, kb] = Regex.run(~r/VmHWM:\s+(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kb)
  end

  # utime and stime stand behind the name of the program, which may hold blanks.
  defp cpu do
    fields = "/proc/self/stat" |> File.read!() |> String.split(") ") |> List.last()
    fields = String.split(fields)
    (String.to_integer(Enum.at(fields, 11)) + String.to_integer(Enum.at(fields, 12))) / 100
  end
end

Bench.SessionsMany.run()
