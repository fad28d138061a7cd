defmodule Codex.OutputSchemaFile do
  @moduledoc """
  The JSON schema of an answer as a temporary file, which is how the CLI takes it.

  Turns with `output_schema` do this by themselves. The file is readable by its owner only and has a name that no other
  run has.
  """

  alias Codex.{JSON, TempFile}

  @type error :: {:not_encodable, term(), list()} | {:write_failed, Path.t(), File.posix()}

  @doc """
  Writes the file. Returns its path and the function that removes it; nil gives nil and a function that does nothing.

      iex> {:ok, path, cleanup} = Codex.OutputSchemaFile.create(%{type: "object"})
      iex> {File.read(path), cleanup.(), File.exists?(path)}
      {{:ok, ~S({"type":"object"})}, :ok, false}
  """
  @spec create(map() | nil) :: {:ok, Path.t() | nil, (() -> :ok)} | {:error, error()}
  def create(schema) do
    with {:ok, encoded} <- encode(schema), do: create_encoded(encoded)
  end

  @doc false
  @spec encode(map() | nil) :: {:ok, binary() | nil} | {:error, {:not_encodable, term(), list()}}
  def encode(nil), do: {:ok, nil}
  def encode(schema), do: JSON.encode(schema)

  @doc false
  @spec create_encoded(binary() | nil) :: {:ok, Path.t() | nil, (() -> :ok)} | {:error, error()}
  def create_encoded(nil), do: {:ok, nil, fn -> :ok end}

  def create_encoded(encoded) do
    with {:ok, path} <- TempFile.create(encoded, "codex_output_schema_", ".json") do
      {:ok, path, fn -> TempFile.remove(path) end}
    end
  end
end
