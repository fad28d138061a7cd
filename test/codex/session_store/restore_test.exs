defmodule Codex.SessionStore.RestoreTest do
  # Files of all versions of the CLI through a store and back, conflicts, and hostile stores.
  use ExUnit.Case, async: true
  doctest Codex.SessionStore
  doctest Codex.SessionStore.Name
  doctest Codex.SessionStore.Status

  import Codex.Mirrored
  import Codex.SessionLines

  alias Codex.{Sessions, SessionStore, SessionStores}
  alias Codex.SessionStore.Memory

  @moduletag :tmp_dir
  @id id()
  @key {@id, file_name()}

  defp home!(dir, name) do
    home = Path.join(dir, name)
    File.mkdir_p!(home)
    home
  end

  defp put({module, opts, _settings}, key, bytes), do: module.append(opts, key, 0, bytes)
  defp put({module, opts}, key, bytes), do: module.append(opts, key, 0, bytes)

  defp materialise(store, home, id \\ @id),
    do: SessionStore.materialise(store, id, codex_home: home)

  defp sync(store, home, id \\ @id), do: SessionStore.sync(store, id, codex_home: home)
  defp status(store, home, id \\ @id), do: SessionStore.status(store, id, codex_home: home)

  @tag timeout: 300_000
  test "threads of all recorded homes come back byte by byte", %{tmp_dir: dir} do
    counts =
      for {name, home, _expected} <- SessionStores.unpack!(dir) do
        store = memory!(batch_bytes: 4_096)
        {:ok, %{sessions: sessions}} = Sessions.list(codex_home: home, limit: 1_000)
        other = home!(dir, "other-#{:erlang.phash2(name)}")

        for %{id: id, archived: archived} <- sessions do
          case sync(store, home, id) do
            {:ok, status} ->
              assert %{state: :current, behind: 0} = status, "#{name} #{id}"
              {round_trip(name, store, home, other, id), archived}

            {:error, {:unreadable_session, _file, :damaged}} ->
              {:damaged, archived}
          end
        end
      end

    counts = counts |> List.flatten() |> Enum.frequencies()
    assert counts[{:ok, false}] > 80
    assert counts[{:ok, true}] > 0
    assert counts[{:damaged, false}] < 3
  end

  defp round_trip(name, store, home, other, id) do
    assert {:ok, %{state: :current}} = status(store, home, id)
    whole = Map.new(in_home(home, id), fn {file, bytes} -> {file, whole(bytes)} end)
    assert in_store(store, id) == Map.reject(whole, &match?({_, ""}, &1)), "#{name} #{id}"

    case materialise(store, other, id) do
      {:ok, files} ->
        # A fork before its parent needs only a part of it.
        assert Enum.all?(files, &(&1.state in [:written, :same, :extended])), "#{name} #{id}"
        assert in_home(other, id) == in_store(store, id), "#{name} #{id}"
        assert {:ok, again} = materialise(store, other, id)
        assert Enum.all?(again, &(&1.state == :same))
        {:ok, there} = Sessions.read(id, codex_home: other, inherited: true)
        {:ok, here} = Sessions.read(id, codex_home: home, inherited: true)
        assert strip(there) == strip(here), "#{name} #{id}"
        :ok

      # The home itself lacks the history.
      {:error, {:session_not_stored, _rollout}} ->
        :missing

      {:error, reason} ->
        flunk("#{name} #{id}: #{inspect(reason)}")
    end
  end

  defp whole(bytes) do
    case :binary.matches(bytes, "\n") do
      [] -> ""
      matches -> binary_part(bytes, 0, elem(List.last(matches), 0) + 1)
    end
  end

  # Half a last line has no turn and no event.
  defp strip(transcript),
    do: for(turn <- transcript.turns, do: {turn.id, turn.prompt, turn.status, turn.events})

  describe "a home that" do
    setup %{tmp_dir: dir} do
      store = memory!()
      one = home!(dir, "one")
      write!(one, [meta(), started(), prompt("hello")])
      {:ok, _status} = sync(store, one)
      %{store: store, one: one, two: home!(dir, "two")}
    end

    @tag :zstd
    test "has an older file gets the rest, also in the archive and compressed", c do
      for {folder, compressed} <- [{day(), false}, {day(), true}, {"archived_sessions", true}] do
        home = home!(c.two, "#{:erlang.unique_integer([:positive])}")
        path = Path.join([home, folder, file_name()])
        File.mkdir_p!(Path.dirname(path))
        File.write!(path, [meta(), started()])
        if compressed, do: {_, 0} = System.cmd("zstd", ["--rm", "-q", path])
        assert {:ok, %{state: :current, behind: 0}} = status(c.store, home)
        assert {:ok, [%{state: :extended, path: written}]} = materialise(c.store, home)
        assert written == Path.join(folder, file_name())
        assert File.read!(path) == IO.iodata_to_binary([meta(), started(), prompt("hello")])
        refute File.exists?(path <> ".zst")
      end
    end

    test "has more keeps it, and sends it", c do
      path = write!(c.two, [meta(), started(), prompt("hello"), answer("more")])
      assert {:ok, %{state: :behind, behind: behind}} = status(c.store, c.two)
      assert behind == byte_size(answer("more"))
      assert {:ok, [%{state: :longer}]} = materialise(c.store, c.two)
      assert {:ok, %{state: :current, sent: ^behind}} = sync(c.store, c.two)
      assert in_store(c.store, @id)[file_name()] == File.read!(path)
    end

    test "differs is a conflict that names both lengths, and nothing changes", c do
      stored = byte_size(meta() <> started() <> prompt("hello"))

      for lines <- [
            [meta(), started(), prompt("HELLO")],
            [meta(), started(), prompt("other"), answer("longer")],
            [meta(), started(), answer("x")]
          ] do
        local = IO.iodata_to_binary(lines)
        size = byte_size(local)
        conflict = {:session_store_conflict, file_name(), stored, size}
        path = write!(c.two, local)
        assert materialise(c.store, c.two) == {:error, conflict}
        assert sync(c.store, c.two) == {:error, conflict}
        assert {:ok, %{state: :failed, error: error}} = status(c.store, c.two)
        assert error.message =~ "#{stored} bytes in the store, #{size} in the home"
        assert File.read!(path) == local
        assert in_store(c.store, @id) == in_home(c.one, @id)
        assert File.ls!(Path.dirname(path)) == [file_name()]
      end
    end

    test "has the thread open in a CLI is not written", c do
      write!(c.two, [meta(), started()])
      locks = home!(c.two, "thread-writer-locks")
      {:ok, lock} = Codex.FileSystem.lock(Path.join(locks, @id <> ".lock"))
      assert materialise(c.store, c.two) == {:error, {:session_in_use, @id}}
      assert in_home(c.two, @id)[file_name()] == meta() <> started()
      Codex.FileSystem.unlock(lock)
      assert {:ok, [%{state: :extended}]} = materialise(c.store, c.two)
      assert [_only] = File.ls!(Path.join(c.two, day()))
    end

    test "has a link out of itself is not written", c do
      outside = home!(c.two, "outside")
      home = home!(c.two, "home")
      File.mkdir_p!(Path.join(home, "sessions"))
      File.ln_s!(outside, Path.join(home, "sessions/2026"))

      assert materialise(c.store, home) ==
               {:error, {:invalid_stored_session, file_name(), :link}}

      assert File.ls!(outside) == []
      File.rm!(Path.join(home, "sessions/2026"))
      File.mkdir_p!(Path.join(home, day()))
      path = Path.join([home, day(), file_name()])
      File.ln_s!(Path.join(outside, "target"), path)

      assert materialise(c.store, home) ==
               {:error, {:file_exists, Path.join(day(), file_name())}}

      assert File.ls!(outside) == []
      assert [_only_the_link] = File.ls!(Path.join(home, day()))

      # A whole store of sessions on another disk is fine.
      linked = home!(c.two, "linked")
      File.ln_s!(outside, Path.join(linked, "sessions"))
      assert {:ok, [%{state: :written}]} = materialise(c.store, linked)
    end
  end

  test "half a line is not sent until its newline comes", %{tmp_dir: dir} do
    store = memory!()
    line = answer("half")
    path = write!(dir, [meta(), binary_part(line, 0, 30)])
    size = byte_size(meta())
    assert {:ok, %{sent: ^size}} = sync(store, dir)
    File.write!(path, binary_part(line, 30, byte_size(line) - 30), [:append])
    assert {:ok, _status} = sync(store, dir)
    assert in_store(store, @id)[file_name()] == meta() <> line
  end

  describe "a hostile store" do
    setup %{tmp_dir: dir}, do: %{home: home!(dir, "home"), store: memory!()}

    test "cannot name a path", %{home: home, store: store} do
      for name <- [
            "../../x.jsonl",
            "rollout-x.jsonl",
            file_name() <> ".zst",
            "a\0b",
            "",
            "/etc/x"
          ] do
        other = memory!()
        :ok = put(other, {@id, name}, meta())
        assert materialise(other, home) == {:error, {:invalid_stored_session, name, :name}}
      end

      id = String.replace(@id, "b", "c")
      :ok = put(store, {id, file_name()}, meta())

      assert materialise(store, home, id) ==
               {:error, {:invalid_stored_session, file_name(), :name}}

      for id <- ["../x", "", "01a2", @id <> "\n", nil, 5, String.upcase(@id)] do
        assert {:error, %Codex.OptionError{}} = materialise(store, home, id)
      end

      assert File.ls!(home) == []
    end

    test "cannot have another content than whole lines of this thread", %{home: home} do
      other = String.replace(meta(), @id, String.replace(@id, "b", "c"))

      for {bytes, error} <- [
            {String.trim_trailing(meta()), {:invalid_stored_session, file_name(), :content}},
            {meta() <> "half", {:invalid_stored_session, file_name(), :content}},
            {"no json\n", {:invalid_stored_session, file_name(), :content}},
            {~s({"payload":{"id":5}}\n), {:invalid_stored_session, file_name(), :content}},
            {other, {:wrong_session_file, file_name(), String.replace(@id, "b", "c")}}
          ] do
        store = memory!()
        :ok = put(store, @key, bytes)
        assert materialise(store, home) == {:error, error}

        assert Path.wildcard(home <> "/**/*", match_dot: true) |> Enum.filter(&File.regular?/1) ==
                 []
      end
    end

    test "cannot fill the disk or the memory", %{home: home} do
      long = ~s({"payload":{"id":"#{@id}","text":"#{String.duplicate("x", 3_000_000)}"}}\n)
      store = memory!(max_line_bytes: 1_000_000)
      :ok = put(store, @key, long)

      assert materialise(store, home) ==
               {:error, {:session_line_too_long, file_name(), 1_000_000}}

      store = memory!(max_file_bytes: 2_000_000)
      :ok = put(store, @key, long)

      assert materialise(store, home) ==
               {:error, {:invalid_stored_session, file_name(), {:too_large, 2_000_000}}}
    end

    test "cannot lead in circles", %{home: home, store: store} do
      base = ~s("history_base":{"thread_id":"#{@id}","end_byte_offset":10},)
      :ok = put(store, @key, String.replace(meta(), ~s("id":), base <> ~s("id":)))
      assert {:ok, [_file]} = materialise(store, home)
    end
  end

  test "a line that is too long is said, and nothing after it is sent", %{tmp_dir: dir} do
    store = memory!(max_line_bytes: 1_000_000)
    write!(dir, [meta(), answer(String.duplicate("x", 1_500_000)), answer("after")])
    assert sync(store, dir) == {:error, {:session_line_too_long, file_name(), 1_000_000}}
    assert in_store(store, @id)[file_name()] == meta()
  end

  test "unknown threads, stores and options are errors", %{tmp_dir: dir} do
    store = memory!()
    assert sync(store, dir) == {:error, {:session_not_found, @id}}
    assert materialise(store, dir) == {:error, {:session_not_stored, @id}}
    assert {:error, %Codex.OptionError{}} = SessionStore.sync(store, @id, home: dir)

    assert {:error, %Codex.OptionError{} = error} =
             SessionStore.new({Memory, [key: "sk-1"], flush: 1})

    assert Exception.message(error) =~ "flush_ms"

    for wrong <- [nil, {String, []}, {Memory, "x"}, {Memory, [], [], []}, Memory] do
      assert {:error, error} = SessionStore.threads(wrong)
      assert Exception.message(error) =~ "Codex.SessionStore"
    end
  end

  test "threads are listed, and deleted", %{tmp_dir: dir} do
    store = memory!()
    write!(dir, [meta()])
    {:ok, _status} = sync(store, dir)
    assert SessionStore.threads(store) == {:ok, [@id]}
    assert SessionStore.threads(store, after: @id) == {:ok, []}
    assert SessionStore.files(store, @id) == {:ok, [{file_name(), byte_size(meta())}]}
    assert SessionStore.delete(store, @id) == :ok
    assert SessionStore.threads(store) == {:ok, []}
  end

  test "options of the adapter are not shown, and threads without a session file are refused" do
    store = {Memory, [name: Nobody, key: "sk-secret"]}
    {:ok, thread} = Codex.start_thread([session_store: store], session_store: store)
    refute inspect(thread, limit: :infinity) =~ "sk-secret"
    {:ok, known} = SessionStore.new(store)
    assert inspect(known) == "#Codex.SessionStore<Codex.SessionStore.Memory>"
    assert {:error, error} = Codex.start_thread([], session_store: {String, [key: "sk-secret"]})
    refute inspect(Map.from_struct(error)) =~ "sk-secret"
    {:ok, thread} = Codex.start_thread([], session_store: store, ephemeral: true)

    assert Codex.Thread.run(thread, "x") ==
             {:error, {:unsupported_option, :session_store, :ephemeral}}

    {:ok, thread} = Codex.start_thread([], session_store: store, remote: "ws://127.0.0.1:9")

    assert Codex.Thread.run(thread, "x") ==
             {:error, {:unsupported_option, :session_store, :remote}}
  end
end
