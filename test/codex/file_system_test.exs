defmodule Codex.FileSystemTest do
  # Files that others control, at every door that reads them. A reader that waits holds the test
  # until its timeout.
  use ExUnit.Case, async: true

  alias Codex.{
    AppServer,
    Auth,
    Config,
    Connected,
    Doctor,
    Error,
    FileSystem,
    Input,
    Models,
    OddFiles,
    Scripted,
    Test,
    Thread
  }

  alias Codex.Review.Session

  @moduletag :tmp_dir
  @moduletag :capture_log

  doctest FileSystem

  setup %{tmp_dir: dir} do
    [home, work, system] = for name <- ~w(home work system), do: Path.join(dir, name)
    for dir <- [home, Path.join(work, ".codex"), system], do: File.mkdir_p!(dir)
    File.mkdir!(Path.join(work, ".git"))
    File.write!(Path.join(work, ".git/HEAD"), "ref: refs/heads/main\n")
    %{home: home, work: work, system: system}
  end

  # Runs `fun` with each kind of file at the path.
  defp with_each(path, fun) do
    for {kind, put} <- OddFiles.all() do
      put.(OddFiles.remove!(path))
      fun.(kind)
    end

    OddFiles.remove!(path)
  end

  defp load(context, opts) do
    opts = [codex_home: context.home, system_dir: context.system, cwd: context.work] ++ opts
    Config.load(opts)
  end

  test "a file is read; anything else is an error that says what it is", %{tmp_dir: dir} do
    path = Path.join(dir, "file")
    File.write!(path, "text")
    assert FileSystem.read(path) == {:ok, "text"}
    assert FileSystem.read(path, limit: 3) == {:error, {:too_large, 3}}
    assert FileSystem.tail(path, 3) == {:ok, "ext"}
    assert {:ok, %{kind: :regular, size: 4}} = FileSystem.stat(path)
    assert {:ok, ["file", "home" | _]} = FileSystem.list(dir)
    assert FileSystem.read(Path.join(dir, "none")) == {:error, :enoent}
    assert FileSystem.read(Path.join(path, "none")) == {:error, :enotdir}
    assert FileSystem.read("a\0b") == {:error, :einval}

    with_each(path, fn kind ->
      assert {:error, reason} = FileSystem.read(path)

      assert FileSystem.message(reason) ==
               %{
                 pipe: "it is not a regular file but a named pipe",
                 link_to_pipe: "it is not a regular file but a named pipe",
                 zero: "it is not a regular file but a device",
                 directory: "it is not a regular file but a directory",
                 socket: "it is not a regular file but a socket",
                 too_large: "it is larger than the limit of 16777216 bytes"
               }[kind]

      assert FileSystem.regular?(path) == (kind == :too_large)
      assert FileSystem.dir?(path) == (kind == :directory)
      assert FileSystem.exists?(path)
    end)

    refute FileSystem.exists?(path)
  end

  test "a deadline that is over is an error for each file", %{tmp_dir: dir} do
    past = FileSystem.deadline(-1)

    assert FileSystem.read_all([dir, dir], deadline: past) ==
             List.duplicate({:error, :timeout}, 2)

    assert FileSystem.message(:timeout) == "the file system did not answer in time"
    assert {:error, %Config.Error{reason: :unreadable}} = Config.Loader.read(dir, deadline: past)
  end

  test "a call that takes longer than its deadline ends there, and no answer comes later",
       %{tmp_dir: dir} do
    path = Path.join(dir, "large")
    File.write!(path, :binary.copy("x", 8_000_000))
    paths = List.duplicate(path, 30)

    assert FileSystem.read_all(paths, timeout: 1) == List.duplicate({:error, :timeout}, 30)
    # The read has its own thread, so others do not wait for it.
    assert {[{:ok, %{size: 8_000_000}}], [{:ok, <<?x, _::binary>>}]} =
             FileSystem.look([path], [path])

    refute_receive _, 300
  end

  test "each layer of a configuration, as the CLI refuses it", context do
    trusted = "[projects.#{inspect(context.work)}]\ntrust_level = \"trusted\"\n"

    for {path, opts} <- [
          {Path.join(context.home, "config.toml"), []},
          {Path.join(context.home, "p.config.toml"), [profile: "p"]},
          {Path.join(context.system, "config.toml"), []},
          {Path.join(context.system, "managed_config.toml"), []},
          {Path.join(context.system, "requirements.toml"), []},
          # Of a project that is not trusted, and of one that is.
          {Path.join(context.work, ".codex/config.toml"), []},
          {Path.join(context.work, ".codex/config.toml"), [overrides: [], trusted: trusted]}
        ] do
      {trusted, opts} = Keyword.pop(opts, :trusted)
      if trusted, do: File.write!(Path.join(context.home, "config.toml"), trusted)

      with_each(path, fn kind ->
        assert {:error, %Config.Error{reason: :unreadable, file: ^path} = error} =
                 load(context, opts)

        words = if kind == :too_large, do: "larger than the limit", else: "not a regular file"
        assert Exception.message(error) =~ words
      end)

      assert {:ok, _} = load(context, opts)
    end
  end

  test "a file that is to be changed, and its lock", %{home: home} do
    path = Path.join(home, "config.toml")

    with_each(path, fn _kind ->
      assert {:error, %Config.Error{reason: :unreadable}} =
               Config.put("model", "m", codex_home: home)
    end)

    with_each(Path.join(home, ".config.toml.lock"), fn kind ->
      written = Config.put("model", "m", codex_home: home)

      if kind == :too_large,
        do: assert({:ok, _} = written),
        else: assert({:error, %Config.Error{reason: :unwritable}} = written)
    end)
  end

  test "credentials", %{home: home} do
    opts = [codex_home: home, cwd: false, env: %{"HOME" => home}, store: :file]

    with_each(Path.join(home, "auth.json"), fn _kind ->
      assert {:error, {:unreadable, _, _}} = Auth.read(opts)
      assert {:ok, %{ready?: false}} = Auth.preflight(opts)
    end)

    with_each(Path.join(home, ".credentials.json"), fn _kind ->
      assert {:error, {:unreadable, _, _}} = Auth.MCP.read("s", "http://127.0.0.1/", opts)
      assert {:error, {:unreadable, _, _}} = Auth.MCP.in_file(opts)
      assert {:error, {:unreadable, _, _}} = Auth.MCP.delete("s", "http://127.0.0.1/", opts)
    end)
  end

  test "catalogs of models", %{home: home} do
    path = Path.join(home, "models_cache.json")

    with_each(path, fn kind ->
      code = if kind == :too_large, do: :too_large, else: :not_regular

      for source <- [:cache, {:file, path}] do
        assert {:error, %Error{details: %{code: ^code}}} =
                 Models.fetch(source: source, codex_home: home)
      end
    end)
  end

  test "certificates", %{home: home} do
    path = Path.join(home, "ca.pem")

    with_each(path, fn _kind ->
      for option <- [:cacertfile, :certfile, :keyfile] do
        assert {:error, {:ca_certificate, ^path, _}} =
                 AppServer.connect_remote("wss://127.0.0.1:9", tls: [{option, path}])
      end
    end)
  end

  test "the file of a session", %{home: home} do
    id = "0199a213-81c0-7800-8aa1-bbab2a035a53"
    <<ms::48, _::80>> = id |> String.replace("-", "") |> Base.decode16!(case: :lower)
    day = DateTime.from_unix!(ms, :millisecond) |> Calendar.strftime("%Y/%m/%d")
    folder = Path.join([home, "sessions", day])
    File.mkdir_p!(folder)

    with_each(Path.join(folder, "rollout-#{id}.jsonl"), fn _kind ->
      assert {:error, _} = Session.output(home, id)
    end)
  end

  test "a doctor looks and does not wait", context do
    for path <- ["config.toml", "auth.json"], path = Path.join(context.home, path) do
      with_each(path, fn _kind ->
        opts = [codex_home: context.home, cwd: context.work, env: %{"HOME" => context.home}]
        refute Doctor.healthy?(Doctor.run(opts))
      end)
    end
  end

  describe "with the real CLI" do
    @describetag :codex_cli

    test "runs and connections in a hostile repository end", _context do
      {model, thread} = Scripted.start(["hi"])
      conn = Connected.connect!(model)
      over = Connected.thread!(model, conn)
      folder = Path.join(model.workspace, ".codex")
      File.mkdir!(folder)

      with_each(Path.join(folder, "config.toml"), fn kind ->
        # The CLI has no limit of size.
        unless kind == :too_large do
          assert {:error, {:exec_failed, %Error{message: message}}} = Thread.run(thread, "hi")
          assert message =~ "config.toml"
          assert {:error, _} = Thread.run(over, "hi")
        end

        assert {:error, %Config.Error{reason: :unreadable}} =
                 AppServer.connect(Test.options(model), cwd: model.workspace)
      end)
    end

    test "images and schemas are refused before the CLI reads them", %{tmp_dir: dir} do
      {model, thread} = Scripted.start(["hi"])
      over = Connected.thread!(model, Connected.connect!(model))
      {:ok, options} = Codex.Options.new(Test.options(model))
      path = Path.join(dir, "input")

      with_each(path, fn kind ->
        for thread <- [thread, over] do
          assert {:error, reason} =
                   Thread.run(thread, [Input.text("hi"), Input.local_image(path)])

          if kind == :too_large,
            do: assert({:image_too_large, ^path, 67_108_864} = reason),
            else: assert({:image_not_found, ^path} = reason)
        end

        assert {:error, {:invalid_output_schema, {:unreadable, ^path, _words}}} =
                 Codex.Exec.run("hi",
                   codex_opts: options,
                   thread: thread,
                   output_schema_path: path
                 )
      end)
    end
  end
end
