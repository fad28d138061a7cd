defmodule Codex.SessionStore.Places do
  @moduledoc false
  # The places of session files in a home. Links must not lead a stored file out of the home.

  alias Codex.FileSystem

  @doc """
  Makes the folder of a file with mode 0700. Each folder is checked before the next one is made in
  it. The root may be a link to another disk, as for the readers of homes; nothing below it may lead
  out of it.
  """
  @spec make(Path.t(), Path.t(), String.t()) ::
          :ok
          | {:error,
             {:write_failed, String.t(), Codex.Reason.file()}
             | {:invalid_stored_session, String.t(), :link}}
  def make(home, folder, file) do
    [root | below] = Path.split(folder)
    root = Path.join(home, root)

    with :ok <- made(root),
         {:ok, real} <- FileSystem.real(root) do
      make(below, root, real, file)
    else
      {:error, reason} -> {:error, {:write_failed, file, reason}}
    end
  end

  defp make([], _parent, _root, _file), do: :ok

  defp make([part | parts], parent, root, file) do
    path = Path.join(parent, part)

    with :ok <- made(path),
         {:ok, there} <- FileSystem.real(path),
         true <- String.starts_with?(there, root <> "/") do
      make(parts, path, root, file)
    else
      false -> {:error, {:invalid_stored_session, file, :link}}
      {:error, reason} -> {:error, {:write_failed, file, reason}}
    end
  end

  defp made(path) do
    case :file.make_dir(path) do
      :ok -> File.chmod(path, 0o700)
      {:error, reason} when reason == :eexist -> :ok
      error -> error
    end
  end

  @doc "Checks that nothing is at a path of the home, not even a link."
  @spec free(Path.t(), Path.t()) :: :ok | {:error, {:file_exists, Path.t()}}
  def free(home, path) do
    case :file.read_link_info(Path.join(home, path), [:raw]) do
      {:error, :enoent} -> :ok
      _anything -> {:error, {:file_exists, path}}
    end
  end
end
