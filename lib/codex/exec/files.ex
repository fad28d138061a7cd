defmodule Codex.Exec.Files do
  @moduledoc false
  # Names the files from which the CLI reads instructions, schemas and profiles. They stand in its
  # arguments as `{:file, content, as}`. The launcher makes the files when the run starts, and
  # removes them with it: a reader or a VM that is killed before leaves none.

  alias Codex.Options.Overrides

  @doc "Returns the arguments with the paths of files, and the files with their contents."
  @spec name([String.t() | tuple()]) :: {[String.t()], [{Path.t(), iodata()}]}
  def name(argv), do: if(Enum.any?(argv, &is_tuple/1), do: name_files(argv), else: {argv, []})

  defp name_files(argv) do
    # A new directory, which the launcher makes with mode 0700.
    folder = Path.join(System.tmp_dir() || "/tmp", "codex_sdk_" <> random())
    {argv, {files, marks}} = Enum.flat_map_reduce(argv, {[], []}, &one(&1, &2, folder))
    {Enum.map(argv, &replace(&1, marks)), files}
  end

  defp one({:file, content, as}, {files, marks}, folder) do
    path = path(as, folder, length(files))
    files = [{path, content} | files]

    case as do
      {:mark, mark} -> {[], {files, [{mark, quoted(path)} | marks]}}
      _ -> {[argument(as, path)], {files, marks}}
    end
  end

  defp one(argument, done, _folder), do: {[argument], done}

  # A profile has to stand in the home.
  defp path({:profile, home}, _folder, _n),
    do: Path.join(home, "codex-sdk-" <> random() <> ".config.toml")

  defp path(_as, folder, n), do: Path.join(folder, "#{n}.tmp")

  defp random, do: Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)

  # A mark stands in a text of TOML.
  defp replace(argument, marks),
    do:
      Enum.reduce(marks, argument, fn {mark, path}, text -> String.replace(text, mark, path) end)

  defp quoted(path) do
    {:ok, toml} = Overrides.toml(path)
    String.slice(toml, 1..-2//1)
  end

  defp argument(:path, path), do: path
  defp argument({:profile, _home}, path), do: Path.basename(path, ".config.toml")

  defp argument({:config, key}, path) do
    {:ok, toml} = Overrides.toml(path)
    key <> "=" <> toml
  end
end
