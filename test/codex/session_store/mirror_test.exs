defmodule Codex.SessionStore.MirrorTest do
  # A mirror follows a file that grows, moves, is compressed and gets a segment, as a CLI and others
  # do it while a turn runs.
  use ExUnit.Case, async: true

  import Codex.Mirrored
  import Codex.SessionLines
  import Codex.Tailing, only: [eventually: 1]

  alias Codex.{Sessions, SessionStore}
  alias Codex.SessionStore.{Memory, Mirror}

  @moduletag :tmp_dir
  @id id()
  @segment "01a21974-9999-7000-8000-000000000002"

  defp start(store, home, opts \\ []) do
    {:ok, store} = SessionStore.new(store)
    Mirror.start(store, @id, [home: fn -> home end, final?: false, prefix: [:codex]] ++ opts)
  end

  defp append!(path, lines), do: File.write!(path, lines, [:append])

  defp mirrored?(store, home),
    do: eventually(fn -> in_store(store, @id) == in_home(home, @id) end)

  @tag :zstd
  test "archived, compressed, written back, unarchived, reverted", %{tmp_dir: home} do
    store = memory!(poll_ms: 2, flush_ms: 60_000)
    mirror = start(store, home)
    # The CLI names a thread before it has a file, which has the name of its day.
    today = Date.utc_today()
    name = "rollout-#{today}T00-00-01-#{@id}.jsonl"
    path = Path.join([home, "sessions", Calendar.strftime(today, "%Y/%m/%d"), name])
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, [meta(), started(), prompt("hello")])
    assert mirrored?(store, home)

    archived = Path.join([home, "archived_sessions", name])

    for round <- 1..3 do
      append!(path, answer("live #{round}"))
      {:ok, _moved} = Sessions.archive(@id, codex_home: home)
      append!(archived, answer("archived #{round}"))
      {_, 0} = System.cmd("zstd", ["--rm", "-q", archived])
      assert mirrored?(store, home)
      {_, 0} = System.cmd("zstd", ["-d", "--rm", "-q", archived <> ".zst"])
      append!(archived, answer("written back #{round}"))
      {:ok, _moved} = Sessions.unarchive(@id, codex_home: home)
      assert mirrored?(store, home)
    end

    segment = String.replace_suffix(path, ".jsonl", "_#{@segment}.jsonl")
    File.write!(segment, [meta(), answer("reverted")])
    assert mirrored?(store, home)
    assert map_size(in_store(store, @id)) == 2
    append!(segment, [answer("end"), completed()])
    assert %{state: :current, error: nil} = Mirror.flush(mirror)
    assert in_store(store, @id) == in_home(home, @id)
  end

  test "half a line is not sent, however it grows", %{tmp_dir: home} do
    store = memory!(poll_ms: 1, flush_ms: 60_000)
    path = write!(home, [meta()])
    mirror = start(store, home)
    assert mirrored?(store, home)
    for <<byte <- String.trim_trailing(completed(), "\n")>>, do: append!(path, <<byte>>)
    assert in_store(store, @id)[file_name()] == meta()
    append!(path, "\n")
    assert %{state: :current} = Mirror.flush(mirror)
    assert in_store(store, @id)[file_name()] == meta() <> completed()
  end

  test "lines that another node has written in the same place are a conflict", %{tmp_dir: home} do
    memory = {Memory, opts, _settings} = memory!()
    path = write!(home, [meta()])
    key = {@id, file_name()}
    offset = byte_size(meta() <> started())
    other = prompt("of another node")

    # The other node is faster by a moment.
    before = fn
      :append ->
        _ = Memory.append(opts, key, offset, other)
        :ok

      _name ->
        :ok
    end

    append!(path, started())
    {:ok, _status} = SessionStore.sync(memory, @id, codex_home: home)
    append!(path, prompt("of this node"))
    store = wrong(memory, before, flush_ms: 1_000, give_up_ms: 10, poll_ms: 1)

    assert %{state: :failed, error: error, sent: 0} =
             Mirror.flush(start(store, home, final?: true))

    assert error.kind == :session_store
    stored = offset + byte_size(other)
    local = offset + byte_size(prompt("of this node"))
    assert error.message =~ "#{stored} bytes in the store, #{local} in the home"
    assert in_store(memory, @id)[file_name()] == meta() <> started() <> other
  end

  test "two mirrors of a node send each line once", %{tmp_dir: home} do
    store = memory!(poll_ms: 1, flush_ms: 60_000, batch_bytes: 1)
    path = write!(home, [meta(), started()])
    mirrors = for _ <- 1..4, do: start(store, home)
    for n <- 1..100, do: append!(path, answer("answer #{n}"))
    append!(path, completed())
    for mirror <- mirrors, do: assert(%{state: :current} = Mirror.flush(mirror))
    assert in_store(store, @id) == in_home(home, @id)
  end

  test "a slow store costs no memory", %{tmp_dir: home} do
    memory = memory!(flush_ms: 0, poll_ms: 1)
    path = write!(home, [meta()])
    gate = start_supervised!({Agent, fn -> :closed end})

    before = fn
      :append -> if eventually(fn -> Agent.get(gate, &(&1 == :open)) end), do: :ok
      _other -> :ok
    end

    %{pid: pid} = mirror = start(wrong(memory, before, call_ms: 60_000), home, final?: true)
    for n <- 1..20, do: append!(path, answer(String.duplicate("#{n} ", 500_000)))
    Process.sleep(100)
    {:binary, binaries} = Process.info(pid, :binary)
    assert Enum.sum(for {_id, size, _refs} <- Enum.uniq(binaries), do: size) < 2_000_000
    Agent.update(gate, fn _ -> :open end)
    :ok = Mirror.finish(mirror)
    assert mirrored?(memory, home)
  end
end
