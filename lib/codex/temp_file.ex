defmodule Codex.TempFile do
  @moduledoc false
  # Files that hand something to the CLI that has no other way in.

  @type error :: {:write_failed, Path.t(), File.posix()}

  @doc """
  Writes a new file that only its owner may read, with a name that no other run has; in the temporary directory unless told
  otherwise.
  """
  @spec create(iodata(), String.t(), String.t(), Path.t() | nil) ::
          {:ok, Path.t()} | {:error, error()}
  def create(content, prefix, extension, dir \\ nil) do
    name = prefix <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower) <> extension
    # Without a temporary directory, the reason is that there is no such file.
    path = Path.join(dir || System.tmp_dir() || "/tmp", name)
    with {:error, reason} <- write(path, content), do: {:error, {:write_failed, path, reason}}
  end

  # Exclusive, and private before anything is in it: nobody else's file, and nobody else's to read.
  defp write(path, content) do
    with {:ok, file} <- :file.open(path, [:write, :exclusive, :raw]) do
      written = with :ok <- File.chmod(path, 0o600), do: :file.write(file, content)
      closed = :file.close(file)

      with :ok <- written, :ok <- closed do
        {:ok, path}
      else
        error ->
          remove(path)
          error
      end
    end
  end

  @doc "Removes a file; one that is gone already is fine."
  @spec remove(Path.t()) :: :ok
  def remove(path) do
    _ = File.rm(path)
    :ok
  end
end
