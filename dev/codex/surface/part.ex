defmodule Codex.Surface.Part do
  @moduledoc false
  # A part of the CLI that is stored as data: where it is stored, and how it is read from a CLI.

  alias Codex.Surface.{Diff, Program}

  @doc "Returns the path of the data, relative to the root of the package."
  @callback file() :: Path.t()

  @doc "Reads the text of the file. Raises `ArgumentError` if it is something else."
  @callback decode!(String.t()) :: term()

  @doc "Returns the text of the file; inverse of `decode!/1`."
  @callback encode(term()) :: String.t()

  @doc "Reads the data from a CLI, with notes for people. Starts from the stored data."
  @callback read(Program.t(), stored :: term()) ::
              {:ok, term(), [Diff.change()]} | {:error, String.t()}

  @doc "Returns the data as a tree to compare."
  @callback tree(term()) :: Diff.tree()
end
