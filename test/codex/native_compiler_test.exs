defmodule Codex.NativeCompilerTest do
  # The Mix compiler in a project of its own: its code and ours are copied, so `priv/native` here stays as it is. cargo is
  # a script that notes how it was called; the real one built the library that these tests run with.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir
  @moduletag timeout: 120_000

  @root Path.expand("../..", __DIR__)
  @files ~w(Cargo.toml Cargo.lock native/compiler.exs native/codex_launcher/Cargo.toml native/codex_launcher/src/main.rs)

  setup %{tmp_dir: dir} do
    for file <- @files do
      target = Path.join([dir, "project", file])
      File.mkdir_p!(Path.dirname(target))
      File.cp!(Path.join(@root, file), target)
    end

    File.write!(Path.join(dir, "project/mix.exs"), """
    Code.require_file("native/compiler.exs", __DIR__)

    defmodule Sample.MixProject do
      use Mix.Project

      def project,
        do: [app: :sample, version: "0.1.0", compilers: [:codex_native] ++ Mix.compilers()]

      def application, do: []
    end
    """)

    %{project: Path.join(dir, "project"), bin: Path.join(dir, "bin")}
  end

  test "builds once, again when a source or an artefact changed, and links priv at once",
       context do
    cargo(context, "1.91.0")
    assert {out, 0} = compile(context)
    assert out =~ "Compiling the native parts of codex_sdk with cargo (release)"

    assert [nif, launcher] = builds(context)
    assert nif =~ ~r"^build -p codex_nif --release --locked --target-dir /"
    assert launcher =~ ~r"^rustc -p codex_launcher --bin codex_launcher --release --locked "
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
    assert File.exists?(Path.join(context.project, "_build/dev/lib/sample/priv/native"))

    assert {out, 0} = compile(context)
    refute out =~ "cargo"
    assert length(builds(context)) == 2

    # another size, as times have a resolution of a second
    File.write!(
      Path.join(context.project, "native/codex_launcher/src/main.rs"),
      "// changed\n",
      [:append]
    )

    assert {_, 0} = compile(context)
    assert length(builds(context)) == 4

    File.rm!(Path.join(context.project, "priv/native/codex_launcher"))
    assert {_, 0} = compile(context)
    assert length(builds(context)) == 6
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
  end

  test "a build that fails fails the compilation", context do
    cargo(context, "1.95.0", "echo 'error: something' >&2; exit 101")
    assert {out, 1} = compile(context)
    assert out =~ "error: something"
    assert_told_once(out, "cargo build failed with exit status 101")
    assert installed(context) == []
  end

  test "without cargo, one message says what to install", context do
    assert {out, 1} = compile(context)

    assert_told_once(
      out,
      "codex_sdk needs Rust 1.91 or newer (https://rustup.rs), but there is no `cargo` on PATH"
    )

    assert out =~ "Or set CODEX_SDK_NATIVE_DIR"
  end

  test "with a cargo that is too old, one message names both versions", context do
    cargo(context, "1.70.0")
    assert {out, 1} = compile(context)
    assert_told_once(out, "codex_sdk needs Rust 1.91 or newer")
    assert out =~ "but cargo is 1.70"
    assert builds(context) == []
  end

  test "CODEX_SDK_NATIVE_DIR is used instead of cargo", %{tmp_dir: dir} = context do
    ready = Path.join(dir, "ready")
    File.mkdir_p!(ready)
    File.write!(Path.join(ready, "codex_launcher"), "launcher")

    assert {out, 1} = compile(context, [{"CODEX_SDK_NATIVE_DIR", ready}])
    assert_told_once(out, "CODEX_SDK_NATIVE_DIR is #{ready}")
    assert out =~ "libcodex_nif.so does not exist"
    assert installed(context) == []

    File.write!(Path.join(ready, "libcodex_nif.so"), "library")
    assert {_, 0} = compile(context, [{"CODEX_SDK_NATIVE_DIR", ready}])
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]

    assert File.read!(Path.join(context.project, "priv/native/codex_launcher")) == "launcher"
  end

  # --- The project and its cargo --------------------------------------------------------------------------------------

  defp cargo(%{bin: bin}, version, build \\ nil) do
    File.mkdir_p!(bin)
    path = Path.join(bin, "cargo")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = --version ]; then echo "cargo #{version} (0000000 2026-01-01)"; exit; fi
    echo "$*" >>#{bin}/builds
    #{build || "while [ $1 != --target-dir ]; do shift; done; mkdir -p $2/release; cd $2/release; echo nif >libcodex_nif.so; echo nif >libcodex_nif.dylib; echo launcher >codex_launcher"}
    """)

    File.chmod!(path, 0o755)
  end

  defp builds(%{bin: bin}) do
    case File.read(Path.join(bin, "builds")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  defp installed(%{project: project}) do
    case File.ls(Path.join(project, "priv/native")) do
      {:ok, names} -> names |> Enum.reject(&String.starts_with?(&1, ".")) |> Enum.sort()
      {:error, :enoent} -> []
    end
  end

  defp compile(%{project: project} = context, env \\ []) do
    cleared =
      for name <-
            ~w(MIX_ENV MIX_BUILD_PATH MIX_DEPS_PATH MIX_EXS CARGO_TARGET_DIR CODEX_SDK_NATIVE_DIR),
          do: {name, nil}

    env = cleared ++ [{"PATH", path(context)} | env]
    System.cmd("mix", ["compile"], cd: project, env: env, stderr_to_stdout: true)
  end

  # The PATH without the real cargo: a folder that has one is replaced by links to its other programs.
  defp path(%{bin: bin, tmp_dir: tmp_dir}) do
    folders = System.get_env("PATH") |> String.split(":", trim: true) |> Enum.uniq()

    without =
      for {folder, n} <- Enum.with_index(folders) do
        if File.exists?(Path.join(folder, "cargo")),
          do: shadow(folder, Path.join(tmp_dir, "shadow#{n}")),
          else: folder
      end

    Enum.join([bin | without], ":")
  end

  defp shadow(folder, shadow) do
    unless File.dir?(shadow) do
      File.mkdir_p!(shadow)

      for name <- File.ls!(folder), name != "cargo" do
        File.ln_s!(Path.join(folder, name), Path.join(shadow, name))
      end
    end

    shadow
  end

  defp assert_told_once(out, message) do
    assert [_, _] = String.split(out, message), "expected once #{inspect(message)} in: #{out}"
    refute out =~ "(elixir "
  end
end
