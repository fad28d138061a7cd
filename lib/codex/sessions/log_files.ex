defmodule Codex.Sessions.LogFiles do
  @moduledoc false
  # The log files that the CLI writes to its home.

  alias Codex.{FileSystem, Home}

  @type log_file :: %{path: Path.t(), size: non_neg_integer(), modified: integer()}

  @doc "Lists the log files of a home, the last changed first."
  @spec list(Path.t()) :: {:ok, [log_file()]} | {:error, {:unreadable, Path.t(), String.t()}}
  def list(home) do
    folder = Home.path(home, :logs)

    case FileSystem.list(folder) do
      {:ok, names} -> {:ok, names |> Enum.map(&Path.join(folder, &1)) |> regular()}
      {:error, :enoent} -> {:ok, []}
      {:error, reason} -> {:error, {:unreadable, folder, FileSystem.message(reason)}}
    end
  end

  defp regular(paths) do
    stats = Enum.zip(paths, FileSystem.stat_all(paths))

    for(
      {path, {:ok, %{kind: :regular, size: size, modified: modified}}} <- stats,
      do: %{path: path, size: size, modified: modified}
    )
    |> Enum.sort_by(& &1.modified, :desc)
  end
end
