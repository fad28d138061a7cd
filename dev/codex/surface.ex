defmodule Codex.Surface do
  @moduledoc false
  # All that this package knows of the CLI, as data files, and their comparison with an installed
  # CLI. `Codex.Surface.Part` describes a part.

  alias Codex.Surface.{Diff, Program}

  @parts [
    Codex.Surface.Protocol,
    Codex.Surface.Config,
    Codex.Surface.Flags,
    Codex.Surface.Shapes
  ]
  @version "priv/cli/version"

  @typedoc "The version and the data of each part, in the order of the parts."
  @type t :: %{cli: String.t(), parts: [{module(), term()}]}

  @doc "Reads the stored data below a root. Raises `File.Error` or `ArgumentError`."
  @spec stored!(Path.t()) :: t()
  def stored!(root) do
    parts =
      for part <- @parts,
          do: {part, root |> Path.join(part.file()) |> File.read!() |> part.decode!()}

    %{cli: root |> Path.join(@version) |> File.read!() |> String.trim(), parts: parts}
  end

  @doc """
  Reads the data from a CLI, starting from the stored data. Returns it with its differences from the
  stored data.
  """
  @spec read(Path.t(), t()) :: {:ok, t(), [Diff.change()]} | {:error, String.t()}
  def read(codex, stored) do
    with {:ok, {version, parts}} <- Program.open(codex, &read_parts(&1, stored)) do
      changes =
        for {{part, old}, {part, new, notes}} <- Enum.zip(stored.parts, parts),
            change <- notes ++ Diff.changes(part.tree(old), part.tree(new)),
            do: change

      cli = Diff.changes(%{"cli" => Diff.leaf(stored.cli)}, %{"cli" => Diff.leaf(version)})
      parts = for {part, new, _notes} <- parts, do: {part, new}
      {:ok, %{cli: version, parts: parts}, cli ++ changes}
    end
  end

  defp read_parts(program, stored) do
    result =
      Enum.reduce_while(stored.parts, [], fn {part, old}, done ->
        case part.read(program, old) do
          {:ok, new, notes} -> {:cont, [{part, new, notes} | done]}
          {:error, text} -> {:halt, {:error, text}}
        end
      end)

    if is_list(result), do: {:ok, {program.version, Enum.reverse(result)}}, else: result
  end

  @doc "Writes the data below a root, and returns the paths."
  @spec write!(Path.t(), t()) :: [Path.t()]
  def write!(root, %{cli: version, parts: parts}) do
    files = [
      {@version, version <> "\n"}
      | for({part, data} <- parts, do: {part.file(), part.encode(data)})
    ]

    for {file, text} <- files do
      path = Path.join(root, file)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
      path
    end
  end
end
