defmodule Codex.Sessions.Prices do
  @moduledoc """
  List prices of models in US dollars per million tokens, for estimates.

  Prices change, and an account may have others: `Codex.Sessions.usage/2` marks every sum of money
  as an estimate, and takes other prices in its option `:prices`. A model without a price here is
  reported as missing.
  """

  # Input, cached input, output; the standard tier of the API on this day. A model that has no price
  # for cached input is charged the full one.
  @date ~D[2025-12-15]
  @prices %{
    "codex-mini-latest" => {1.50, 0.375, 6.00},
    "gpt-4.1" => {2.00, 0.50, 8.00},
    "gpt-4.1-mini" => {0.40, 0.10, 1.60},
    "gpt-4.1-nano" => {0.10, 0.025, 0.40},
    "gpt-4o" => {2.50, 1.25, 10.00},
    "gpt-5" => {1.25, 0.125, 10.00},
    "gpt-5-codex" => {1.25, 0.125, 10.00},
    "gpt-5-mini" => {0.25, 0.025, 2.00},
    "gpt-5-nano" => {0.05, 0.005, 0.40},
    "gpt-5-pro" => {15.00, 15.00, 120.00},
    "gpt-5.1" => {1.25, 0.125, 10.00},
    "gpt-5.1-codex" => {1.25, 0.125, 10.00},
    "gpt-5.1-codex-max" => {1.25, 0.125, 10.00},
    "gpt-5.1-codex-mini" => {0.25, 0.025, 2.00},
    "gpt-5.2" => {1.75, 0.175, 14.00},
    "gpt-5.2-pro" => {21.00, 21.00, 168.00},
    "o3" => {2.00, 0.50, 8.00},
    "o4-mini" => {1.10, 0.275, 4.40}
  }

  @typedoc "Dollars per million tokens: input, cached input, output."
  @type price :: {number(), number(), number()}

  @doc "Returns the day of the prices."
  @spec date() :: Date.t()
  def date, do: @date

  @doc "Returns the prices by model."
  @spec all() :: %{String.t() => price()}
  def all, do: @prices

  @doc """
  Returns the price of a model, or nil. The date at the end of a model's name does not matter.

      iex> Codex.Sessions.Prices.of("gpt-5-2025-08-07", %{"gpt-5" => {1.25, 0.125, 10.0}})
      {1.25, 0.125, 10.0}
  """
  @spec of(String.t() | nil, %{String.t() => price()}) :: price() | nil
  def of(nil, prices) when is_map(prices), do: nil

  def of(model, prices) when is_binary(model) and is_map(prices) do
    undated = String.replace(model, ~r/-\d{4}-\d\d-\d\d\z/, "")
    Map.get(prices, model) || Map.get(prices, undated)
  end

  @doc false
  # Checks prices that a caller gave.
  @spec check(term()) :: :ok | {:error, Codex.OptionError.t()}
  def check(nil), do: :ok

  def check(prices) do
    case Enum.reject(prices, &price?/1) do
      [] ->
        :ok

      [{model, price} | _] ->
        expected = "{input, cached_input, output} in dollars per million tokens"
        {:error, Codex.OptionError.invalid([:prices, model], price, expected)}
    end
  end

  defp price?({model, {input, cached, output}}) when is_binary(model),
    do: Enum.all?([input, cached, output], &(is_number(&1) and &1 >= 0))

  defp price?(_other), do: false

  @doc false
  # Dollars of tokens. Cached tokens are part of the input.
  @spec cost(Codex.Sessions.Tokens.t(), price()) :: float()
  def cost({input, cached, _cache_write, output, _reasoning}, {of_input, of_cached, of_output}) do
    (max(input - cached, 0) * of_input + cached * of_cached + output * of_output) / 1_000_000
  end
end
