defmodule Codex.Sessions.StoresTest do
  # Recorded homes of eleven versions of the CLI, against the answers of the script that drove it.
  use ExUnit.Case, async: true

  alias Codex.{Sessions, SessionStores}
  alias Codex.Sessions.Tokens

  @moduletag :tmp_dir

  doctest Codex.Sessions.Images
  doctest Codex.Sessions.Legacy
  doctest Codex.Sessions.Patch
  doctest Codex.Sessions.Prices
  doctest Codex.Sessions.Problem

  # Members of an expected thread that a session has under the same name.
  @members ~w(id files archived name title cwd models model_provider originator source cli_version
    git started ended parent parent_missing generation history_base images compactions lines
    bad_lines salvaged_lines usage)

  defp differences(expected, got, members) do
    for member <- members,
        is_map_key(expected, member),
        value = Map.fetch!(got, String.to_existing_atom(member)),
        value != expected[member],
        do: {member, value, expected[member]}
  end

  defp kind(nil), do: nil
  defp kind(atom), do: Atom.to_string(atom)

  defp turn_differences(home, expected) do
    {:ok, turns} = Sessions.turns(expected["id"], codex_home: home)
    count = {length(turns), length(expected["turns"])}

    pairs =
      for {turn, wanted} <- Enum.zip(turns, expected["turns"]),
          turn = %{turn | status: kind(turn.status)},
          found = differences(wanted, turn, ~w(id status prompt final model usage reverted)),
          found != [],
          do: {wanted["id"], found}

    if elem(count, 0) == elem(count, 1), do: pairs, else: [{:turns, count} | pairs]
  end

  defp differences_of_thread(home, sessions, expected) do
    case Enum.find(sessions, &(&1.id == expected["id"])) do
      nil ->
        [:missing]

      session ->
        limits =
          session.rate_limits && Map.take(session.rate_limits, ~w(primary secondary credits))

        differences(expected, session, @members) ++
          for(
            {got, key} <- [{kind(session.parent_kind), "parent_kind"}, {limits, "rate_limits"}],
            is_map_key(expected, key),
            got != expected[key],
            do: {key, got, expected[key]}
          ) ++ turn_differences(home, expected)
    end
  end

  test "sessions and turns of every store are those that the script made", %{tmp_dir: folder} do
    stores = SessionStores.unpack!(folder)
    assert length(stores) == 76

    wrong =
      for {name, home, expected} <- stores,
          {:ok, page} = Sessions.list(codex_home: home),
          thread <- expected["threads"],
          found = differences_of_thread(home, page.sessions, thread),
          found != [],
          do: {name, thread["id"], found}

    assert wrong == []

    for {name, home, expected} <- stores do
      {:ok, page} = Sessions.list(codex_home: home)
      assert length(page.sessions) == length(expected["threads"]), name
    end
  end

  test "sessions and problems of the native part are whole structs", %{tmp_dir: folder} do
    for {_name, home, _expected} <- SessionStores.unpack!(folder) do
      {:ok, page} = Sessions.list(codex_home: home)
      for session <- page.sessions, do: assert(Map.keys(session) == keys(Sessions.Session, :id))
      for problem <- page.problems, do: assert(Map.keys(problem) == keys(Sessions.Problem, :kind))
    end
  end

  defp keys(module, key), do: module |> struct([{key, nil}]) |> Map.keys()

  test "problems of every store are listed", %{tmp_dir: folder} do
    for {name, home, %{"problems" => expected}} <- SessionStores.unpack!(folder) do
      {:ok, page} = Sessions.list(codex_home: home)
      of = fn kind -> Enum.filter(page.problems, &(&1.kind == kind)) end
      lines = fn kind -> kind |> of.() |> Enum.map(& &1.count) |> Enum.sum() end

      assert {name, lines.(:bad_lines)} == {name, expected["bad_lines"]}
      assert Enum.map(of.(:unreadable), & &1.path) == expected["unreadable_files"]
      assert length(of.(:duplicate)) == Map.get(expected, "duplicates", 0)
      assert length(of.(:shadowed)) == Map.get(expected, "shadowed_by_plain", 0)
      assert length(of.(:empty)) == Map.get(expected, "empty_files", 0)
      ignored = for problem <- of.(:ignored_name), do: Path.basename(problem.path)
      assert Enum.sort(ignored) == Enum.sort(Map.get(expected, "ignored_names", []))
      for problem <- page.problems, do: assert(to_string(problem) =~ ": ")
    end
  end

  test "usage of every store, thread and tree is what the files hold", %{tmp_dir: folder} do
    for {name, home, expected} <- SessionStores.unpack!(folder) do
      {:ok, store} = Sessions.usage(codex_home: home)
      assert {name, store.usage || zero()} == {name, expected["usage_store"] || zero()}

      {:ok, threads} = Sessions.usage(codex_home: home, scope: :thread)
      got = Map.new(threads.rows, &{&1.id, &1.usage})
      wanted = for %{"usage" => %{} = usage, "id" => id} <- expected["threads"], do: {id, usage}
      assert {name, got} == {name, Map.new(wanted)}
      unrecorded = for %{"usage" => nil, "id" => id} <- expected["threads"], do: id
      assert Enum.sort(threads.unrecorded) == Enum.sort(unrecorded)

      {:ok, trees} = Sessions.usage(codex_home: home, scope: :tree)
      trees = Map.new(trees.rows, &{&1.id, &1.usage})

      for {root, %{} = usage} <- expected["usage_tree"] || %{} do
        assert {name, root, trees[root]} == {name, root, usage}
        {:ok, one} = Sessions.usage(root, codex_home: home, scope: :tree)
        assert one.usage == usage
      end

      {:ok, turns} = Sessions.usage(codex_home: home, scope: :turn)
      assert turns.usage == store.usage

      for by <- [:day, :model, :cwd] do
        {:ok, split} = Sessions.usage(codex_home: home, by: by)
        assert split.usage == store.usage
        assert split.rows |> Enum.map(& &1.calls) |> Enum.sum() == store.calls
      end
    end
  end

  defp zero, do: Tokens.to_map(Tokens.zero())

  describe "read/2" do
    # Events that have no struct.
    @other ~w(thread_settings_applied thread_rolled_back thread_name_updated brand_new_line)

    test "events tell the same as the turns, for every thread of every store", %{tmp_dir: folder} do
      for {name, home, expected} <- SessionStores.unpack!(folder),
          thread <- expected["threads"] do
        {:ok, transcript} = Sessions.read(thread["id"], codex_home: home)
        {:ok, turns} = Sessions.turns(thread["id"], codex_home: home)
        where = {name, thread["id"]}

        assert {where, Enum.map(transcript.turns, &%{&1 | events: []})} == {where, turns}

        for turn <- transcript.turns do
          assert {where, prompt(turn) || turn.prompt} == {where, turn.prompt}
          assert {where, answer(turn)} == {where, turn.final}
          assert {where, outcome(turn)} in [{where, turn.status}, {where, nil}]
          others = for %Codex.Events.Unknown{type: type} <- turn.events, do: type
          assert {where, Enum.reject(others, &(&1 in @other))} == {where, []}
        end

        events = thread["id"] |> stream(home) |> Enum.count()
        assert {where, events} == {where, length(Sessions.Transcript.events(transcript))}
      end
    end

    defp stream(id, home) do
      if match?(
           {:ok, %{problems: [%{kind: :unreadable} | _]}},
           Sessions.read(id, codex_home: home)
         ),
         do: [],
         else: Sessions.stream(id, codex_home: home)
    end

    defp prompt(turn) do
      Enum.find_value(Sessions.Turn.items(turn), fn
        %Codex.Items.UserMessage{content: content} ->
          texts = for %{"type" => "text", "text" => text} <- content, do: text
          text = Enum.join(texts)
          if String.starts_with?(text, "<environment_context>"), do: nil, else: text

        _item ->
          nil
      end)
    end

    defp answer(turn) do
      messages = for %Codex.Items.AgentMessage{text: text} <- Sessions.Turn.items(turn), do: text
      List.last(messages)
    end

    defp outcome(turn) do
      Enum.find_value(turn.events, fn
        %Codex.Events.TurnFailed{} ->
          :failed

        %Codex.Events.TurnCompleted{status: "interrupted"} ->
          :interrupted

        %Codex.Events.TurnCompleted{} ->
          if turn.status == :unknown, do: :unknown, else: :completed

        _event ->
          nil
      end)
    end

    test "commands and patches of all versions are the same items", %{tmp_dir: folder} do
      stores =
        for {name, home, _} <- SessionStores.unpack!(folder), name =~ "/tools", do: {name, home}

      assert length(stores) == 10

      for {name, home} <- stores do
        {:ok, page} = Sessions.list(codex_home: home)
        {:ok, transcript} = Sessions.read(hd(page.sessions), codex_home: home)
        items = Enum.flat_map(transcript.turns, &Sessions.Turn.items/1)

        [command | _] = for %Codex.Items.CommandExecution{} = item <- items, do: item
        assert {name, command.aggregated_output, command.exit_code} == {name, "one\ntwo\n", 0}
        assert command.command =~ "echo one; echo two"
        assert command.status == :completed

        # Two versions took the patch for a command and recorded no change.
        for %Codex.Items.FileChange{changes: changes} <- items do
          kinds = for change <- changes, do: {Path.basename(change.path), change.kind}
          assert {name, kinds} == {name, [{"a.txt", :update}, {"new.txt", :add}]}
          assert hd(changes).diff =~ "-alpha\n+ALPHA\n"
          assert List.last(changes).diff == "hello\n"
        end
      end
    end

    test "history of a fork is read on demand", %{tmp_dir: folder} do
      for version <- ~w(0.120.0 0.145.0 0.163.0 0.171.0) do
        home = SessionStores.unpack!(folder, version <> "/fork2")
        {:ok, page} = Sessions.list(codex_home: home)
        fork = Enum.find(page.sessions, &(&1.title == "fork two"))
        {:ok, own} = Sessions.read(fork, codex_home: home)
        {:ok, all} = Sessions.read(fork, codex_home: home, inherited: true)

        assert Enum.map(own.turns, & &1.prompt) == ["fork two"]
        prompts = ["please do the work", "and now the second part", "fork one", "fork two"]
        assert {version, Enum.map(all.turns, & &1.prompt)} == {version, prompts}
        assert Enum.map(all.turns, & &1.inherited) == [true, true, true, false]
      end
    end

    test "images have their bytes on demand", %{tmp_dir: folder} do
      for version <- ~w(0.20.0 0.63.0 0.120.0 0.171.0) do
        home = SessionStores.unpack!(folder, version <> "/image")
        {:ok, %{sessions: [session]}} = Sessions.list(codex_home: home)

        images = fn opts ->
          {:ok, transcript} = Sessions.read(session, [codex_home: home] ++ opts)

          for turn <- transcript.turns,
              %Codex.Items.UserMessage{content: content} <- Sessions.Turn.items(turn),
              %{"type" => type} = part when type in ["image", "local_image"] <- content,
              do: part
        end

        assert [skipped] = images.([])
        refute is_map_key(skipped, "bytes")
        assert [%{"bytes" => <<0x89, "PNG", _::binary>>}] = images.(images: :bytes)
      end
    end
  end
end
