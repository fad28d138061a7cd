defmodule Codex.CLI.Range do
  @moduledoc false
  # The versions of the CLI that this package is tested with: those of `priv/cli/older`, the lowest
  # first, and the newest in `priv/cli/version`, which the whole test suite runs with.
  # `bin/setup.sh` installs the CLI by the same files. Versions between the lowest and the newest
  # are in the range.

  @newest_file Path.expand("../../../priv/cli/version", __DIR__)
  @older_file Path.expand("../../../priv/cli/older", __DIR__)
  @external_resource @newest_file
  @external_resource @older_file
  @newest @newest_file |> File.read!() |> String.trim()
  @older @older_file |> File.read!() |> String.split()
  @lowest hd(@older)

  @doc "Returns the newest version of the range."
  @spec newest() :: String.t()
  def newest, do: @newest

  @doc "Returns the lowest version of the range."
  @spec lowest() :: String.t()
  def lowest, do: @lowest

  @doc "Returns the tested versions, the lowest first."
  @spec tested() :: [String.t(), ...]
  def tested, do: @older ++ [@newest]

  @doc """
  Returns where a version is. A version that differs from the newest one in the last number only is
  in the range.

      iex> newest = Codex.CLI.Range.newest()
      iex> for version <- ["0.1.0", newest, newest <> "-alpha.1", "1000.0.0"],
      ...>   do: Codex.CLI.Range.place(version)
      [:older, :inside, :inside, :newer]
  """
  @spec place(String.t()) :: :older | :inside | :newer
  def place(version) do
    cond do
      Version.compare(version, @lowest) == :lt -> :older
      Version.compare(version, @newest) == :lt -> :inside
      Version.match?(version, "~> #{@newest}", allow_pre: true) -> :inside
      true -> :newer
    end
  end

  @doc """
  Returns, for a version outside the range, the range and advice as a part of a sentence; nil for a
  version inside.
  """
  @spec advice(String.t()) :: String.t() | nil
  def advice(version) do
    case place(version) do
      :inside ->
        nil

      :older ->
        "older than the tested versions #{@lowest} to #{@newest}: " <>
          "update it (npm install -g @openai/codex@#{@newest})"

      :newer ->
        "newer than the tested versions #{@lowest} to #{@newest}: " <>
          "update codex_sdk, or use codex-cli #{@newest} if something fails"
    end
  end
end
