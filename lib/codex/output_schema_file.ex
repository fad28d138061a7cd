defmodule Codex.OutputSchemaFile do
  @moduledoc """
  The JSON schema of an answer as a temporary file, which is how the CLI takes it.

  Turns with `output_schema` do this by themselves. The file has mode 0600 and stands in a directory
  of its own, of mode 0700, from their first moment.
  """

  alias Codex.{FileSystem, JSON}

  @type error :: {:not_encodable, term(), list()} | {:write_failed, Path.t(), FileSystem.reason()}

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
    # Without a temporary directory, the reason is that there is no such file.
    parent = System.tmp_dir() || "/tmp"

    case FileSystem.hand_over(parent, "codex_output_schema.json", encoded) do
      {:ok, path} -> {:ok, path, fn -> remove(path) end}
      {:error, reason} -> {:error, {:write_failed, parent, reason}}
    end
  end

  defp remove(path) do
    _ = File.rm(path)
    _ = File.rmdir(Path.dirname(path))
    :ok
  end
end
