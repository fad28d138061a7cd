defmodule Codex.Models.Effort do
  @moduledoc false
  # The words for reasoning efforts, once: for `Codex.Models`, for the option `reasoning_effort` and its documentation.
  #
  # CLI 0.169 takes any text for one (`model_reasoning_effort` is a string in its configuration, and a catalog may name
  # efforts of its own), so a word that is not listed here stays the text that it is, and never becomes an atom. The last
  # two came with the models of that CLI.

  @efforts [:none, :minimal, :low, :medium, :high, :xhigh, :max, :ultra]
  @words Map.new(@efforts, &{Atom.to_string(&1), &1})
  @aliases %{"extra_high" => :xhigh}

  @type t :: :none | :minimal | :low | :medium | :high | :xhigh | :max | :ultra

  @doc "All that are known, weakest first."
  @spec all() :: [t()]
  def all, do: @efforts

  @doc """
  The effort that a word means, whatever its case and the spaces around it.

      iex> Enum.map(["Extra-High", :extra_high, " max ", "turbo", 3], &Codex.Models.Effort.parse/1)
      [{:ok, :xhigh}, {:ok, :xhigh}, {:ok, :max}, :error, :error]
  """
  @spec parse(term()) :: {:ok, t()} | :error
  def parse(effort) when effort in @efforts, do: {:ok, effort}

  def parse(effort) when is_atom(effort) and effort not in [nil, true, false],
    do: effort |> Atom.to_string() |> parse()

  def parse(text) when is_binary(text) do
    if String.valid?(text), do: lookup(text), else: :error
  end

  def parse(_other), do: :error

  defp lookup(text) do
    word = text |> String.trim() |> String.downcase() |> String.replace(["-", " "], "_")
    with :error <- Map.fetch(@words, word), do: Map.fetch(@aliases, word)
  end

  @doc """
  The word that the CLI takes: that of a known effort, any other as it is.

      iex> Enum.map(["EXTRA-HIGH", "turbo"], &Codex.Models.Effort.word/1)
      ["xhigh", "turbo"]
  """
  @spec word(String.t()) :: String.t()
  def word(text) do
    case parse(text) do
      {:ok, effort} -> Atom.to_string(effort)
      :error -> text
    end
  end

  @doc """
  An effort as a catalog names it: an atom where it is known, else the text itself.

      iex> Enum.map(["xhigh", "turbo"], &Codex.Models.Effort.from_wire/1)
      [:xhigh, "turbo"]
  """
  @spec from_wire(String.t()) :: t() | String.t()
  def from_wire(text), do: Map.get(@words, text, text)
end
