defmodule Codex.Options.Tee do
  @moduledoc false
  # The option `tee`: the folder that gets the output of runs, and the limits of its files.

  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}

  @schema Schema.new([
            {:folder, :path, "the folder that gets a folder for each run"},
            {:max_bytes, :bytes, "the size at which a file is rotated",
             default: 16 * 1024 * 1024},
            {:max_files, :positive, "how many files of each kind a run keeps", default: 4}
          ])

  @type t :: %{folder: Path.t(), max_bytes: pos_integer(), max_files: pos_integer()}

  @doc "Returns the option in its full form."
  @spec cast(term()) :: {:ok, t()} | :error | {:error, OptionError.t()}
  def cast(folder) when is_binary(folder), do: cast(folder: folder)

  def cast(opts) when is_list(opts) or is_map(opts) do
    case Schema.validate(@schema, opts, &Type.cast/2) do
      {:ok, %{folder: folder} = opts} when is_binary(folder) -> {:ok, Map.new(opts)}
      {:ok, _without_folder} -> :error
      {:error, %{reason: :not_options}} -> :error
      {:error, error} -> {:error, error}
    end
  end

  def cast(_other), do: :error
end
