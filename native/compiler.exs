Code.require_file("prebuilt.exs", __DIR__)

unless Code.ensure_loaded?(Mix.Tasks.Compile.CodexNative) do
  defmodule Mix.Tasks.Compile.CodexNative do
    @moduledoc """
    Puts the native artefacts into `priv/native`, before Elixir compiles.

    The artefacts are two files: `libcodex_nif.so`, the NIF library, and `codex_launcher`, the
    program under which every child process runs. A digest of the sources, of the settings below
    and of the artefacts is kept beside them. While the digest holds, nothing is built or fetched.

    The first source that applies is used:

    1. `CODEX_SDK_NATIVE_DIR`, a folder that has both files;
    2. the prebuilt archive of the release (`CodexSdk.Prebuilt`), if `native/prebuilt.sums` lists
       archives and their place is known;
    3. cargo. If an archive cannot be had, a line says why, and cargo builds.

    Set `CODEX_SDK_BUILD` to `true` to build with cargo in any case.

    The keyring of the operating system (`Codex.Auth`) takes most of the time of a first build.
    Set `CODEX_SDK_KEYRING` to `false` to build without it: credentials are in files then.
    """
    use Mix.Task.Compiler

    alias CodexSdk.Prebuilt

    # Cargo.toml says the same (`rust-version`): the rustler crate sets it.
    @min_rust {1, 91}
    @root Path.expand("..", __DIR__)
    @out Path.join(@root, "priv/native")
    @sums Path.join(__DIR__, "prebuilt.sums")

    @impl true
    def run(_args) do
      [choice | _] = choices = choices()

      result =
        if Enum.any?(choices, &fresh?(inputs(&1))) do
          {:noop, []}
        else
          with :ok <- supported_os(),
               :ok <- writable(),
               {:ok, files} <- artefacts(choice),
               do: install(files, inputs(choice))
        end

      # Mix links priv/ into _build before any compiler runs; a first build has none yet.
      with {:ok, _} <- result, do: Mix.Project.build_structure()
      result
    end

    @impl true
    def clean, do: File.rm_rf!(@out)

    # --- The source ----------------------------------------------------------------------------

    # The first is made, and installed artefacts of any of them are kept.
    defp choices do
      case {set("CODEX_SDK_NATIVE_DIR"), on?("CODEX_SDK_BUILD"), features()} do
        {dir, _build, _features} when is_binary(dir) -> [{:folder, Path.expand(dir)}]
        {nil, false, []} -> prebuilt()
        {nil, _build, features} -> [{:cargo, features, nil}]
      end
    end

    # A path dependency is checked with each Mix command, also with those that do not name the
    # place of the archive any more.
    defp prebuilt do
      case Prebuilt.source(@sums, version()) do
        {:ok, %{address: nil} = source} -> [{:cargo, [], nil}, {:prebuilt, source}]
        {:ok, source} -> [{:prebuilt, source}]
        {:error, reason} -> [{:cargo, [], reason}]
        :none -> [{:cargo, [], nil}]
      end
    end

    defp inputs(choice),
      do: digest(sources() ++ ready_files(choice)) <> encode(identity(choice))

    # The same archive is the same from any place.
    defp identity({:prebuilt, source}), do: {:prebuilt, source.name, source.sum}
    defp identity(choice), do: choice

    # In a dependency's compiler, the current project is the dependency.
    defp version, do: Mix.Project.config()[:version]

    defp features, do: if(off?("CODEX_SDK_KEYRING"), do: ["--no-default-features"], else: [])

    defp on?(name), do: set(name) != nil and not off?(name)
    defp off?(name), do: set(name) in ["false", "0"]

    defp set(name) do
      with "" <- System.get_env(name), do: nil
    end

    defp ready_files({:folder, dir}), do: Enum.map(Prebuilt.files(), &Path.join(dir, &1))
    defp ready_files(_choice), do: []

    # Returns `{name, {:copy, path}}` or `{name, {:write, bytes}}` for each file.
    defp artefacts({:folder, dir} = choice) do
      case Enum.reject(ready_files(choice), &File.regular?/1) do
        [] ->
          {:ok, for(path <- ready_files(choice), do: {Path.basename(path), {:copy, path}})}

        missing ->
          names = Enum.map_join(missing, " and ", &Path.basename/1)
          error("CODEX_SDK_NATIVE_DIR is #{dir}, but #{names} does not exist there")
      end
    end

    defp artefacts({:prebuilt, source}) do
      case Prebuilt.fetch(source) do
        {:ok, files} ->
          Mix.shell().info("Using the prebuilt native parts of codex_sdk: #{source.name}")
          {:ok, for({name, bytes} <- files, do: {name, {:write, bytes}})}

        {:error, reason} ->
          artefacts({:cargo, [], reason})
      end
    end

    defp artefacts({:cargo, features, reason}) do
      if reason, do: Mix.shell().info("No prebuilt native parts of codex_sdk: #{reason}")
      with {:ok, host} <- rust_host(), do: cargo_build(features, host)
    end

    # --- cargo ---------------------------------------------------------------------------------

    defp cargo_build(features, host) do
      target = set("CARGO_TARGET_DIR") || Path.join(@root, "target")
      Mix.shell().info("Compiling the native parts of codex_sdk with cargo (release)")

      with :ok <- cargo(~w(build -p codex_nif) ++ features, host, target, []),
           :ok <- cargo(~w(rustc -p codex_launcher --bin codex_launcher), host, target, static()) do
        built = Path.join([target, host, "release"])

        {:ok,
         for(
           {name, file} <- Enum.zip(Prebuilt.files(), built_names()),
           do: {name, {:copy, Path.join(built, file)}}
         )}
      end
    end

    # The target is named, as the user's cargo configuration or environment may name another: the
    # artefacts must run on this machine.
    defp cargo(command, host, target, rustc_args) do
      args =
        command ++
          ["--release", "--locked", "--target", host, "--target-dir", target] ++ rustc_args

      case System.cmd("cargo", args, cd: @root, into: IO.stream(), stderr_to_stdout: true) do
        {_, 0} -> :ok
        {_, status} -> error("cargo build failed with exit status #{status}; its output is above")
      end
    end

    # Without shared libraries to look up, the launcher starts in three quarters of the time
    # (bench/turn). Some systems have no static libc; the NIF library must be dynamic anyway.
    defp static do
      with {:unix, :linux} <- :os.type(),
           cc when is_binary(cc) <- System.find_executable("cc"),
           {path, 0} <- System.cmd(cc, ["-print-file-name=libc.a"], stderr_to_stdout: true),
           true <- File.regular?(String.trim(path)) do
        ["--", "-C", "target-feature=+crt-static"]
      else
        _ -> []
      end
    end

    defp built_names do
      case :os.type() do
        {:unix, :darwin} -> ["libcodex_nif.dylib", "codex_launcher"]
        _ -> Prebuilt.files()
      end
    end

    # `cargo -vV` names the version and the host's target in one call.
    defp rust_host do
      need = "codex_sdk needs Rust #{dotted(@min_rust)} or newer (https://rustup.rs)"

      with cargo when is_binary(cargo) <- System.find_executable("cargo"),
           {out, 0} <- System.cmd(cargo, ["-vV"], cd: @root, stderr_to_stdout: true),
           [_, major, minor] <- Regex.run(~r/^cargo (\d+)\.(\d+)/m, out),
           [_, host] <- Regex.run(~r/^host: (\S+)/m, out) do
        found = {String.to_integer(major), String.to_integer(minor)}

        if found >= @min_rust,
          do: {:ok, host},
          else: error("#{need}, but cargo is #{dotted(found)}: run `rustup update stable`")
      else
        nil -> error("#{need}, but there is no `cargo` on PATH. #{instead()}")
        _ -> error("#{need}, but `cargo -vV` did not work. #{instead()}")
      end
    end

    defp instead do
      names = Enum.join(Prebuilt.files(), " and ")
      "Or set CODEX_SDK_NATIVE_DIR to a folder with #{names} built elsewhere."
    end

    defp dotted({major, minor}), do: "#{major}.#{minor}"

    defp supported_os do
      case :os.type() do
        {:unix, _} ->
          :ok

        {family, name} ->
          error("codex_sdk runs on Linux and macOS; #{family}/#{name} is not supported yet")
      end
    end

    # --- Installation --------------------------------------------------------------------------

    # Several builds may install at once. Each renames files of its own into place: a VM that has
    # the old library mapped keeps it, and nothing reads half a file.
    defp install(files, inputs) do
      for {name, from} <- files, do: put(name, &write(from, &1))
      stamp(inputs)
      {:ok, []}
    end

    # Another build may replace a file between the digest and its writing: then it is taken again.
    defp stamp(inputs) do
      put(".stamp", &File.write!(&1, inputs <> digest(installed())))
      fresh?(inputs) || stamp(inputs)
    end

    defp put(name, write) do
      target = Path.join(@out, name)
      part = "#{target}.#{System.pid()}"
      write.(part)
      File.rename!(part, target)
    end

    defp write({:copy, path}, part), do: File.cp!(path, part)

    defp write({:write, bytes}, part) do
      File.write!(part, bytes)
      File.chmod!(part, 0o755)
    end

    defp writable do
      probe = Path.join(@out, ".#{System.pid()}")

      with :ok <- File.mkdir_p(@out), :ok <- File.write(probe, ""), :ok <- File.rm(probe) do
        :ok
      else
        {:error, reason} ->
          error(
            "#{@out} cannot be written: #{:file.format_error(reason)}. Make the folder of " <>
              "codex_sdk writable for this build, or copy it (`mix deps.get` copies Hex and Git " <>
              "dependencies into deps/), or compile it once as a user who may write it"
          )
      end
    end

    defp fresh?(inputs),
      do: File.read(Path.join(@out, ".stamp")) == {:ok, inputs <> digest(installed())}

    defp installed, do: Enum.map(Prebuilt.files(), &Path.join(@out, &1))

    defp sources do
      [Path.join(@root, "Cargo.toml"), Path.join(@root, "Cargo.lock"), @sums] ++
        Path.wildcard(Path.join(@root, "native/*/{Cargo.toml,build.rs}")) ++
        Path.wildcard(Path.join(@root, "native/*/src/**/*.rs"))
    end

    # Sizes and times, not contents: a few hundred stat calls are well under a millisecond.
    defp digest(paths) do
      paths
      |> Enum.map(fn path ->
        case File.stat(path, time: :posix) do
          {:ok, %File.Stat{size: size, mtime: mtime}} -> {path, size, mtime}
          {:error, reason} -> {path, reason}
        end
      end)
      |> encode()
      |> :erlang.md5()
    end

    # The same bytes with every OTP: OTP 26 has another default.
    defp encode(term), do: :erlang.term_to_binary(term, minor_version: 2)

    defp error(message) do
      Mix.shell().error("** " <> message)
      {:error, [diagnostic(message)]}
    end

    defp diagnostic(message) do
      %Mix.Task.Compiler.Diagnostic{
        compiler_name: "codex_native",
        details: nil,
        file: Path.join(@root, "Cargo.toml"),
        message: message,
        position: nil,
        severity: :error
      }
    end
  end
end
