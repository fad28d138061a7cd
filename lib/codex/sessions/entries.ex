defmodule Codex.Sessions.Entries do
  @moduledoc """
  The first lines of session files, for `Codex.Sessions.list_sessions/1`.

  `Codex.Sessions.list/1` tells more and reads every generation of files. This list also takes
  folders that are not part of a home.
  """

  alias Codex.{FileSystem, Home, JSON}
  alias Codex.Options.Schema

  @schema Schema.new([
            {:sessions_dir, :os_path, "the folder", shown: "`sessions` in the home"},
            {:codex_home, :os_path, "the home of the CLI", shown: "`CODEX_HOME`, else `~/.codex`"}
          ])

  # A first line holds the instructions of the model.
  @max_line 4 * 1024 * 1024

  @typedoc """
  A file: the id of its thread, its path, its start and last change as text, and members of its
  first line. Unknown members are in `metadata`.
  """
  @type entry :: %{
          id: String.t() | nil,
          path: Path.t(),
          started_at: String.t() | nil,
          updated_at: String.t() | nil,
          cwd: String.t() | nil,
          originator: String.t() | nil,
          cli_version: String.t() | nil,
          metadata: map()
        }

  @doc """
  Lists the files `**/*.jsonl` and `**/*.json` of a folder, the newest first by the time of the last
  change. A missing folder has none. Of each file, the first line is read.

  Options:

  #{Schema.docs(@schema)}

  Errors: `:not_a_directory`, `Codex.Config.Error`, `Codex.OptionError`.
  """
  @spec list(keyword() | map()) ::
          {:ok, [entry()]}
          | {:error, :not_a_directory | Codex.Config.Error.t() | Codex.OptionError.t()}
  def list(opts \\ []) do
    with {:ok, opts} <- Schema.validate(@schema, opts),
         {:ok, folder} <- folder(opts) do
      case FileSystem.stat(folder) do
        {:ok, %{kind: :directory}} -> {:ok, entries(folder)}
        {:ok, _other} -> {:error, :not_a_directory}
        {:error, _missing} -> {:ok, []}
      end
    end
  end

  defp folder(%{sessions_dir: folder}) when folder != nil, do: {:ok, folder}

  defp folder(opts) do
    with {:ok, home} <- Home.resolve(Map.to_list(Map.take(opts, [:codex_home]))),
         do: {:ok, Home.path(home, :sessions)}
  end

  defp entries(folder) do
    paths = Path.wildcard(Path.join(folder, "**/*.{jsonl,json}"))
    stats = FileSystem.stat_all(paths)

    for(
      {path, {:ok, %{kind: :regular} = stat}} <- Enum.zip(paths, stats),
      do: {stat.modified, path}
    )
    |> Enum.sort(:desc)
    |> Enum.map(fn {modified, path} -> entry(path, modified) end)
  end

  defp entry(path, modified) do
    line = first_line(path)
    payload = if is_map(line["payload"]), do: line["payload"], else: %{}
    all = Map.merge(line, payload)
    text = fn keys -> Enum.find_value(keys, &if(is_binary(all[&1]), do: all[&1])) end
    known = ~w(payload type timestamp id thread_id cwd originator cli_version)

    %{
      id: text.(["id", "thread_id"]) || Path.basename(path, Path.extname(path)),
      path: path,
      started_at: text.(["timestamp"]),
      updated_at: modified |> DateTime.from_unix!() |> DateTime.to_iso8601(),
      cwd: text.(["cwd"]),
      originator: text.(["originator"]),
      cli_version: text.(["cli_version"]),
      metadata: all |> Map.drop(known)
    }
  end

  defp first_line(path) do
    with {:ok, text} <- beginning(path),
         [line | _] = :binary.split(text, "\n"),
         {:ok, %{} = map} <- JSON.decode(line) do
      map
    else
      _unreadable_or_not_json -> %{}
    end
  end

  defp beginning(path) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      text = :file.read(file, @max_line)
      _ = :file.close(file)
      text
    end
  end
end
