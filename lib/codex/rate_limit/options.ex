defmodule Codex.RateLimit.Options do
  @moduledoc false
  # The options of `Codex.RateLimit`. Missing delays come from the application environment.

  alias Codex.OptionError
  alias Codex.Options.Rows.Retry, as: Rows
  alias Codex.Options.Schema

  @schema Schema.new(Rows.rate_limit(), places: true)
  @handle Schema.new([
            {:attempt, :positive, "the number of the failed attempt", default: 1}
            | Rows.rate_limit()
          ])

  @environment [
    default_delay_ms: {:rate_limit_default_delay_ms, 60_000},
    max_delay_ms: {:rate_limit_max_delay_ms, 300_000},
    multiplier: {:rate_limit_multiplier, 2.0}
  ]

  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @spec check(term()) :: {:ok, map()} | {:error, OptionError.t()}
  def check(opts), do: Schema.validate(@schema, opts, &Rows.cast/2)

  @doc """
  Returns the options with the values of the application environment. Raises `Codex.OptionError`.
  """
  @spec complete!(term()) :: map()
  def complete!(opts), do: complete!(opts, @schema)

  @doc "Returns the options of `Codex.RateLimit.handle/2`. Raises `Codex.OptionError`."
  @spec handle!(term()) :: map()
  def handle!(opts), do: complete!(opts, @handle)

  defp complete!(opts, schema) do
    opts = Schema.validate!(schema, opts, &Rows.cast/2)

    configured =
      for {name, {key, default}} <- @environment,
          opts[name] == nil,
          into: %{},
          do: {name, Application.get_env(:codex_sdk, key, default)}

    # The environment may hold invalid values.
    configured =
      Schema.validate!(@schema, configured, &Rows.cast/2) |> Map.take(Map.keys(configured))

    opts = Map.merge(opts, configured)
    %{opts | max_wait_ms: opts.max_wait_ms || opts.max_delay_ms}
  end
end
