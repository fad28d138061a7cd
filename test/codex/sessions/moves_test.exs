defmodule Codex.Sessions.MovesTest do
  use ExUnit.Case, async: true

  alias Codex.{FileSystem, Sessions, Threads}
  alias Codex.Home.Isolated

  setup do
    {:ok, home} = Isolated.create()
    %{home: home, opts: [codex_home: home]}
  end

  @id "01a21974-9a2c-7ee2-99c0-c701c4970c46"
  @segment "01a21974-aaaa-7ee2-99c0-c701c4970c46"
  @other "01a21975-0000-7ee2-99c0-c701c4970c46"
  @day "sessions/2026/11/26"

  defp rollout(id, opts \\ []) do
    meta = Map.merge(%{id: id, timestamp: "2026-11-26T20:03:21.848Z", cwd: "/srv"}, Map.new(opts))
    line = %{timestamp: "2026-11-26T20:03:21.848Z", type: "session_meta", payload: meta}
    Codex.JSON.encode!(line) <> "\n"
  end

  defp write(home, path, text) do
    file = Path.join(home, path)
    File.mkdir_p!(Path.dirname(file))
    File.write!(file, text)
    path
  end

  defp name(id, ending \\ ".jsonl"), do: "rollout-2026-11-26T20-03-21-#{id}#{ending}"

  defp files(home) do
    for file <- Path.wildcard(home <> "/{sessions,archived_sessions}/**", match_dot: true),
        File.regular?(file),
        do: Path.relative_to(file, home)
  end

  test "all files of a thread move, and come back to the folder of their day",
       %{home: home} = c do
    first = write(home, "#{@day}/#{name(@id)}", rollout(@id))
    second = write(home, "#{@day}/#{name("#{@id}_#{@segment}")}", rollout(@id))
    other = write(home, "#{@day}/#{name(@other)}", rollout(@other, forked_from_id: @id))

    assert {:ok, done} = Sessions.archive(@id, c.opts)
    assert done.id == @id and done.referrers == [@other]
    assert Enum.map(done.files, & &1.from) == [first, second]
    assert Enum.all?(done.files, &String.starts_with?(&1.to, "archived_sessions/rollout-"))
    assert length(files(home)) == 3 and other in files(home)
    assert {:ok, %{archived: true}} = Sessions.find(@id, c.opts)
    assert {:error, {:already_archived, @id}} = Sessions.archive(@id, c.opts)

    assert {:ok, _} = Sessions.unarchive(@id, c.opts)
    assert Enum.sort(files(home)) == Enum.sort([first, second, other])
    assert {:error, {:not_archived, @id}} = Sessions.unarchive(@id, c.opts)
    assert {:ok, %{referrers: nil}} = Sessions.archive(@id, [referrers: false] ++ c.opts)
  end

  test "copies that readers leave out go, too", %{home: home} = c do
    write(home, "#{@day}/#{name(@id)}", rollout(@id))
    write(home, "#{@day}/#{name(@id, ".jsonl.zst")}", "compressed")
    write(home, "archived_sessions/#{name(@id)}", rollout(@id))
    # The archive has a file of that name already.
    assert {:error, {:file_exists, "archived_sessions/" <> _}} = Sessions.archive(@id, c.opts)
    assert length(files(home)) == 3

    assert {:ok, %{files: removed}} = Sessions.delete(@id, c.opts)
    assert length(removed) == 3
    assert files(home) == []
    assert {:error, {:session_not_found, @id}} = Sessions.delete(@id, c.opts)
  end

  test "a thread that holds the history of another is deleted by force alone", c do
    write(c.home, "#{@day}/#{name(@id)}", rollout(@id))
    base = %{thread_id: @id, end_ordinal_exclusive: 1, end_byte_offset: 10}
    write(c.home, "#{@day}/#{name(@other)}", rollout(@other, history_base: base))

    assert {:error, {:session_referenced, @id, [@other]}} = Sessions.delete(@id, c.opts)
    assert length(files(c.home)) == 2
    assert {:ok, %{referrers: [@other]}} = Sessions.delete(@id, [force: true] ++ c.opts)
    assert length(files(c.home)) == 1
  end

  test "a thread that is open elsewhere stays", %{home: home} = c do
    write(home, "#{@day}/#{name(@id)}", rollout(@id))
    File.mkdir_p!(home <> "/thread-writer-locks")
    {:ok, lock} = FileSystem.lock(home <> "/thread-writer-locks/#{@id}.lock")
    for job <- [:archive, :delete], do: assert({:error, {:session_in_use, @id}} = run(job, c))
    FileSystem.unlock(lock)
    assert {:ok, _} = run(:archive, c)
    assert Path.wildcard(home <> "/thread-writer-locks/*.lock") == []
  end

  defp run(job, c), do: apply(Sessions, job, [@id, c.opts])

  test "a file that belongs to another thread stays", c do
    path = write(c.home, "#{@day}/#{name(@id)}", rollout(@other))
    assert {:error, {:wrong_session_file, ^path, @other}} = Sessions.archive(@id, c.opts)
    assert files(c.home) == [path]
  end

  test "if a file cannot move, the others come back", %{home: home} = c do
    paths =
      for id <- [@id, "#{@id}_#{@segment}"], do: write(home, "#{@day}/#{name(id)}", rollout(@id))

    # The second one has no place: a directory of its name, which no check of files sees.
    File.mkdir_p!(home <> "/#{@day}/.deleted-" <> name("#{@id}_#{@segment}") <> "/x")
    assert {:error, {:write_failed, _, _}} = Sessions.delete(@id, c.opts)
    assert Enum.sort(files(home)) == Enum.sort(paths)
  end

  @tag :codex_cli
  test "the CLI agrees with what was moved" do
    model = Codex.Test.start!(["one", "two"])
    {:ok, conn} = Codex.AppServer.connect(Codex.Test.options(model), cwd: model.workspace)
    opts = [codex_home: Codex.Test.options(model)[:codex_home]]

    [first, second] =
      for prompt <- ["first", "second"] do
        {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
        {:ok, result} = Codex.Thread.run(thread, prompt)
        result.thread.thread_id
      end

    # The server has both open.
    assert {:error, {:session_in_use, ^first}} = Sessions.archive(first, opts)
    Codex.AppServer.disconnect(conn)
    assert {:ok, _} = eventually(fn -> Sessions.archive(first, opts) end)
    assert {:ok, _} = Sessions.delete(second, opts)

    {:ok, conn} = Codex.AppServer.connect(Codex.Test.options(model), cwd: model.workspace)
    assert listed(conn, true) == [first]
    assert listed(conn, false) == []
    assert {:ok, _} = Sessions.unarchive(first, opts)
    assert listed(conn, false) == [first]
    assert {:ok, thread} = Codex.resume_thread(first, [], transport: {:app_server, conn})
    assert thread.thread_id == first
  end

  defp listed(conn, archived),
    do: for(%{"id" => id} <- Threads.list(conn, archived: archived), do: id)

  # The CLI gives its locks back when it ends.
  defp eventually(fun, left \\ 100) do
    case fun.() do
      {:error, {:session_in_use, _}} when left > 0 ->
        Process.sleep(50)
        eventually(fun, left - 1)

      other ->
        other
    end
  end
end
