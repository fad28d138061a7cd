unless Code.ensure_loaded?(Mix.Tasks.Compile.CodexNative) do
  defmodule Mix.Tasks.Compile.CodexNative do
    @moduledoc """
    Builds the native artefacts with cargo and puts them into `priv/native`, before Elixir compiles.

    Two files come out: `libcodex_nif.so`, the NIF library, and `codex_launcher`, the program under which every
    child process runs. The digest of the sources, of the cargo profile and of the artefacts is kept beside them; while
    it holds, cargo is not started at all.

    Set `CODEX_SDK_NATIVE_DIR` to a folder that holds both files to use them instead of building: no Rust is
    needed then.

    The keyring of the operating system (`Codex.Auth`) takes most of the time of a first build. Set `CODEX_SDK_KEYRING` to
    `false` to build without: credentials are in files then.
    """
    use Mix.Task.Compiler

    # Cargo.toml says the same (`rust-version`): the rustler crate sets it.
    @min_rust {1, 91}
    @artefacts ["libcodex_nif.so", "codex_launcher"]
    @root Path.expand("..", __DIR__)
    @out Path.join(@root, "priv/native")

    @impl true
    def run(_args) do
      result =
        case System.get_env("CODEX_SDK_NATIVE_DIR") do
          dir when dir in [nil, ""] -> build()
          dir -> install_from(Path.expand(dir))
        end

      # Mix links priv/ into _build before any compiler runs; on the first build there was none yet.
      with {:ok, _} <- result, do: Mix.Project.build_structure()
      result
    end

    @impl true
    def clean, do: File.rm_rf!(@out)

    defp build do
      inputs = digest(sources()) <> Enum.join(features())

      if fresh?(inputs) do
        {:noop, []}
      else
        with :ok <- supported_os(), :ok <- check_rust(), {:ok, built} <- cargo_build() do
          install(built, inputs)
        end
      end
    end

    # A folder of ready-made artefacts is copied as a build would be, so a release holds them too.
    defp install_from(dir) do
      paths = Enum.map(@artefacts, &Path.join(dir, &1))

      case Enum.reject(paths, &File.regular?/1) do
        [] ->
          inputs = digest(paths)
          if fresh?(inputs), do: {:noop, []}, else: install(paths, inputs)

        missing ->
          error(
            "CODEX_SDK_NATIVE_DIR is #{dir}, but #{Enum.join(missing, " and ")} does not exist"
          )
      end
    end

    defp install(paths, inputs) do
      File.mkdir_p!(@out)

      # Renamed into place: a VM that has the old library mapped keeps it, and nobody sees half a file.
      for {path, name} <- Enum.zip(paths, @artefacts) do
        target = Path.join(@out, name)
        File.cp!(path, target <> ".new")
        File.rename!(target <> ".new", target)
      end

      File.write!(stamp(), inputs <> digest(installed()))
      {:ok, []}
    end

    defp cargo_build do
      target = System.get_env("CARGO_TARGET_DIR") || Path.join(@root, "target")
      Mix.shell().info("Compiling the native parts of codex_sdk with cargo (release)")

      with :ok <- cargo(~w(build -p codex_nif) ++ features(), target, []),
           :ok <- cargo(~w(rustc -p codex_launcher --bin codex_launcher), target, static()) do
        {:ok, Enum.map(built_names(), &Path.join([target, "release", &1]))}
      end
    end

    defp features do
      case System.get_env("CODEX_SDK_KEYRING") do
        off when off in ["false", "0"] -> ["--no-default-features"]
        _ -> []
      end
    end

    defp cargo(command, target, rustc_args) do
      args = command ++ ["--release", "--locked", "--target-dir", target] ++ rustc_args

      # CARGO_BUILD_TARGET would move the artefacts to another folder, and they must run on this machine.
      opts = [
        cd: @root,
        env: [{"CARGO_BUILD_TARGET", nil}],
        into: IO.stream(),
        stderr_to_stdout: true
      ]

      case System.cmd("cargo", args, opts) do
        {_, 0} -> :ok
        {_, status} -> error("cargo build failed with exit status #{status}; its output is above")
      end
    end

    # Without shared libraries to look up, the launcher starts in three quarters of the time (bench/turn). Some systems
    # have no static libc; the NIF library must be dynamic anyway.
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
        _ -> @artefacts
      end
    end

    defp supported_os do
      case :os.type() do
        {:unix, _} ->
          :ok

        {family, name} ->
          error("codex_sdk runs on Linux and macOS; #{family}/#{name} is not supported yet")
      end
    end

    defp check_rust do
      need = "codex_sdk needs Rust #{version(@min_rust)} or newer (https://rustup.rs)"

      with cargo when is_binary(cargo) <- System.find_executable("cargo"),
           {out, 0} <- System.cmd(cargo, ["--version"], cd: @root, stderr_to_stdout: true),
           [_, major, minor] <- Regex.run(~r/cargo (\d+)\.(\d+)/, out) do
        found = {String.to_integer(major), String.to_integer(minor)}

        if found >= @min_rust,
          do: :ok,
          else: error("#{need}, but cargo is #{version(found)}: run `rustup update stable`")
      else
        nil -> error("#{need}, but there is no `cargo` on PATH. #{instead()}")
        _ -> error("#{need}, but `cargo --version` did not work. #{instead()}")
      end
    end

    defp instead,
      do:
        "Or set CODEX_SDK_NATIVE_DIR to a folder with #{Enum.join(@artefacts, " and ")} built elsewhere."

    defp version({major, minor}), do: "#{major}.#{minor}"

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

    defp fresh?(inputs), do: File.read(stamp()) == {:ok, inputs <> digest(installed())}
    defp stamp, do: Path.join(@out, ".stamp")
    defp installed, do: Enum.map(@artefacts, &Path.join(@out, &1))

    defp sources do
      [Path.join(@root, "Cargo.toml"), Path.join(@root, "Cargo.lock")] ++
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
      |> :erlang.term_to_binary()
      |> :erlang.md5()
    end
  end
end
