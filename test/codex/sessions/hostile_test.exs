defmodule Codex.Sessions.HostileTest do
  # Files that are damaged, huge or on the move.
  use ExUnit.Case, async: true

  import Codex.SessionLines
  alias Codex.{JSON, Sessions, SessionStores}
  alias Codex.Sessions.{Problem, Transcript}

  @moduletag :tmp_dir

  @id id()
  @turn turn()
  @file_name file_name()

  defp only!(home) do
    {:ok, %{sessions: [session], problems: problems}} = Sessions.list(codex_home: home)
    {session, Enum.map(problems, &{&1.kind, &1.count})}
  end

  defp read!(home) do
    {:ok, transcript} = Sessions.read(@id, codex_home: home)
    transcript
  end

  test "half a last line is a problem, and not counted", %{tmp_dir: home} do
    write!(home, [whole(), binary_part(record(99, 10), 0, 200)])
    assert {%{usage: %{"input_tokens" => 10}, bad_lines: 1}, [{:bad_lines, 1}]} = only!(home)
    assert [%Problem{kind: :bad_lines}] = read!(home).problems
  end

  test "a line glued to half a line is read", %{tmp_dir: home} do
    half = binary_part(record(99, 3), 0, 120)
    write!(home, [meta(), started(), prompt("hello"), half, record(10, 4), completed()])

    assert {%{usage: %{"input_tokens" => 10}, bad_lines: 1, salvaged_lines: 1}, problems} =
             only!(home)

    assert problems == [bad_lines: 1, salvaged_lines: 1]
    assert [%{status: :completed, prompt: "hello", final: "bye"}] = read!(home).turns
  end

  test "null bytes, other bytes than UTF-8 and other values are bad lines", %{tmp_dir: home} do
    bad = [
      String.duplicate(<<0>>, 4096),
      "\n",
      ~s({"timestamp":"#{<<0xFF>>}"}\n),
      "5\n",
      "[]\n",
      "{}x\n"
    ]

    nul = String.replace(prompt("nul"), "nul", <<0>>)
    write!(home, [meta(), bad, nul, "\n", " \r\n", tl(whole())])
    assert {%{title: "hello", bad_lines: 6}, [bad_lines: 6]} = only!(home)
  end

  test "separators of lines that are not newlines stay in a text", %{tmp_dir: home} do
    text = "a\u2028b\u2029c\u0085d\u001Ee"
    write!(home, [meta(), started(), prompt(text), completed()])
    assert {%{title: ^text, bad_lines: 0}, []} = only!(home)
    assert [%{prompt: ^text}] = read!(home).turns
  end

  test "a line of 43 MB is read, and one line of it at a time is in memory", %{tmp_dir: home} do
    size = 43 * 1024 * 1024
    output = String.duplicate("x", size)

    command = %{
      "command" => ["cat"],
      "aggregated_output" => output,
      "exit_code" => 0,
      "status" => "completed"
    }

    write!(home, [
      meta(),
      started(),
      prompt("big"),
      item("CommandExecution", command, 3),
      record(10, 4),
      completed()
    ])

    assert {%{usage: %{"input_tokens" => 10}, lines: 6}, []} = only!(home)
    items = for turn <- read!(home).turns, item <- Sessions.Turn.items(turn), do: item

    assert [size] ==
             for(
               %Codex.Items.CommandExecution{aggregated_output: text} <- items,
               do: byte_size(text)
             )
  end

  test "a compressed file that is cut counts nothing", %{tmp_dir: folder} do
    home = SessionStores.unpack!(folder, "0.171.0/zst")
    [path | _] = Path.wildcard(Path.join(home, "**/*.zst"))
    bytes = File.read!(path)
    File.write!(path, binary_part(bytes, 0, div(byte_size(bytes), 2)))

    {:ok, page} = Sessions.list(codex_home: home)
    assert [%Problem{kind: :unreadable, detail: :damaged, session: id} = problem] = page.problems
    assert to_string(problem) =~ "cut or invalid"
    assert {:ok, %Transcript{turns: [], problems: [_]}} = Sessions.read(id, codex_home: home)

    assert_raise Codex.Error, ~r/cut or invalid/, fn ->
      id |> Sessions.stream(codex_home: home) |> Stream.run()
    end
  end

  test "a line with thousands of members is read", %{tmp_dir: home} do
    members = Map.new(1..2_000, &{"key #{&1}", &1})
    head = JSON.encode!(%{id: @id, timestamp: "2026-11-26T20:03:18.000Z", git: members})
    time = ~s({"timestamp":"2026-11-26T20:03:18.000Z","type":)
    line = JSON.encode!(Map.put(members, "type", "brand_new_line"))

    write!(home, [
      [time, ~s("session_meta","payload":), head, "}\n"],
      [time, ~s("event_msg","payload":), line, "}\n"]
    ])

    {:ok, %{sessions: [session]}} = Sessions.list(codex_home: home)
    assert map_size(session.git) == 2_003
    {:ok, transcript} = Sessions.read(@id, codex_home: home)
    assert [_started, %Codex.Events.Unknown{raw: raw}] = Transcript.events(transcript)
    assert Map.take(raw, Map.keys(members)) == members
  end

  test "links out of the home, pipes and unreadable folders are problems", %{tmp_dir: folder} do
    home = Path.join(folder, "home")
    path = write!(home, whole())
    secret = Path.join(folder, "secret.jsonl")
    File.write!(secret, whole())
    other = &Path.join(Path.dirname(path), String.replace(@file_name, "f4.jsonl", &1 <> ".jsonl"))
    File.ln_s!(secret, other.("f5"))
    {_out, 0} = System.cmd("mkfifo", [other.("f6")])
    File.ln_s!(path, other.("f7"))

    {:ok, page} = Sessions.list(codex_home: home)
    assert length(page.sessions) == 2
    kinds = for problem <- page.problems, do: {problem.kind, problem.detail}
    assert {:outside, nil} in kinds and {:unreadable, {:not_regular, :pipe}} in kinds
    assert {:wrong_id, @id} in kinds
  end

  test "a file that is archived or compressed after it was listed is read", %{tmp_dir: home} do
    path = write!(home, whole())
    {:ok, store} = Sessions.Store.open(home)
    archived = Path.join([home, "archived_sessions", @file_name])
    File.mkdir_p!(Path.dirname(archived))
    File.rename!(path, archived)

    assert [record] = store |> Sessions.Record.stream([@id]) |> Enum.to_list()
    assert %{archived: true, title: "hello"} = record.session
    assert [%{prompt: "hello"}] = Transcript.read(store, @id, []).turns

    File.rm!(archived)
    assert [record] = store |> Sessions.Record.stream([@id]) |> Enum.to_list()
    assert [%Problem{kind: :gone}] = record.problems
  end

  test "a file that grows while it is read ends at a line", %{tmp_dir: home} do
    path = write!(home, whole())
    test = self()

    writer =
      spawn_link(fn ->
        {:ok, file} = File.open(path, [:append, :raw])
        write_until(file, test)
      end)

    for _ <- 1..20 do
      {session, _problems} = only!(home)
      assert session.usage["input_tokens"] >= 10
      assert session.bad_lines <= 1
    end

    Process.unlink(writer)
    Process.exit(writer, :kill)
  end

  # In pieces, so that a reader meets half a line.
  defp write_until(file, test) do
    {one, two} = String.split_at(record(1, 50), 60)
    :ok = IO.binwrite(file, one)
    :ok = IO.binwrite(file, two)
    if Process.alive?(test), do: write_until(file, test)
  end

  test "a death of the reader ends the scan", %{tmp_dir: home} do
    write!(home, [meta(), for(_ <- 1..2000, do: prompt(String.duplicate("y", 4000)))])
    {:ok, store} = Sessions.Store.open(home)

    {pid, monitor} =
      spawn_monitor(fn ->
        [_] = store |> Sessions.Record.stream([@id]) |> Enum.take(1)
        exit(:done)
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :done}, 60_000
    # A halted stream leaves no message behind.
    [_] = store |> Sessions.Record.stream(List.duplicate(@id, 3)) |> Enum.take(1)

    refute_received _message
  end

  test "many files are listed", %{tmp_dir: home} do
    folder = Path.join(home, day())
    File.mkdir_p!(folder)
    first = meta()

    for n <- 1..20_000 do
      id = "01a21974-8f0c-7940-b1d5-" <> String.pad_leading("#{n}", 12, "0")
      name = "rollout-2026-11-26T20-03-18-#{id}.jsonl"
      :ok = :file.write_file(Path.join(folder, name), String.replace(first, @id, id), [:raw])
    end

    {:ok, page} = Sessions.list(codex_home: home, limit: 10)
    assert length(page.sessions) == 10 and page.next != nil
    {:ok, usage} = Sessions.usage(codex_home: home)
    assert length(usage.unrecorded) == 20_000
  end

  describe "an index" do
    test "is made anew if it is torn, old or of another home", %{tmp_dir: folder} do
      home = Path.join(folder, "home")
      path = write!(home, whole())
      index = Path.join(folder, "app/index")
      list = fn -> Sessions.list(codex_home: home, index: index) end
      {:ok, first} = list.()
      good = File.read!(index)

      for bytes <- [binary_part(good, 0, 40), "", <<1, 2, 3>>, String.reverse(good)] do
        File.write!(index, bytes)
        assert list.() == {:ok, first}
        assert File.read!(index) == good
      end

      # A changed file is read again.
      File.write!(path, [whole(), record(5, 11)])
      assert {:ok, %{sessions: [%{usage: %{"input_tokens" => 15}}]}} = list.()
      assert File.ls!(Path.dirname(index)) == ["index"]
    end

    test "holds for a path with the same size, time and inode", %{tmp_dir: folder} do
      home = Path.join(folder, "home")
      path = write!(home, whole())
      index = Path.join(folder, "index")
      list = fn -> Sessions.list(codex_home: home, index: index) end
      {:ok, %{sessions: [%{files: [name]}]}} = list.()
      time = File.stat!(path, time: :posix).mtime

      # Another title of the same length, at the same time, in another file.
      other = whole() |> IO.iodata_to_binary() |> String.replace("hello", "world")
      File.write!(path <> ".new", other)
      File.rename!(path <> ".new", path)
      File.touch!(path, time)
      assert {:ok, %{sessions: [%{title: "world", files: [^name]}]}} = list.()

      # What is gone is forgotten, what stays is not read again: it could not be.
      second = Path.join(Path.dirname(path), String.replace(@file_name, "f4.jsonl", "f5.jsonl"))
      File.write!(second, other)
      assert {:ok, %{sessions: [_, _]}} = list.()
      size = File.stat!(index).size
      File.rm!(second)
      assert {:ok, %{sessions: [%{title: "world"}]}} = list.()
      assert File.stat!(index).size < size
      assert {:ok, usage} = Sessions.usage(codex_home: home, index: index)
      assert {:ok, usage} == Sessions.usage(codex_home: home)
    end

    test "gives another page for another question and after each change", %{tmp_dir: folder} do
      home = Path.join(folder, "home")
      path = write!(home, whole())
      other = Path.join(folder, "other")
      write!(other, whole())
      index = Path.join(folder, "index")

      same = fn wanted ->
        opts = Keyword.merge([codex_home: home], wanted)
        {:ok, page} = Sessions.list([index: index] ++ opts)
        # The second time from memory, the third time without an index.
        assert Sessions.list([index: index] ++ opts) == {:ok, page}
        assert Sessions.list(opts) == {:ok, page}
        page
      end

      assert %{sessions: [%{id: id, name: nil, archived: false}], problems: []} = same.([])
      assert %{sessions: []} = same.(model: "no model")
      assert %{sessions: [_], problems: []} = same.(limit: 1)
      assert %{sessions: [%{id: ^id}]} = same.(codex_home: other)

      name = Codex.JSON.encode!(%{"id" => id, "thread_name" => "new"})
      File.write!(Path.join(home, "session_index.jsonl"), name <> "\n")
      assert %{sessions: [%{name: "new"}]} = same.([])

      File.write!(Path.join(Path.dirname(path), "notes.txt"), "")
      assert %{problems: [%{kind: :ignored_name}]} = same.([])
      assert %{problems: []} = same.(after: id)

      archive = Path.join(home, "archived_sessions")
      File.mkdir_p!(archive)
      File.rename!(path, Path.join(archive, Path.basename(path)))
      assert %{sessions: [%{archived: true}]} = same.([])

      File.rm!(Path.join(archive, Path.basename(path)))
      assert %{sessions: []} = same.([])
    end

    test "is never in the home", %{tmp_dir: home} do
      write!(home, whole())
      inside = Path.join(home, "sessions/index")

      assert {:error, %Codex.OptionError{key: :index}} =
               Sessions.list(codex_home: home, index: inside)
    end
  end

  describe "search/2" do
    test "finds prompts, answers, commands and patches", %{tmp_dir: folder} do
      for version <- ~w(0.40.0 0.145.0 0.171.0) do
        home = SessionStores.unpack!(folder, version <> "/tools")

        parts = fn pattern ->
          for match <- Sessions.search(pattern, codex_home: home), do: match.part
        end

        assert parts.("do the work") == [:prompt]
        assert parts.("all done") == [:answer]
        assert parts.("echo one") == [:command]
        assert parts.("echo one; echo") == [:command]
        assert parts.("ALPHA") == [:patch]
        assert parts.(~r/do\s+the (?=work)/) == [:prompt]
        assert parts.("no such words") == []
      end
    end

    test "tells the place", %{tmp_dir: home} do
      write!(home, [
        meta(),
        started(),
        prompt(String.duplicate("ä", 100) <> "needle" <> "ö"),
        completed()
      ])

      assert [%{session: @id, turn: @turn, number: 1, text: "needle", before: "ää", after: "ö"}] =
               "needle" |> Sessions.search(codex_home: home, context: 2) |> Enum.to_list()

      assert [] ==
               "needle" |> Sessions.search(codex_home: home, parts: [:answer]) |> Enum.to_list()

      assert_raise Codex.Error, ~r/pattern/, fn -> Sessions.search("") end
    end
  end
end
