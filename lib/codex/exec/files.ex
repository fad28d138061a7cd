defmodule Codex.Exec.Files do
  @moduledoc false
  # What the CLI reads from files: instructions, schemas and profiles that stand in its arguments as `{:file, content, as}`.

  alias Codex.Options.Overrides
  alias Codex.{TempFile, TransportError}

  @doc "Writes them: the arguments with their paths, and the files, to be removed. Raises `Codex.TransportError`, and leaves none then."
  @spec write([String.t() | tuple()]) :: {[String.t()], [Path.t()]}
  def write(argv) do
    Enum.map_reduce(argv, [], fn
      {:file, content, as}, files ->
        case create(content, as) do
          {:ok, path} ->
            {argument(as, path), [path | files]}

          {:error, {:write_failed, path, reason}} ->
            Enum.each(files, &TempFile.remove/1)

            raise %TransportError{
              reason_code: :config,
              message: "cannot write #{path}: #{:file.format_error(reason)}"
            }
        end

      argument, files ->
        {argument, files}
    end)
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
