defmodule Codex.OutputSchemaFile do
  @moduledoc """
  Writes the JSON schema of an answer into a temporary file. Kept for callers of 0.4.5; turns with
  `output_schema` need no such call.

  The file has mode 0600, and its directory, which holds nothing else, mode 0700.
  """

  alias Codex.{FileSystem, JSON}

  @typedoc "The schema is not JSON, or the file was not written."
  @type error :: {:not_encodable, term(), list()} | {:write_failed, Path.t(), Codex.Reason.file()}

  @doc """
  Writes the file. Returns its path and a function that removes it; without a schema, nil and a
  function that does nothing.

      iex> {:ok, path, cleanup} = Codex.OutputSchemaFile.create(%{type: "object"})
      iex> {File.read(path), cleanup.(), File.exists?(path)}
      {{:ok, ~S({"type":"object"})}, :ok, false}
  """
  @spec create(map() | nil) :: {:ok, Path.t() | nil, (... -> :ok)} | {:error, error()}
  def create(schema) do
    with {:ok, encoded} <- encode(schema), do: create_encoded(encoded)
  end

  @doc false
  @spec encode(map() | nil) :: {:ok, binary() | nil} | {:error, {:not_encodable, term(), list()}}
  def encode(nil), do: {:ok, nil}
  def encode(schema), do: JSON.encode(schema)

  @doc false
  @spec create_encoded(binary() | nil) :: {:ok, Path.t() | nil, (... -> :ok)} | {:error, error()}
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
