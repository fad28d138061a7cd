defmodule Codex.Config.Schema do
  @moduledoc """
  The configuration keys that the CLI knows, with their types. The data is in
  `priv/config/schema.json`, of the CLI version in `priv/cli/version`.
  """

  alias Codex.Native

  @version_file Path.expand("../../../priv/cli/version", __DIR__)
  @external_resource @version_file
  @version @version_file |> File.read!() |> String.trim()

  @doc """
  Returns the version of the CLI that the data was taken from.

      iex> Codex.Config.Schema.cli_version() == Codex.CLI.Program.tested_version()
      true
  """
  @spec cli_version() :: String.t()
  def cli_version, do: @version

  @doc false
  @spec ref() :: reference()
  def ref, do: current()

  @doc false
  # Whether a value at this path can only be a table: an empty list there stands for an empty table.
  @spec table?([String.t()]) :: boolean()
  def table?(path), do: Native.config_is_table(ref(), path)

  # Read once for each loaded native library: a reloaded library does not know the old references.
  defp current do
    image = Native.image()

    case :persistent_term.get(__MODULE__, nil) do
      {ref, ^image} -> ref
      _none -> read(image)
    end
  end

  defp read(image) do
    path = Path.join(:code.priv_dir(:codex_sdk), "config/schema.json")

    case Native.config_schema(File.read!(path)) do
      {:ok, ref} ->
        :persistent_term.put(__MODULE__, {ref, image})
        ref

      {:error, reason} ->
        raise "#{path} is not a schema: #{reason}"
    end
  end
end
