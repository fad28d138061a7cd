defmodule Codex.Batch.Budget do
  @moduledoc false
  # The most that a batch may spend, and the sum of its results so far. Pure.

  alias Codex.Batch.Result
  alias Codex.Error
  alias Codex.Options.{Schema, Type}

  defstruct [:max_tokens, :max_usd, tokens: 0, usd: 0.0, unpriced: nil]

  @type t :: %__MODULE__{
          max_tokens: pos_integer() | nil,
          max_usd: number() | nil,
          tokens: non_neg_integer(),
          usd: float(),
          unpriced: term()
        }

  @schema Schema.new([
            {:tokens, :positive, "the most tokens"},
            {:usd, :amount, "the most dollars", expected: "a number above 0"}
          ])

  @doc """
  Makes the budget of an option.

      iex> {:ok, budget} = Codex.Batch.Budget.cast(2_000)
      iex> {budget.max_tokens, budget.max_usd}
      {2000, nil}
      iex> Codex.Batch.Budget.cast(0)
      :error
  """
  @spec cast(term()) :: {:ok, t()} | {:error, Codex.OptionError.t()} | :error
  def cast(tokens) when is_integer(tokens), do: cast(tokens: tokens)

  def cast(value) do
    case Schema.validate(@schema, value, &amount/2) do
      {:ok, %{tokens: tokens, usd: usd}} -> {:ok, %__MODULE__{max_tokens: tokens, max_usd: usd}}
      {:error, %{reason: :not_options}} -> :error
      {:error, %{path: [:tokens]}} when is_list(value) -> :error
      {:error, error} -> {:error, error}
    end
  end

  defp amount(:amount, usd) when is_number(usd) and usd > 0, do: {:ok, usd}
  defp amount(_type, _value), do: :error

  @doc "Returns whether the costs of jobs are needed in money."
  @spec money?(t() | nil) :: boolean()
  def money?(budget), do: budget != nil and budget.max_usd != nil

  @doc "Adds what a job has used."
  @spec add(t(), Result.t()) :: t()
  def add(budget, result) do
    tokens = budget.tokens + tokens(result.usage)
    budget = %{budget | tokens: tokens, usd: budget.usd + (result.usd || 0.0)}
    # Without its cost, the sum would be too low.
    ran? = result.thread_id != nil or result.usage != nil

    if money?(budget) and ran? and result.usd == nil,
      do: %{budget | unpriced: result.key},
      else: budget
  end

  @doc """
  Counts the tokens of a usage: input and output.

      iex> Codex.Batch.Budget.tokens(%{"input_tokens" => 10, "output_tokens" => 2})
      12
      iex> Codex.Batch.Budget.tokens(nil)
      0
  """
  @spec tokens(map() | nil) :: non_neg_integer()
  def tokens(usage) do
    for name <- ["input_tokens", "output_tokens"], n = usage[name], is_integer(n), reduce: 0 do
      sum -> sum + n
    end
  end

  @doc "Returns the error of a job that does not begin because the budget is used up, or nil."
  @spec exceeded(t() | nil) :: Error.t() | nil
  def exceeded(nil), do: nil

  def exceeded(%{max_tokens: max, tokens: tokens}) when max != nil and tokens >= max,
    do: error("the budget of #{max} tokens is used up: the jobs used #{tokens}")

  def exceeded(%{max_usd: max, usd: usd}) when max != nil and usd >= max,
    do:
      error("the budget of #{max} dollars is used up: the jobs cost about #{Float.round(usd, 4)}")

  def exceeded(%{unpriced: key}) when key != nil,
    do:
      error(
        "the cost of the job #{Type.kind(key)} is not known, so the budget in dollars cannot be " <>
          "kept: give its model in option :prices"
      )

  def exceeded(_budget), do: nil

  defp error(message), do: Error.new(:usage_limit, message, %{option: :budget})
end
