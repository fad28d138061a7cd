defmodule Codex.Batch.Progress do
  @moduledoc false
  # The line about a running batch at a terminal. It is written over itself on stderr.

  alias Codex.Batch.{Budget, Result}
  alias Codex.{Format, Text}

  @device :standard_error
  @order [:ok, :failed, :uncertain, :cancelled, :skipped]

  defstruct counts: %{}, tokens: 0, usd: 0.0, line: ""

  @type t :: %__MODULE__{} | nil

  @doc "Returns the progress of no job; nil if it is not wanted, or stderr is no terminal."
  @spec new(boolean()) :: t()
  def new(wanted?), do: if(wanted? and columns() != nil, do: %__MODULE__{})

  defp columns do
    case :io.columns(@device) do
      {:ok, columns} -> columns
      {:error, _no_terminal} -> nil
    end
  end

  @doc "Adds a result."
  @spec add(t(), Result.t()) :: t()
  def add(nil, _result), do: nil

  def add(progress, result) do
    %{
      progress
      | counts: Map.update(progress.counts, result.status, 1, &(&1 + 1)),
        tokens: progress.tokens + Budget.tokens(result.usage),
        usd: progress.usd + (result.usd || 0.0)
    }
  end

  @doc "Prints the line if it has changed."
  @spec show(t(), non_neg_integer()) :: t()
  def show(nil, _running), do: nil

  def show(progress, running) do
    line = progress |> line(running) |> Text.line() |> String.slice(0, (columns() || 80) - 1)
    if line != progress.line, do: IO.write(@device, ["\r", line, "\e[K"])
    %{progress | line: line}
  end

  @doc """
  Formats the line.

      iex> Codex.Batch.Progress.line(%Codex.Batch.Progress{counts: %{ok: 2}, tokens: 1_200}, 3)
      "2 ok, 3 running, 1.20K tokens"
  """
  @spec line(%__MODULE__{}, non_neg_integer()) :: String.t()
  def line(progress, running) do
    counts = for status <- @order, n = progress.counts[status], do: "#{n} #{status}"
    money = if progress.usd > 0.0, do: [Format.cost(progress.usd)], else: []
    tokens = "#{Format.tokens(progress.tokens)} tokens"
    Enum.join(counts ++ ["#{running} running", tokens] ++ money, ", ")
  end

  @doc "Ends the line."
  @spec finish(t()) :: :ok
  def finish(nil), do: :ok
  def finish(%{line: ""}), do: :ok
  def finish(_progress), do: IO.write(@device, "\n")
end
