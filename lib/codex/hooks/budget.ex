defmodule Codex.Hooks.Budget do
  @moduledoc false
  # The option `budget`: counts the tokens of each answer of the model, sub-agents included, and
  # holds the request that would begin beyond the limit. A hook cannot refuse a request, but the CLI
  # waits for its answer, and the run is stopped while it waits.

  alias Codex.Hooks.Set
  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}
  alias Codex.Sessions
  alias Codex.Sessions.Prices

  @schema Schema.new([
            {:tokens, :positive, "the limit in tokens, input and output together"},
            {:usd, :price, "the limit in US dollars, by the prices of `Codex.Sessions.Prices`",
             expected: "a positive number"},
            {:per, {:one_of, [:run, :thread, :tree]},
             "what counts besides this run: nothing, the thread's earlier turns, or also those " <>
               "of its sub-agents and reviews", default: :run},
            {:prices, :prices, "other prices, as `Codex.Sessions.usage/2` takes them",
             expected: "a map of prices by model"}
          ])

  @type t :: %{
          tokens: pos_integer() | nil,
          usd: number() | nil,
          prices: map() | nil,
          per: :run | :thread | :tree
        }

  @counts ~w(input_tokens cached_input_tokens cache_write_input_tokens output_tokens
             reasoning_output_tokens)

  # Money is counted in millionths of a cent, because a counter is an integer.
  @units 100_000_000

  @doc "Returns the option in its full form."
  @spec cast(term()) :: {:ok, t()} | :error | {:error, OptionError.t()}
  def cast(tokens) when is_integer(tokens), do: cast(tokens: tokens)

  def cast(opts) when is_list(opts) or is_map(opts) do
    case Schema.validate(@schema, opts, &type/2) do
      {:ok, opts} -> limited(Map.merge(%{tokens: nil, usd: nil, prices: nil}, Map.new(opts)))
      {:error, %{reason: :not_options}} -> :error
      {:error, error} -> {:error, error}
    end
  end

  def cast(_other), do: :error

  defp type(:price, usd) when is_number(usd) and usd > 0, do: {:ok, usd}
  defp type(:price, _other), do: :error

  defp type(:prices, %{} = prices),
    do: with(:ok <- Prices.check(prices), do: {:ok, prices}, else: ({:error, _} -> :error))

  defp type(type, value), do: Type.cast(type, value)

  defp limited(%{tokens: nil, usd: nil}), do: :error
  defp limited(budget), do: {:ok, budget}

  @spec hooks(map()) :: [{atom(), function(), non_neg_integer()}]
  def hooks(%{budget: nil}), do: []

  def hooks(%{budget: budget}) do
    # The request is held until the run is over.
    [
      {:pre_model_request, &before(&1, &2, budget), Set.max_ms()},
      {:post_model_request, &count(&1, &2, budget), 0}
    ]
  end

  defp count(event, set, budget) do
    usage = event.token_usage || %{}
    _ = Set.add(set, :tokens, tokens(usage))
    _ = if budget.usd, do: spend(cost(usage, event.model, budget), event.model, set)
    :allow
  end

  defp spend(nil, model, set), do: Set.tell(set, {:stop, {:budget, {:no_price, model}}})
  defp spend(usd, _model, set), do: Set.add(set, :money, round(usd * @units))

  defp before(_event, set, budget) do
    case over(budget, Set.value(set, :tokens), Set.value(set, :money) / @units) do
      nil ->
        :allow

      spent ->
        :ok = Set.tell(set, {:stop, {:budget, spent}})
        Process.sleep(:infinity)
    end
  end

  defp over(%{tokens: limit}, tokens, _usd) when limit != nil and tokens >= limit,
    do: %{unit: :tokens, limit: limit, spent: tokens}

  defp over(%{usd: limit}, _tokens, usd) when limit != nil and usd >= limit,
    do: %{unit: :usd, limit: limit, spent: usd}

  defp over(_budget, _tokens, _usd), do: nil

  defp tokens(%{"total_tokens" => n}) when is_integer(n), do: n
  defp tokens(usage), do: number(usage["input_tokens"]) + number(usage["output_tokens"])

  defp number(n) when is_integer(n), do: n
  defp number(_other), do: 0

  defp cost(usage, model, budget) do
    with price when price != nil <- Prices.of(model, budget.prices || Prices.all()) do
      tokens = for key <- @counts, do: number(usage[key])
      tokens |> List.to_tuple() |> Prices.cost(price)
    end
  end

  @doc """
  Adds what a thread used before this run, from its session file, once for all attempts of a call.
  `home` is the home of the CLI.
  """
  @spec begin(Set.t(), t() | nil, struct() | map() | nil, (... -> Path.t() | nil)) ::
          :ok | {:error, {:budget, :unknown}}
  def begin(_set, nil, _thread, _home), do: :ok
  def begin(_set, %{per: :run}, _thread, _home), do: :ok

  def begin(set, budget, thread, home) do
    if Set.add(set, :begun, 1) > 1, do: :ok, else: before(set, budget, thread, home)
  end

  # The CLI chooses the newest thread.
  defp before(_set, _budget, %{resume: :last, thread_id: nil}, _home),
    do: {:error, {:budget, :unknown}}

  defp before(set, budget, %{thread_id: id}, home) when is_binary(id),
    do: recorded(set, budget, id, home.())

  defp before(_set, _budget, _new, _home), do: :ok

  defp recorded(set, budget, thread_id, home) do
    opts = [scope: budget.per, codex_home: home, prices: budget.prices]
    opts = Enum.reject(opts, &(elem(&1, 1) == nil))

    with {:ok, usage} <- Sessions.usage(thread_id, opts),
         true <- budget.usd == nil or not usage.cost.lower_bound do
      _ = Set.add(set, :tokens, tokens(usage.usage || %{}))
      _ = Set.add(set, :money, round(usage.cost.usd * @units))
      :ok
    else
      _unknown -> {:error, {:budget, :unknown}}
    end
  end
end
