defmodule Codex.RateLimit.Options do
  @moduledoc false
  # The options of `Codex.RateLimit`. Missing delays come from the application environment.

  alias Codex.Options.Schema

  @rows [
    {:max_attempts, :positive, 3, "the number of attempts in all"},
    {:default_delay_ms, :count, nil,
     "the first wait in ms if the server gives no time; if not set, " <>
       "`:rate_limit_default_delay_ms` of the application environment, 60_000"},
    {:max_delay_ms, :count, nil,
     "the longest of these waits; if not set, `:rate_limit_max_delay_ms`, 300_000"},
    {:multiplier, :factor, nil,
     "each of these waits is multiplied with this for the next; " <>
       "if not set, `:rate_limit_multiplier`, 2.0"},
    {:max_wait_ms, :timeout, nil,
     "the longest wait in ms: the error is returned at once if a wait is longer; " <>
       "if not set, as `max_delay_ms`"},
    {:account, :text, nil,
     "a name for the account; if not set, made of the provider and a digest of key or home"},
    {:telemetry_prefix, :atoms, [:codex],
     "the first part of event names; a run uses the client's"}
  ]

  @environment [
    default_delay_ms: {:rate_limit_default_delay_ms, 60_000},
    max_delay_ms: {:rate_limit_max_delay_ms, 300_000},
    multiplier: {:rate_limit_multiplier, 2.0}
  ]

  @doc false
  def rows, do: @rows

  @spec docs() :: String.t()
  def docs, do: Schema.docs(@rows)

  @spec check(term()) :: {:ok, map()} | {:error, Schema.reason()}
  def check(opts), do: Schema.check(@rows, opts)

  @doc "Returns the options with the values of the application environment. Raises `ArgumentError`."
  @spec complete!(term()) :: map()
  def complete!(opts) do
    opts = Schema.check!(@rows, opts)

    configured =
      for {name, {key, default}} <- @environment,
          opts[name] == nil,
          into: %{},
          do: {name, Application.get_env(:codex_sdk, key, default)}

    # The environment may hold invalid values.
    opts = Schema.check!(@rows, Map.merge(opts, configured))
    %{opts | max_wait_ms: opts.max_wait_ms || opts.max_delay_ms}
  end
end
