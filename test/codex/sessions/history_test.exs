defmodule Codex.Sessions.HistoryTest do
  use ExUnit.Case, async: true

  alias Codex.Home.Isolated
  alias Codex.Sessions.History

  setup do
    {:ok, home} = Isolated.create()
    %{home: home, path: Path.join(home, "history.jsonl")}
  end

  defp entry(text), do: %{session_id: "01a2", time: ~U[2026-11-27 06:00:00Z], text: text}

  test "appends what the CLI writes, byte by byte", %{home: home, path: path} do
    assert {:ok, [], []} = History.read(home)
    assert {:ok, :recorded} = History.append(home, entry("first prompt"))
    assert {:ok, :recorded} = History.append(home, entry(~s(zweiter: "ä"\nline)))

    assert File.read!(path) == """
           {"session_id":"01a2","ts":1795759200,"text":"first prompt"}
           {"session_id":"01a2","ts":1795759200,"text":"zweiter: \\"ä\\"\\nline"}
           """

    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
    assert {:ok, [first, second], []} = History.read(home)
    assert first == entry("first prompt")
    assert second.text == ~s(zweiter: "ä"\nline)
  end

  test "reads histories of the CLI", %{home: home, path: path} do
    for version <- ~w(0.63.0 0.171.0) do
      File.cp!("test/fixtures/sessions/#{version}_history.jsonl", path)
      assert {:ok, [%{text: "first prompt from tui"}, %{text: text}], []} = History.read(home)
      assert text == ~s(zweiter: "ä")
    end
  end

  test "bad lines are a problem, and half a line is ended", %{home: home, path: path} do
    File.write!(path, ~s({"session_id":"a","ts":1,"text":"x"}\n{"ts":"no"}\n{"session_id":"a","t))
    assert {:ok, :recorded} = History.append(home, entry("new"))
    assert {:ok, [%{text: "x"}, %{text: "new"}], [problem]} = History.read(home)
    assert %{kind: :bad_lines, count: 2, path: "history.jsonl"} = problem
  end

  test "history.persistence is honoured", %{home: home, path: path} do
    File.write!(Path.join(home, "config.toml"), ~s([history]\npersistence = "none"\n))
    assert {:ok, :disabled} = History.append(home, entry("x"))
    refute File.exists?(path)
  end

  test "history.max_bytes is honoured, and the newest prompt stays", %{home: home, path: path} do
    File.write!(Path.join(home, "config.toml"), "[history]\nmax_bytes = 1000\n")

    for n <- 1..60 do
      assert {:ok, :recorded} = History.append(home, entry("prompt #{n}"))
      assert File.stat!(path).size <= 1000
    end

    assert {:ok, entries, []} = History.read(home)
    assert List.last(entries).text == "prompt 60"
    numbers = for %{text: "prompt " <> n} <- entries, do: String.to_integer(n)
    assert numbers == Enum.to_list(hd(numbers)..60)
    assert length(numbers) > 8

    long = String.duplicate("x", 2000)
    assert {:ok, :recorded} = History.append(home, entry(long))
    assert {:ok, [%{text: ^long}], []} = History.read(home)
  end

  test "many writers lose nothing", %{home: home} do
    1..8
    |> Task.async_stream(
      fn writer ->
        for n <- 1..20, do: {:ok, :recorded} = History.append(home, entry("#{writer} #{n}"))
      end,
      timeout: :infinity
    )
    |> Stream.run()

    assert {:ok, entries, []} = History.read(home)
    assert length(entries) == 160 and length(Enum.uniq(entries)) == 160
  end

  test "a lock that is held is an error", %{home: home, path: path} do
    {:ok, lock} = Codex.FileSystem.lock(path)
    assert {:error, {:lock_held, ^path}} = History.append(home, entry("x"))
    Codex.FileSystem.unlock(lock)
    assert {:ok, :recorded} = History.append(home, entry("x"))
  end
end
