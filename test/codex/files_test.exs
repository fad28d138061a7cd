defmodule Codex.FilesTest do
  # The staging directory is one for the application.
  use ExUnit.Case, async: false

  import Bitwise
  import Codex.TelemetryStandIn

  alias Codex.{Files, OddFiles, OptionError, Stub, Test, Thread}
  alias Codex.Files.{Attachment, Registry}

  @moduletag :tmp_dir

  doctest Files

  setup %{tmp_dir: dir} do
    :ok = Files.reset!()
    on_exit(fn -> put_dir(nil) && Files.reset!() end)
    path = Path.join(dir, "a.txt")
    File.write!(path, "content")
    %{path: path}
  end

  defp put_dir(nil), do: Application.delete_env(:codex_sdk, :staging_dir)
  defp put_dir(dir), do: Application.put_env(:codex_sdk, :staging_dir, dir)

  defp mode(path), do: File.stat!(path).mode &&& 0o777

  defp restart do
    pid = Process.whereis(Registry)
    Process.exit(pid, :kill)
    assert Stub.eventually(fn -> Process.whereis(Registry) not in [nil, pid] end)
  end

  test "a file is copied once per content, and only for its owner", %{path: path, tmp_dir: dir} do
    assert {:ok, %Attachment{} = one} = Files.stage(path, ttl_ms: 1_000)
    sum = :crypto.hash(:sha256, "content") |> Base.encode16(case: :lower)

    assert %{id: ^sum, checksum: ^sum, name: "a.txt", size: 7, persist: false, ttl_ms: 1_000} =
             one

    assert one.path == Path.join([Files.staging_dir(), sum, "a.txt"])
    assert File.read!(one.path) == "content"
    assert {mode(one.path), mode(Path.dirname(one.path))} == {0o600, 0o700}
    assert mode(Files.staging_dir()) == 0o700

    File.rm!(path)
    File.write!(Path.join(dir, "b.txt"), "content")
    assert {:ok, two} = Files.stage(Path.join(dir, "b.txt"), ttl_ms: 5, persist: true, name: "b")
    assert %{id: ^sum, name: "a.txt", persist: true, ttl_ms: 1_000} = two
    assert {:ok, three} = Files.stage(Path.join(dir, "b.txt"), ttl_ms: :infinity)
    assert %{persist: true, ttl_ms: :infinity} = three
    assert Files.list_staged() == [three]
  end

  test "a copy that was removed is made again", %{path: path} do
    {:ok, one} = Files.stage(path)
    File.rm_rf!(Path.dirname(one.path))
    assert {:ok, %{path: same}} = Files.stage(path, name: "other")
    assert same == one.path
    assert File.read!(same) == "content"
  end

  test "copies end with their time, but for those that persist", %{path: path, tmp_dir: dir} do
    for name <- ~w(kept forever), do: File.write!(Path.join(dir, name), name)
    {:ok, gone} = Files.stage(path, ttl_ms: 0)
    {:ok, kept} = Files.stage(Path.join(dir, "kept"), ttl_ms: 0, persist: true)
    {:ok, forever} = Files.stage(Path.join(dir, "forever"), ttl_ms: :infinity)

    assert Files.metrics() == %{
             total_count: 3,
             total_bytes: 18,
             persistent_count: 1,
             persistent_bytes: 4,
             expirable_count: 1,
             expirable_bytes: 7
           }

    assert Files.force_cleanup() == :ok

    assert Files.list_staged() |> Enum.map(& &1.id) |> Enum.sort() ==
             Enum.sort([kept.id, forever.id])

    refute File.exists?(Path.dirname(gone.path))
    assert File.exists?(kept.path)
    assert Files.cleanup!() == :ok
    assert Files.reset!() == :ok
    refute File.exists?(Files.staging_dir())
    assert Files.list_staged() == []
  end

  test "the clean-up comes by itself", %{path: path} do
    Application.put_env(:codex_sdk, :attachment_cleanup_interval_ms, 5)
    on_exit(fn -> Application.delete_env(:codex_sdk, :attachment_cleanup_interval_ms) end)
    {:ok, _} = Files.stage(path, ttl_ms: 0)
    restart()
    assert Stub.eventually(fn -> Files.list_staged() == [] end)
  end

  test "copies outlive a crash of the process", %{path: path} do
    {:ok, one} = Files.stage(path)
    restart()
    assert Files.list_staged() == [one]
    assert File.exists?(one.path)
  end

  test "a configured directory is found again, and foreign and torn files are left or removed",
       %{path: path, tmp_dir: dir} do
    staging = Path.join(dir, "deep/staging")
    put_dir(staging)
    {:ok, one} = Files.stage(path, persist: true)
    assert String.starts_with?(one.path, staging)

    sum = String.duplicate("ab", 32)
    torn = Path.join(staging, sum <> ".json")
    File.write!(torn, ~S({"name":"../../x","size":1,"persist":true,"inserted_at":0}))
    File.write!(Path.join(staging, "note.txt"), "mine")
    File.write!(Path.join(staging, ".staged.123"), "half")
    assert Files.list_staged() == [one]

    Files.force_cleanup()
    assert File.exists?(torn)

    for name <- [sum <> ".json", ".staged.123", "note.txt"],
        do: File.touch!(Path.join(staging, name), System.os_time(:second) - 7_200)

    Files.force_cleanup()

    assert Enum.sort(File.ls!(staging)) ==
             Enum.sort([".lock", "note.txt", one.id, one.id <> ".json"])

    Files.reset!()
    assert File.ls!(staging) == ["note.txt"]
  end

  test "processes that stage the same content at once get one copy", %{path: path} do
    ids =
      1..20
      |> Task.async_stream(fn n -> Files.stage(path, name: "n#{n}") end, max_concurrency: 20)
      |> Enum.map(fn {:ok, {:ok, attachment}} -> attachment.path end)

    assert [_one] = Enum.uniq(ids)
    assert Enum.sort(File.ls!(Files.staging_dir())) |> length() == 3
  end

  test "a caller that ends in mid-copy leaves nothing", %{tmp_dir: dir} do
    big = Path.join(dir, "big")
    {:ok, file} = :file.open(big, [:write, :raw])
    {:ok, _} = :file.position(file, 400_000_000)
    :ok = :file.truncate(file)
    :ok = :file.close(file)

    {:ok, staging} = Registry.folder()
    pid = spawn(fn -> Files.stage(big) end)

    temporary = fn ->
      staging |> File.ls!() |> Enum.filter(&String.starts_with?(&1, ".staged."))
    end

    assert Stub.eventually(fn -> temporary.() != [] end)
    Process.exit(pid, :kill)
    assert Stub.eventually(fn -> temporary.() == [] end)
    assert Files.list_staged() == []
  end

  test "anything but a regular file is an error that names it", %{tmp_dir: dir} do
    path = Path.join(dir, "odd")

    for {kind, put} <- OddFiles.all() do
      put.(OddFiles.remove!(path))
      assert {^kind, {:error, {:unreadable, ^path, reason}}} = {kind, Files.stage(path)}
      assert is_binary(Codex.Error.normalize({:unreadable, path, reason}).message)
    end

    OddFiles.remove!(path)
    assert Files.stage(path) == {:error, {:unreadable, path, :enoent}}
    assert Files.list_staged() == []
  end

  test "a staging directory that cannot be written is an error", %{path: path, tmp_dir: dir} do
    put_dir(Path.join(path, "below"))
    below = Path.join(path, "below")
    assert Files.stage(path) == {:error, {:write_failed, below, :enotdir}}
    file = Path.join(dir, "file")
    File.write!(file, "")
    put_dir(file)
    assert {:error, {:write_failed, ^file, :enotdir}} = Files.stage(path)
    assert Files.list_staged() == []
    assert Files.force_cleanup() == :ok
  end

  test "wrong options are errors", %{path: path} do
    for name <- ["", ".", "..", "a/b", "a\0b", String.duplicate("x", 256), 1, <<255>>] do
      assert {:error, %OptionError{path: [:name]}} = Files.stage(path, name: name)
    end

    for ttl <- [-1, 1.5, "1", :never] do
      assert {:error, %OptionError{path: [:ttl_ms]}} = Files.stage(path, ttl_ms: ttl)
    end

    assert {:error, %OptionError{nearest: :ttl_ms}} = Files.stage(path, ttl: 1)
    assert {:error, %OptionError{}} = Files.stage("/")
    assert Files.list_staged() == []
  end

  test "events tell of copies", %{path: path} do
    load!()
    listen!()
    {:ok, %{id: id}} = Files.stage(path, ttl_ms: 0)
    {:ok, _} = Files.stage(path, ttl_ms: 0)
    Files.force_cleanup()
    told = told()
    staged = [:attachment, :staged]
    assert [{^staged, %{size_bytes: 7}, first}, {^staged, _, second}, cleaned] = told
    assert first == %{checksum: id, name: "a.txt", persist?: false, ttl_ms: 0, cached?: false}
    assert second.cached?
    assert {[:attachment, :cleaned], %{count: 1, bytes: 7}, meta} = cleaned
    assert meta == %{checksum: id, name: "a.txt", ttl_ms: 0}
  end

  describe "an attachment" do
    @describetag :codex_cli

    # A PNG of one pixel.
    @png Base.decode64!(
           "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
         )

    test "reaches the model with each turn, on both transports", %{tmp_dir: dir} do
      path = Path.join(dir, "shot.png")
      File.write!(path, @png)
      {:ok, shot} = Files.stage(path)
      File.rm!(path)

      model = Test.start!(["one", "two", "three"])
      {:ok, options} = Thread.Options.new(Test.thread_options(model))
      {:ok, thread} = Codex.start_thread(Test.options(model), Files.attach(options, shot))
      {:ok, result} = Thread.run(thread, "look")
      {:ok, _} = Thread.run(result.thread, "again")

      conn = Codex.Connected.connect!(model, [])
      options = [transport: {:app_server, conn}] |> Files.attach(shot)
      {:ok, thread} = Codex.start_thread(Test.options(model), options)
      {:ok, _} = Thread.run(thread, "look")

      images =
        for %{body: body} <- Test.requests(model),
            do: body |> inspect(limit: :infinity, printable_limit: :infinity) |> count()

      assert images == [1, 2, 1]
    end

    defp count(text), do: length(String.split(text, "data:image/png;base64")) - 1
  end
end
