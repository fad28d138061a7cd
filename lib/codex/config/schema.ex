defmodule Codex.Config.Schema do
  @moduledoc """
  The configuration keys that the CLI knows, with their types: data in `priv/config/schema.json`, which names the version
  of the CLI that it holds for.
  """

  alias Codex.Native

  @doc """
  The version of the CLI that the data was taken from.

      iex> Codex.Config.Schema.cli_version()
      "0.169.0"
  """
  @spec cli_version() :: String.t()
  def cli_version, do: elem(current(), 1)

  @doc false
  @spec ref() :: reference()
  def ref, do: elem(current(), 0)

  # Read once: the data does not change while the library is loaded.
  defp current do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> read()
      known -> known
    end
  end

  defp read do
    path = Path.join(:code.priv_dir(:codex_sdk), "config/schema.json")

    case Native.config_schema(File.read!(path)) do
      {:ok, ref, cli} ->
        :persistent_term.put(__MODULE__, {ref, cli})
        {ref, cli}

      {:error, reason} ->
        raise "#{path} is not a schema: #{reason}"
    end
  end
end
