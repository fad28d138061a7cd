defmodule Codex.Sessions.TailTest do
  # Sessions that are followed while their files grow, move and go.
  use ExUnit.Case, async: true

  import Codex.SessionLines
  import Codex.Tailing
  alias Codex.{Events, Items, Sessions}

  @moduletag :tmp_dir

  @id id()

  setup %{tmp_dir: home} do
    path = write!(home, [meta(), started(), prompt("hello")])
    %{home: home, path: path, opts: [codex_home: home, from: :start, poll_ms: 2]}
  end

  defp append!(path, bytes), do: File.write!(path, bytes, [:append])

  defp say!(path, text) do
    append!(path, answer(text))
    assert_answer(text)
  end

  defp assert_answer(text) do
    assert_receive {:tail, %Events.ItemCompleted{item: %Items.AgentMessage{text: ^text}}}, 30_000
  end

  defp assert_beginning do
    assert_receive {:tail, %Events.ThreadStarted{thread_id: @id}}, 30_000
    assert_receive {:tail, %Events.TurnStarted{turn_id: turn}}, 30_000
    assert turn == turn()
    assert_receive {:tail, %Events.ItemCompleted{item: %Items.UserMessage{}}}, 30_000
  end

  # The plain file is gone when the compressed one is whole.
  defp compress!(path) do
    {_out, 0} = System.cmd("zstd", ["--rm", "-q", path])
    path <> ".zst"
  end

  defp decompress!(path) do
    {_out, 0} = System.cmd("zstd", ["-d", "--rm", "-q", path])
    String.replace_suffix(path, ".zst", "")
  end

  test "events come as their lines are written", %{path: path, opts: opts} do
    follow(@id, opts)
    assert_beginning()
    append!(path, [record(10, 3), answer("one"), answer("two")])
    assert_answer("one")
    assert_answer("two")
    append!(path, completed())
    assert_receive {:tail, %Events.TurnCompleted{usage: %{"input_tokens" => 10}}}, 30_000
    refute_received _another
  end

  test "new events only, with the state of the old ones", %{path: path, opts: opts} do
    append!(path, [record(10, 3), answer("old"), binary_part(answer("half"), 0, 80)])
    follow(@id, opts ++ [from: :end])
    refute_receive {:tail, _event}, 100
    rest = answer("half") |> binary_part(80, byte_size(answer("half")) - 80)
    append!(path, [rest, completed()])
    assert_answer("half")

    assert_receive {:tail, %Events.TurnCompleted{turn_id: turn, usage: %{"input_tokens" => 10}}},
                   30_000

    assert turn == turn()
    refute_received _another
  end

  test "half a line waits for its newline", %{path: path, opts: opts} do
    follow(@id, opts)
    assert_beginning()

    for <<byte <- answer("byte by byte") |> String.trim_trailing("\n")>>,
      do: append!(path, <<byte>>)

    refute_receive {:tail, _event}, 100
    append!(path, "\n")
    assert_answer("byte by byte")
  end

  test "a line of 10 MB grows in pieces", %{path: path, opts: opts} do
    follow(@id, opts)
    assert_beginning()
    long = String.duplicate("long ", 2 * 1024 * 1024)
    pieces = for <<piece::binary-size(199_999) <- answer(long)>>, do: piece
    rest = rem(byte_size(answer(long)), 199_999)
    Enum.each(pieces, &append!(path, &1))
    refute_received {:tail, _event}
    append!(path, [binary_part(answer(long), byte_size(answer(long)), -rest), answer("next")])
    assert_answer(long)
    assert_answer("next")
  end

  test "bad lines are left out, and a line glued to half a line is read", %{path: path} = c do
    follow(@id, c.opts)
    assert_beginning()
    half = binary_part(answer("lost"), 0, 100)
    append!(path, ["no json\n", <<0, 0, 10>>, <<0xFF, 10>>, half, answer("salvaged")])
    assert_answer("salvaged")
    refute_received _another
  end

  @tag :zstd
  test "archived, compressed, written back and unarchived", %{home: home, path: path} = c do
    tail = follow(@id, c.opts)
    assert_beginning()
    store = [codex_home: home]
    file = Path.join([home, "archived_sessions", file_name()])

    for round <- 1..3 do
      say!(path, "live #{round}")
      {:ok, _moved} = Sessions.archive(@id, store)
      say!(file, "archived #{round}")
      {:ok, _moved} = Sessions.unarchive(@id, store)

      # Half a line at the end of the compressed file is whole when it is plain again.
      {half, rest} = String.split_at(answer("half #{round}"), 90)
      append!(path, half)
      packed = compress!(path)
      assert eventually(fn -> open_files() |> Enum.any?(&(&1 == packed)) end)
      ^path = decompress!(packed)
      append!(path, rest)
      assert_answer("half #{round}")
      ^packed = compress!(path)
      {:ok, _moved} = Sessions.archive(@id, store)
      {:ok, _moved} = Sessions.unarchive(@id, store)
      ^path = decompress!(packed)
    end

    refute_received _another
    stop(tail)
  end

  @tag :zstd
  test "a moved file that is being written back is read in its whole form", c do
    follow(@id, c.opts)
    assert_beginning()
    whole = File.read!(c.path)
    packed = compress!(c.path)
    assert eventually(fn -> packed in open_files() end)

    # Both forms appear at the new place at once, the plain one with half of its lines.
    archive = Path.join(c.home, "archived_sessions")
    new = Path.join(c.home, "new")
    File.mkdir_p!(new)
    File.write!(Path.join(new, file_name()), binary_part(whole, 0, 100))
    File.rename!(packed, Path.join(new, file_name() <> ".zst"))
    File.rename!(new, archive)
    refute_receive _any, 50
    File.write!(Path.join(archive, file_name()), [whole, answer("more")])
    assert_answer("more")
  end

  @tag :zstd
  test "a plain file beside the compressed one counts when it has all lines", c do
    whole = File.read!(c.path)
    packed = compress!(c.path)
    follow(@id, c.opts)
    assert_beginning()
    File.write!(c.path, binary_part(whole, 0, 100))
    refute_receive _any, 50
    File.write!(c.path, [whole, answer("more")])
    assert_answer("more")
    File.rm!(packed)
    say!(c.path, "most")
  end

  test "a deleted file ends the stream, after the last line", %{path: path, opts: opts} do
    follow(@id, opts)
    assert_beginning()
    append!(path, String.trim_trailing(answer("without a newline"), "\n"))
    refute_receive _any, 50
    File.rm!(path)
    assert_answer("without a newline")
    assert_receive {:tail, :ended}, 30_000
    assert open_files(day_folder(path)) == []
  end

  defp day_folder(path), do: Path.dirname(path)

  test "a file that was never there again ends the stream", %{path: path, opts: opts} do
    tail = Sessions.tail(@id, opts)
    File.rm!(path)
    assert Enum.to_list(tail) == []
  end

  test "a shorter file is an error", %{path: path, opts: opts} do
    new = path <> ".new"

    for {to, text} <- [
          {path, meta()},
          {new, meta()},
          {new, [meta(), String.duplicate(" ", 5_000)]}
        ] do
      File.write!(path, [meta(), started(), prompt("hello")])
      follow(@id, opts)
      assert_beginning()
      File.write!(to, text)
      if to == new, do: File.rename!(new, path)
      assert_receive {:tail, {:raised, %Codex.Error{} = error}}, 30_000
      assert error.message =~ "shorter than"
      assert open_files(day_folder(path)) == []
    end
  end

  test "a halted stream and a dead reader close their file", %{path: path, opts: opts} do
    folder = day_folder(path)
    assert [%Events.ThreadStarted{}] = @id |> Sessions.tail(opts) |> Enum.take(1)
    assert open_files(folder) == []
    assert [_] = @id |> Sessions.stream(codex_home: opts[:codex_home]) |> Enum.take(1)
    assert open_files(folder) == []

    tail = follow(@id, opts)
    assert_beginning()
    assert open_files(folder) == [path]
    stop(tail)
    assert eventually(fn -> open_files(folder) == [] end)
    assert {:messages, []} = Process.info(self(), :messages)
  end

  test "another file of the thread follows", %{home: home, path: path, opts: opts} do
    follow(@id, opts)
    assert_beginning()
    append!(path, answer("reverted"))

    # Today's folder, and the archive.
    segments = for n <- 1..2, do: "01a21974-aaaa-7000-8000-00000000000#{n}"
    day = Calendar.strftime(Date.utc_today(), "sessions/%Y/%m/%d")

    for {folder, segment} <- Enum.zip([day, "archived_sessions"], segments) do
      time = Calendar.strftime(DateTime.utc_now(), "%Y-%m-%dT%H-%M-%S")
      file = Path.join([home, folder, "rollout-#{time}-#{@id}_#{segment}.jsonl"])
      File.mkdir_p!(Path.dirname(file))
      File.write!(file, meta())
      assert_receive {:tail, %Events.ThreadStarted{}}, 30_000
      append!(file, [started(), answer("in #{segment}")])
      assert_receive {:tail, %Events.TurnStarted{}}, 30_000
      assert_answer("in #{segment}")
    end

    assert_answer("reverted")
    refute_received _another
  end

  test "invalid arguments raise", %{opts: opts} do
    assert_raise Codex.Error, ~r/no recorded thread/, fn -> Sessions.tail("none", opts) end

    assert_raise Codex.Error, ~r/from/, fn -> Sessions.tail(@id, opts ++ [from: :middle]) end
    assert_raise Codex.Error, ~r/poll_ms/, fn -> Sessions.tail(@id, opts ++ [poll_ms: 0]) end
  end
end
