defmodule Codex.RateLimit.Options do
  @moduledoc false
  # The options of `Codex.RateLimit`. Delays that are not given come from the application environment.

  alias Codex.Retry.Settings

  @rows [
    {:max_attempts, :positive, 3, "how many attempts there are in all, limited ones"},
    {:default_delay_ms, :count, nil,
     "the first wait, in ms, where the server does not say when; else `:rate_limit_default_delay_ms` of the application environment, 60_000"},
    {:max_delay_ms, :count, nil,
     "the longest of these waits; else `:rate_limit_max_delay_ms`, 300_000"},
    {:multiplier, :factor, nil,
     "what each of these waits is multiplied with for the next; else `:rate_limit_multiplier`, 2.0"},
    {:max_wait_ms, :timeout, nil,
     "where a wait would be longer, in ms, the error comes back at once; else as `max_delay_ms`"},
    {:gate, :boolean, false,
     "whether runs of the same account wait together: those that begin while a limit holds, too"},
    {:max_waiting, :positive, 100,
     "how many may wait at the gate of the account; the next one gets an error of the kind `:rate_limit`"},
    {:account, :text, nil,
     "a name for whoever pays; else one made of provider and a digest of key or home"},
    {:telemetry_prefix, :atoms, [:codex],
     "first part of event names; of a run, it is the client's"}
  ]

  @environment [
    default_delay_ms: {:rate_limit_default_delay_ms, 60_000},
    max_delay_ms: {:rate_limit_max_delay_ms, 300_000},
    multiplier: {:rate_limit_multiplier, 2.0}
  ]

  @doc false
  def rows, do: @rows

  @spec docs() :: String.t()
  def docs, do: Settings.docs(@rows)

  @spec check(term()) :: {:ok, map()} | {:error, Settings.reason()}
  def check(opts), do: Settings.check(@rows, opts)

  @doc "The options, with what the application environment has. Raises `ArgumentError`."
  @spec complete!(term()) :: map()
  def complete!(opts) do
    opts = Settings.check!(@rows, opts)

    told =
      for {name, {key, default}} <- @environment,
          opts[name] == nil,
          into: %{},
          do: {name, Application.get_env(:codex_sdk, key, default)}

    # What stands in the environment may be anything.
    opts = Settings.check!(@rows, Map.merge(opts, told))
    %{opts | max_wait_ms: opts.max_wait_ms || opts.max_delay_ms}
  end
end
