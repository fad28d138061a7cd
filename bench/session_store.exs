# Measures turns whose session file is mirrored, and the way of threads into a store and back. See
# README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.SessionStore do
  alias Codex.{AppServer, SessionStore, Test, Thread}
  alias Codex.SessionStore.Memory

  @id "01a21974-8f0c-7940-b1d5-036bc64902f4"

  def run do
    {:ok, cli} = Test.codex_path()
    Bench.machine(cli: Bench.first_line(cli, ["--version"]))
    turns()
    threads()
    homes()
  end

  # The result is there when the turn has waited for the store.
  defp turns do
    model = Test.start!([], default: fn _request -> "answer" end)
    {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
    {:ok, memory} = Memory.start_link(max_bytes: 4_294_967_296)
    dir = Path.join(System.tmp_dir!(), "codex-bench-store-#{System.pid()}")

    stores = [
      {"none", []},
      {"memory", [session_store: {Memory, name: memory}]},
      {"memory, flush_ms: 0", [session_store: {Memory, [name: memory], flush_ms: 0}]},
      {"file", [session_store: {SessionStore.File, path: dir}]}
    ]

    variants =
      for {lane, transport} <- [exec: [], app_server: [transport: {:app_server, conn}]],
          {name, store} <- stores,
          do: {{lane, name}, fn -> turn(model, transport ++ store) end}

    measured = Bench.interleave(variants, Bench.setting("REPETITIONS", 15))
    AppServer.disconnect(conn)
    File.rm_rf!(dir)
    IO.puts("## New threads with one turn\n")

    rows =
      for lane <- [:exec, :app_server], {name, _store} <- stores do
        ms = Bench.median(measured[{lane, name}])
        above = ms - Bench.median(measured[{lane, "none"}])
        [lane, name, Bench.number(ms), Bench.number(above)]
      end

    Bench.table(["transport", "store", "ms a turn", "ms above none"], rows)
  end

  defp turn(model, options) do
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)

    {us, {:ok, _result}} = :timer.tc(fn -> Thread.run(thread, "hello") end)
    us / 1_000
  end

  defp threads do
    megabytes = Bench.setting("MEGABYTES", 64)
    home = home!(1)
    [path] = Path.wildcard(home <> "/sessions/**/*.jsonl")
    line = ~s({"timestamp":"2026-11-26T20:03:18.100Z","type":"x","payload":{"text":")
    line = line <> String.duplicate("x", 920) <> ~s("}}\n)
    File.write!(path, for(_ <- 1..(megabytes * 1_048), do: line), [:append])
    size = File.stat!(path).size / 1_048_576
    dir = Path.join(home, "store")
    {:ok, memory} = Memory.start_link(max_bytes: 4_294_967_296)
    IO.puts("\n## A thread of #{Bench.number(size)} MiB\n")

    rows =
      for {name, store} <- [
            {"memory", {Memory, name: memory}},
            {"file", {SessionStore.File, path: dir}}
          ] do
        {up, {:ok, %{state: :current}}} =
          Bench.fresh(fn -> SessionStore.sync(store, @id, codex_home: home) end)

        other = Path.join(home, "other-#{name}")
        File.mkdir_p!(other)

        {down, {:ok, [%{state: :written}]}} =
          Bench.fresh(fn -> SessionStore.materialise(store, @id, codex_home: other) end)

        [name, Bench.number(size / up), Bench.number(size / down)]
      end

    Bench.table(["store", "MiB/s sent", "MiB/s brought back"], rows)
    File.rm_rf!(home)
  end

  # A mirror lists the home when it begins.
  defp homes do
    IO.puts("\n## A turn that adds nothing, by threads in the home\n")

    rows =
      for count <- [1, 100, Bench.setting("THREADS", 10_000)] do
        home = home!(count)
        {:ok, memory} = Memory.start_link([])
        store = {Memory, name: memory}
        {:ok, _status} = SessionStore.sync(store, @id, codex_home: home)

        ms =
          for _ <- 1..7 do
            {seconds, {:ok, _}} =
              Bench.fresh(fn -> SessionStore.sync(store, @id, codex_home: home) end)

            seconds * 1_000
          end

        File.rm_rf!(home)
        [count, Bench.number(Bench.median(ms))]
      end

    Bench.table(["threads", "ms"], rows)
  end

  defp home!(count) do
    home = Path.join(System.tmp_dir!(), "codex-bench-home-#{System.unique_integer([:positive])}")
    folder = Path.join(home, "sessions/2026/11/26")
    File.mkdir_p!(folder)

    for n <- 1..count do
      id = if n == 1, do: @id, else: other_id(n)

      meta =
        ~s({"timestamp":"2026-11-26T20:03:18.100Z","type":"session_meta",) <>
          ~s("payload":{"id":"#{id}","cwd":"/w"}}\n)

      File.write!(Path.join(folder, "rollout-2026-11-26T20-03-18-#{id}.jsonl"), meta)
    end

    home
  end

  defp other_id(n),
    do: "01a21974-8f0c-7940-b1d5-" <> String.pad_leading(Integer.to_string(n), 12, "0")
end

Bench.SessionStore.run()
