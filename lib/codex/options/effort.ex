defmodule Codex.Options.Effort do
  @moduledoc false
  # The words of reasoning efforts, for `Codex.Models` and for the option `reasoning_effort`.
  #
  # The CLI accepts any string (`model_reasoning_effort` is a string in its configuration, and a
  # catalog may name more efforts), so an unlisted word stays a string and never becomes an atom.

  @efforts [:none, :minimal, :low, :medium, :high, :xhigh, :max, :ultra]
  @words Map.new(@efforts, &{Atom.to_string(&1), &1})
  @aliases %{"extra_high" => :xhigh}

  @type t :: :none | :minimal | :low | :medium | :high | :xhigh | :max | :ultra

  @doc "Returns the known efforts, weakest first."
  @spec all() :: [t()]
  def all, do: @efforts

  @doc """
  Converts a word to an effort. Case and surrounding spaces do not matter.

      iex> Enum.map(["Extra-High", :extra_high, " max ", "turbo", 3], &Codex.Options.Effort.parse/1)
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
  Converts a string to the word of the CLI: that of a known effort, any other unchanged.

      iex> Enum.map(["EXTRA-HIGH", "turbo"], &Codex.Options.Effort.word/1)
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
  Converts the effort of a catalog: a known effort to an atom, any other stays a string.

      iex> Enum.map(["xhigh", "turbo"], &Codex.Options.Effort.from_wire/1)
      [:xhigh, "turbo"]
  """
  @spec from_wire(String.t()) :: t() | String.t()
  def from_wire(text), do: Map.get(@words, text, text)
end
