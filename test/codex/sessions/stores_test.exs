defmodule Codex.Sessions.StoresTest do
  # Recorded homes of eleven versions of the CLI, against the answers of the script that drove it.
  use ExUnit.Case, async: true

  alias Codex.{Sessions, SessionStores}

  @moduletag :tmp_dir

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
end
