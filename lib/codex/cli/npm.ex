defmodule Codex.CLI.Npm do
  @moduledoc false
  # Finds the native program in an npm package of the CLI. The package `@openai/codex` has a Node.js
  # program; the native programs have had these places, the newest first:
  #
  #     @openai/codex-linux-x64/vendor/TRIPLE/bin/codex      with `codex-path` beside `bin`
  #     @openai/codex-linux-x64/vendor/TRIPLE/codex/codex    with `path` beside `codex`
  #     @openai/codex/vendor/TRIPLE/codex/codex              likewise
  #     @openai/codex/bin/codex-TRIPLE
  #
  # npm puts the optional package `@openai/codex-linux-x64` beside `@openai/codex`, or into its
  # `node_modules`.

  alias Codex.FileSystem

  @doc "Returns the native program in the `node_modules` of a directory, or nil."
  @spec program(Path.t()) :: Path.t() | nil
  def program(dir),
    do: dir |> Path.join("node_modules/@openai/codex") |> Path.expand() |> native()

  @doc "Returns the native program behind the Node.js program of npm, or nil."
  @spec behind(Path.t()) :: Path.t() | nil
  def behind(path) do
    script = real(path)

    if Path.basename(script) == "codex.js",
      do: script |> Path.dirname() |> Path.dirname() |> native()
  end

  defp real(path) do
    case :file.read_link_all(path) do
      {:ok, target} -> Path.expand(IO.chardata_to_string(target), Path.dirname(path))
      {:error, _} -> path
    end
  end

  defp native(package) do
    {os, arch} = {os(), arch()}
    # The triple of another C library is as good.
    triple = "#{elem(arch, 1)}-*#{os}*"

    own =
      for dir <- [Path.join(package, "node_modules/@openai"), Path.dirname(package)],
          layout <- ["bin/codex", "codex/codex"],
          do: Path.join([dir, "codex-#{os}-#{elem(arch, 0)}", "vendor", triple, layout])

    shared = ["vendor/#{triple}/codex/codex", "bin/codex-#{triple}"]

    Enum.find_value(own ++ Enum.map(shared, &Path.join(package, &1)), fn pattern ->
      pattern |> Path.wildcard() |> List.first()
    end)
  end

  defp os, do: if(:os.type() == {:unix, :darwin}, do: "darwin", else: "linux")

  # The words of npm and of Rust.
  defp arch do
    if to_string(:erlang.system_info(:system_architecture)) =~ ~r/^(aarch64|arm)/,
      do: {"arm64", "aarch64"},
      else: {"x64", "x86_64"}
  end

  @doc "Returns the directory of the tools that npm delivers with a native program, or nil."
  @spec tools(Path.t()) :: Path.t() | nil
  def tools(program) do
    dir =
      case program |> Path.split() |> Enum.reverse() do
        ["codex", "bin", _triple, "vendor" | _] -> "../../codex-path"
        ["codex", "codex", _triple, "vendor" | _] -> "../../path"
        _no_package -> nil
      end

    path = dir && Path.expand(dir, program)
    if path != nil and FileSystem.dir?(path), do: path
  end
end
