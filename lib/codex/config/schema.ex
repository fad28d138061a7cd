defmodule Codex.Config.Schema do
  @moduledoc """
  The configuration keys that the CLI knows, with their types. The data is in
  `priv/config/schema.json` and names the CLI version that it was taken from.
  """

  alias Codex.Native

  @doc """
  Returns the version of the CLI that the data was taken from.

      iex> Codex.Config.Schema.cli_version() == Codex.CLI.tested_version()
      true
  """
  @spec cli_version() :: String.t()
  def cli_version, do: elem(current(), 1)

  @doc false
  @spec ref() :: reference()
  def ref, do: elem(current(), 0)

  @doc false
  # Whether a value at this path can only be a table: an empty list there stands for an empty table.
  @spec table?([String.t()]) :: boolean()
  def table?(path), do: Native.config_is_table(ref(), path)

  # Read once for each loaded native library: a reloaded library does not know the old references.
  defp current do
    image = Native.image()

    case :persistent_term.get(__MODULE__, nil) do
      {_ref, _cli, ^image} = known -> known
      _none -> read(image)
    end
  end

  defp read(image) do
    path = Path.join(:code.priv_dir(:codex_sdk), "config/schema.json")

    case Native.config_schema(File.read!(path)) do
      {:ok, ref, cli} ->
        :persistent_term.put(__MODULE__, {ref, cli, image})
        {ref, cli, image}

      {:error, reason} ->
        raise "#{path} is not a schema: #{reason}"
    end
  end
end
