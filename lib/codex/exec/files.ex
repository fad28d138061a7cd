defmodule Codex.Exec.Files do
  @moduledoc false
  # What the CLI reads from files: instructions, schemas and profiles that stand in its arguments as `{:file, content, as}`.

  alias Codex.Options.Overrides
  alias Codex.{TempFile, TransportError}

  @doc """
  Writes them: the arguments with their paths, and the files, to be removed. Raises
  `Codex.TransportError`, and leaves no file then.
  """
  @spec write([String.t() | tuple()]) :: {[String.t()], [Path.t()]}
  def write(argv) do
    {argv, {files, marks}} = Enum.flat_map_reduce(argv, {[], []}, &one/2)
    {Enum.map(argv, &replace(&1, marks)), files}
  end

  defp one({:file, content, as}, {files, marks}) do
    case {create(content, as), as} do
      {{:ok, path}, {:mark, mark}} ->
        {[], {[path | files], [{mark, quoted(path)} | marks]}}

      {{:ok, path}, _} ->
        {[argument(as, path)], {[path | files], marks}}

      {{:error, {:write_failed, path, reason}}, _} ->
        Enum.each(files, &TempFile.remove/1)

        raise %TransportError{
          reason_code: :config,
          message: "cannot write #{path}: #{:file.format_error(reason)}"
        }
    end
  end

  defp one(argument, done), do: {[argument], done}

  # A mark stands in a text of TOML.
  defp replace(argument, marks),
    do:
      Enum.reduce(marks, argument, fn {mark, path}, text -> String.replace(text, mark, path) end)

  defp quoted(path) do
    {:ok, toml} = Overrides.toml(path)
    String.slice(toml, 1..-2//1)
  end

  defp create(content, {:profile, home}),
    do: TempFile.create(content, "codex-sdk-", ".config.toml", home)

  defp create(content, _as), do: TempFile.create(content, "codex_sdk_", ".tmp")

  defp argument(:path, path), do: path
  defp argument({:profile, _home}, path), do: Path.basename(path, ".config.toml")

  defp argument({:config, key}, path) do
    {:ok, toml} = Overrides.toml(path)
    key <> "=" <> toml
  end
end
