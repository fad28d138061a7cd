defmodule Codex.Telemetry do
  @moduledoc """
  What the SDK tells to `:telemetry`, where the host application has it. Without it nothing happens, and nothing is paid.

      :ok = Codex.Telemetry.attach_default_logger(level: :info)

      :telemetry.attach("tokens", [:codex, :thread, :token_usage, :updated], &MyApp.count/4, nil)

  The first part of every name is the option `telemetry_prefix` of the client, `[:codex]` by default.

  **Prompts, commands and outputs are not told**, unless the client has `telemetry_content: true`; then events have the keys marked
  (content). Errors have the CLI's own words; keys that the SDK knows are redacted in them.

  ## Events

  #{Codex.Telemetry.Table.docs()}

  Measurements: `system_time` and `duration` are in native units (`System.convert_time_unit/3`), `duration_ms` and
  `delay_ms` in milliseconds.

  Metadata of a turn: `lane` (`:exec` or `:app_server`), `originator` (`:sdk`), `span_token` (a
  reference that all events of a turn share), `thread_id` (nil until the CLI has named the thread)
  and `turn_id` (nil until an app-server has named the turn; `codex exec` 0.169 names none).

  A turn is a span: `[:codex, :thread, :start]`, then `:stop` or `:exception`, exactly one of both, however it ends, also where its
  reader goes away (`:early_exit`) - but not where the reader is killed: a dead process tells nothing. Attempts of one call
  (`retry`) are one span.

  Codex has an export of its own, `[otel]` in its configuration; `guides/telemetry.md` says how both join up.
  """

  alias Codex.Telemetry.{Debug, DefaultLogger, Table}

  # An application may be without it; `execute/3` looks whether it is loaded.
  @compile {:no_warn_undefined, :telemetry}

  @doc """
  Calls `:telemetry.execute/3` where that module is loaded: whoever attached a handler has loaded it.

      iex> Codex.Telemetry.execute([:codex, :retry, :attempt], %{delay_ms: 0}, %{attempt: 1})
      :ok
  """
  @spec execute([atom(), ...], map(), map()) :: :ok
  def execute([_ | _] = event, measurements, metadata)
      when is_map(measurements) and is_map(metadata) do
    if listening?(), do: telemetry().execute(event, measurements, metadata)
    :ok
  end

  # The application may lack the package; Dialyzer would miss it.
  defp telemetry, do: :telemetry

  @doc false
  # A failure without what the turn said and did: of that, only the words that the error itself has.
  @spec bare(term()) :: term()
  def bare(%Codex.Error{} = error) do
    kept = [:code, :type, :status, :clock, :option, :timeout_ms, :exit_status, :signal]
    details = if is_map(error.details), do: Map.take(error.details, kept), else: error.details
    %{error | event: nil, result: nil, stderr: nil, details: details}
  end

  def bare(%Codex.TransportError{} = error), do: error |> Codex.Error.normalize() |> bare()
  def bare({tag, reason}) when is_atom(tag), do: {tag, bare(reason)}
  def bare(%{__exception__: true} = error), do: %{kind: Codex.Error.normalize(error).kind}
  def bare(reason), do: reason

  @doc "Whether anybody could hear: `:telemetry` is loaded."
  @spec listening?() :: boolean()
  def listening?, do: :erlang.function_exported(:telemetry, :execute, 3)

  @doc """
  Tells an event of the application's own, as the SDK tells its: with `originator: :sdk`, with `duration_ms` where there is a
  `duration`, and with paths in `warnings` and `sandbox_warnings` in one form, each once.

      iex> Codex.Telemetry.emit([:my_app, :step], %{duration: 0}, %{warnings: ["C:\\\\a", "C:/a"]})
      :ok
  """
  @spec emit([atom(), ...], map(), map()) :: :ok
  def emit(event, measurements \\ %{}, metadata \\ %{})
      when is_list(event) and event != [] and is_map(measurements) and is_map(metadata) and
             not is_struct(metadata) do
    measurements =
      case measurements do
        %{duration: duration} when is_integer(duration) ->
          ms = System.convert_time_unit(duration, :native, :millisecond)
          Map.put_new(measurements, :duration_ms, ms)

        _ ->
          measurements
      end

    metadata =
      [:warnings, :sandbox_warnings]
      |> Enum.reduce(metadata, fn key, metadata ->
        if is_list(metadata[key]), do: Map.update!(metadata, key, &paths/1), else: metadata
      end)
      |> Map.put_new(:originator, :sdk)

    execute(event, measurements, metadata)
  end

  defp paths(warnings) do
    warnings
    |> Enum.map(&if(is_binary(&1), do: String.replace(&1, "\\", "/"), else: &1))
    |> Enum.uniq()
  end

  @doc """
  Writes a line to the log for each turn, failed attempt and limit; those of tools and processes are of level debug, failures of
  level warning. No content stands in it.

  Options: `:handler_id` (default `"codex-default-logger"`), `:level` (of turns that went well, default `:info`), `:prefix` (default
  `[:codex]`). Returns `:ok`, `{:error, :already_exists}`, or `{:error, :no_telemetry}` where the application has no `:telemetry`.
  """
  @spec attach_default_logger(keyword()) :: :ok | {:error, :already_exists | :no_telemetry}
  def attach_default_logger(opts \\ []) do
    opts =
      Codex.Options.Keywords.validate!(opts,
        handler_id: "codex-default-logger",
        level: :info,
        prefix: [:codex]
      )

    if Code.ensure_loaded?(:telemetry) do
      config = %{level: opts[:level], prefix: opts[:prefix]}
      events = DefaultLogger.events(opts[:prefix])
      telemetry().attach_many(opts[:handler_id], events, &DefaultLogger.handle/4, config)
    else
      {:error, :no_telemetry}
    end
  end

  @doc """
  Switches lines for debugging on or off, for processes and connections that begin from now on. The
  application needs no `:telemetry`. `config :codex_sdk, debug: true` does the same.

      Codex.Telemetry.debug(true)

  Written are the arguments of each process, the names of its environment, each event, each message
  of a connection in both directions, stderr, and at the end the exit, the time and how much came.
  `true` is the level `:info`; a level (`:debug`, `:info`, `:notice`, `:warning`, `:error`) is taken,
  too. Keys and tokens are `[redacted]`, and a line has at most 4,000 characters. **Prompts, commands
  and outputs are in it.**

  For the log of the CLI itself, set `RUST_LOG` in the option `env`: it comes as stderr.
  """
  @spec debug(boolean() | Logger.level()) :: :ok
  def debug(switch) do
    if is_boolean(switch) or switch in Debug.levels() do
      Application.put_env(:codex_sdk, :debug, switch)
    else
      raise ArgumentError,
            "expected a boolean or one of #{inspect(Debug.levels())}, got: #{inspect(switch)}"
    end
  end

  @doc """
  Names of all events, with a prefix.

      iex> [:codex, :thread, :stop] in Codex.Telemetry.events()
      true
  """
  @spec events([atom()]) :: [[atom(), ...]]
  def events(prefix \\ [:codex]), do: Enum.map(Table.names(), &(prefix ++ &1))

  @doc """
  The SDK exports nothing by itself, and changes nothing of other applications. Kept for callers of 0.4.5, whose `configure/1` set up
  an exporter of OpenTelemetry: attach handlers to the events instead, and let Codex export its own (`guides/telemetry.md`).

  Returns `:ok` where nothing is asked for (`enabled?: false`, or no options), else
  `{:error, %Codex.Error{kind: :unsupported}}`.
  """
  @spec configure(keyword()) :: :ok | {:error, Codex.Error.t()}
  def configure(opts \\ []) do
    if opts == [] or Codex.Options.Keywords.list!(opts)[:enabled?] == false do
      :ok
    else
      message =
        "the SDK has no exporter of its own: attach handlers to Codex.Telemetry.events/1, " <>
          "or set [otel] in Codex's configuration (Codex.Config.Helpers)"

      {:error, Codex.Error.new(:unsupported, message)}
    end
  end
end
