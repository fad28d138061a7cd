defmodule Codex.OutputSchemaFile do
  @moduledoc """
  The JSON schema of an answer as a temporary file, which is how the CLI takes it.

  Turns with `output_schema` do this by themselves. The file is readable by its owner only and has a name that no other
  run has.
  """

  alias Codex.JSON

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
    name =
      "codex_output_schema_" <>
        Base.encode16(:crypto.strong_rand_bytes(12), case: :lower) <> ".json"

    # Without a temporary directory, the reason is that there is no such file.
    path = Path.join(System.tmp_dir() || "/tmp", name)

    with {:error, reason} <- write(path, encoded) do
      {:error, {:write_failed, path, reason}}
    end
  end

  # Exclusive, and private before anything is in it: nobody else's file, and nobody else's to read.
  defp write(path, encoded) do
    with {:ok, file} <- :file.open(path, [:write, :exclusive, :raw]) do
      written = with :ok <- File.chmod(path, 0o600), do: :file.write(file, encoded)
      closed = :file.close(file)

      with :ok <- written, :ok <- closed do
        {:ok, path, fn -> remove(path) end}
      else
        error ->
          remove(path)
          error
      end
    end
  end

  defp remove(path) do
    _ = File.rm(path)
    :ok
  end
end
