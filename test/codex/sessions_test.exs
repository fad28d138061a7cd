defmodule Codex.SessionsTest do
  use ExUnit.Case, async: true

  alias Codex.{OptionError, Sessions, SessionStores}

  @moduletag :tmp_dir

  setup %{tmp_dir: folder} do
    %{home: SessionStores.unpack!(folder, "0.171.0/names_archive")}
  end

  defp titles(opts) do
    {:ok, page} = Sessions.list(opts)
    Enum.map(page.sessions, & &1.title)
  end

  describe "list/1" do
    test "returns the newest session first, in pages", %{home: home} do
      all = ["last part, thanks", "and now the second part", "please do the work"]
      assert titles(codex_home: home) == all

      {:ok, first} = Sessions.list(codex_home: home, limit: 2)
      assert Enum.map(first.sessions, & &1.title) == Enum.take(all, 2)
      {:ok, second} = Sessions.list(codex_home: home, limit: 2, after: first.next)
      assert Enum.map(second.sessions, & &1.title) == Enum.drop(all, 2)
      assert second.next == nil
    end

    test "filters", %{home: home} do
      only = fn opts -> titles([codex_home: home] ++ opts) end
      {:ok, %{sessions: [last, archived, first]}} = Sessions.list(codex_home: home)

      assert only.(archived: true) == [archived.title]
      assert only.(archived: false) == [last.title, first.title]
      assert only.(title: "SECOND p") == [archived.title]
      assert only.(title: "second name") == [first.title]
      assert only.(cwd: first.cwd) == [last.title, archived.title, first.title]
      assert only.(cwd: "/elsewhere") == []
      assert only.(model: "mock-large") |> length() == 3
      assert only.(model: "mock") == []
      assert only.(source: "vscode") |> length() == 3
      assert only.(source: "exec") == []
      assert only.(since: ~D[2026-11-27]) == []
      assert only.(until: ~D[2026-11-27]) |> length() == 3
      {:ok, time, 0} = DateTime.from_iso8601(archived.started)
      assert only.(since: time) == [last.title, archived.title]
      assert only.(until: archived.started) == [first.title]
    end

    test "takes a home without sessions", %{tmp_dir: folder} do
      assert {:ok, %Sessions.Page{sessions: [], problems: []}} = Sessions.list(codex_home: folder)
    end

    test "reports invalid options and a missing home" do
      assert {:error, %OptionError{key: :since}} = Sessions.list(since: "yesterday")
      assert {:error, %OptionError{key: :limit}} = Sessions.list(limit: 0)
      assert {:error, %OptionError{nearest: :model}} = Sessions.list(modle: "x")
      assert {:error, %Codex.Config.Error{}} = Sessions.list(codex_home: "/no/such/home")
    end
  end

  describe "find/2" do
    test "takes an id, a name, or the beginning of an id", %{home: home} do
      {:ok, %{sessions: [_last, _archived, first]}} = Sessions.list(codex_home: home)
      find = &Sessions.find(&1, codex_home: home)

      assert find.(first.id) == {:ok, first}
      assert find.("Second Name") == {:ok, first}
      assert find.(String.slice(first.id, 0, 13)) == {:ok, first}
      assert find.(String.upcase(String.slice(first.id, 0, 13))) == {:ok, first}
      assert find.("first name") == {:error, {:session_not_found, "first name"}}
      assert {:error, {:ambiguous_session, "01a2", [_, _, _]}} = find.("01a2")
      assert {:error, %OptionError{key: :session}} = find.(nil)
    end
  end

  describe "list_sessions/1" do
    test "lists the first lines of a folder, the last changed file first", %{home: home} do
      assert {:ok, [entry, _other]} = Sessions.list_sessions(codex_home: home)
      assert %{originator: "probe_client", cli_version: "0.171.0"} = entry
      assert entry.metadata["model_provider"] == "mock"
      assert File.regular?(entry.path)
      assert {:ok, %{cwd: cwd}} = Sessions.find(entry.id, codex_home: home)
      assert entry.cwd == cwd
    end

    test "takes other folders", %{tmp_dir: folder} do
      file = Path.join(folder, "thread.json")
      File.write!(file, ~s({"id":"a","timestamp":"T","more":1}\n))
      File.write!(Path.join(folder, "empty.jsonl"), "")
      File.touch!(file, 0)

      assert {:ok, [%{id: "empty", cwd: nil}, entry]} =
               Sessions.list_sessions(sessions_dir: Path.join(folder, "")) |> without_home()

      assert entry.id == "a" and entry.metadata == %{"more" => 1}
      assert entry.updated_at == "1970-01-01T00:00:00Z"
      assert Sessions.list_sessions(sessions_dir: file) == {:error, :not_a_directory}
      assert Sessions.list_sessions(sessions_dir: Path.join(folder, "none")) == {:ok, []}
    end

    defp without_home({:ok, entries}),
      do: {:ok, Enum.reject(entries, &(&1.path =~ "names_archive"))}
  end

  describe "log_files/1" do
    test "lists the files of the folder, the last changed first", %{home: home} do
      assert Sessions.log_files(codex_home: home) == {:ok, []}
      log = Path.join(home, "log")
      File.mkdir_p!(Path.join(log, "folder"))
      for name <- ~w(a.log b.log), do: File.write!(Path.join(log, name), "12345")
      File.touch!(Path.join(log, "a.log"), 5)

      assert {:ok, [%{size: 5}, %{modified: 5, path: path}]} =
               Sessions.log_files(codex_home: home)

      assert path == Path.join(log, "a.log")
    end
  end

  describe "usage/2" do
    test "prices tokens, and says what has no price", %{home: home} do
      prices = %{"mock-large" => {1.0, 0.5, 2.0}}
      {:ok, usage} = Sessions.usage(codex_home: home, prices: prices)
      %{"input_tokens" => input, "cached_input_tokens" => cached} = usage.usage
      dollars = (input - cached + cached * 0.5 + usage.usage["output_tokens"] * 2.0) / 1_000_000
      assert_in_delta usage.cost.usd, dollars, 1.0e-12
      assert %{estimate: true, lower_bound: false, unpriced: [], prices: %Date{}} = usage.cost

      {:ok, usage} = Sessions.usage(codex_home: home)
      assert %{usd: usd, lower_bound: true, unpriced: ["mock-large"]} = usage.cost
      assert usd == 0
      assert inspect(usage) =~ "input_tokens"
    end

    test "tells what was counted, and what not", %{tmp_dir: folder} do
      home = SessionStores.unpack!(folder, "0.120.0/subfork")
      {:ok, %{audit: audit}} = Sessions.usage(codex_home: home, scope: :turn)
      assert audit.counted.usage["input_tokens"] == 9332
      assert audit.inherited.usage["input_tokens"] > 0
      assert audit.repeated.calls > 0
      assert audit.reverted == %{calls: 0, usage: audit.other_threads.usage}

      home = SessionStores.unpack!(folder, "0.171.0/revert")
      {:ok, %{audit: audit}} = Sessions.usage(codex_home: home, scope: :turn)
      assert %{calls: 1, usage: %{"input_tokens" => 1111}} = audit.reverted
    end

    test "reports invalid options", %{home: home} do
      wrong = &Sessions.usage([codex_home: home] ++ &1)
      assert {:error, %OptionError{key: :scope}} = wrong.(scope: :galaxy)
      assert {:error, %OptionError{path: [:prices, "m"]}} = wrong.(prices: %{"m" => 5})
      assert {:error, {:session_not_found, "none"}} = Sessions.usage("none", codex_home: home)
    end
  end
end
