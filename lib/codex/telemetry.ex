defmodule Codex.Telemetry do
  @moduledoc """
  Telemetry events of the SDK. They are emitted if the host application has the package
  `:telemetry`; otherwise nothing is computed.

      :ok = Codex.Telemetry.attach_default_logger(level: :info)

      :telemetry.attach("tokens", [:codex, :thread, :token_usage, :updated], &MyApp.count/4, nil)

  Event names begin with the option `telemetry_prefix` of the client, `[:codex]` by default.

  **Prompts, commands and outputs are left out**, unless the client has `telemetry_content: true`.
  Then events also have the keys marked (content). Error messages are the CLI's own; keys that the
  SDK knows are redacted in them.

  ## Events

  #{Codex.Telemetry.Table.docs()}

  Measurements: `system_time` and `duration` are in native units (`System.convert_time_unit/3`),
  `duration_ms` and `delay_ms` in milliseconds.

  Metadata of a turn: `lane` (the transport: `:exec` or `:app_server`), `originator` (`:sdk`),
  `span_token` (a reference that all events of a turn share), `thread_id` (nil until the CLI has
  named the thread) and `turn_id` (nil until an app-server has named the turn; always nil on
  `codex exec`).

  A turn is a span: `[:codex, :thread, :start]`, then exactly one of `:stop` and `:exception`, also
  if its reader stops early (`:early_exit`). A killed reader emits no event. The attempts of one
  call (`retry`) are one span.

  The CLI has its own export, `[otel]` in its configuration; `guides/telemetry.md` shows how to join
  both.
  """

  alias Codex.Options.Schema
  alias Codex.Telemetry.{Debug, DefaultLogger, Metrics, OpenTelemetry, Table}

  # The application may lack the package, so `execute/3` checks whether it is loaded.
  @compile {:no_warn_undefined, :telemetry}

  @doc """
  Calls `:telemetry.execute/3` if that module is loaded, which is the case if a handler is attached.

      iex> Codex.Telemetry.execute([:codex, :retry, :attempt], %{delay_ms: 0}, %{attempt: 1})
      :ok
  """
  @spec execute([atom(), ...], map(), map()) :: :ok
  def execute([_ | _] = event, measurements, metadata)
      when is_map(measurements) and is_map(metadata) do
    if listening?(), do: telemetry().execute(event, measurements, metadata)
    :ok
  end

  # The application may lack the package, which would be an unknown function to Dialyzer.
  defp telemetry, do: :telemetry

  @doc false
  # The failure without data of the run. Only the error's own message remains.
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

  @doc "Returns whether `:telemetry` is loaded."
  @spec listening?() :: boolean()
  def listening?, do: :erlang.function_exported(:telemetry, :execute, 3)

  @doc """
  Emits an event of the application in the form of the SDK's events: adds `originator: :sdk` and, if
  there is a `duration`, `duration_ms`; paths in `warnings` and `sandbox_warnings` are normalized
  and made unique.

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

  @logger Schema.new([
            {:handler_id, :any, "the id of the handler", default: "codex-default-logger"},
            {:level, :any, "the level of the lines of turns that succeed", default: :info},
            {:prefix, :atoms, "the first part of event names", default: [:codex]}
          ])

  @doc """
  Logs a line for each turn, failed attempt, limit and cut output of a host tool, and at level debug
  for each tool and process. Failures have the level warning. Lines have no content of the turn.

  Options: `:handler_id` (default `"codex-default-logger"`), `:level` (of successful turns, default
  `:info`), `:prefix` (default `[:codex]`). Returns `:ok`, `{:error, :already_exists}`, or
  `{:error, :no_telemetry}` if the application has no `:telemetry`: add that package to the
  dependencies.
  """
  @spec attach_default_logger(keyword()) :: :ok | {:error, :already_exists | :no_telemetry}
  def attach_default_logger(opts \\ []) do
    opts = Schema.validate!(@logger, opts)

    if Code.ensure_loaded?(:telemetry) do
      config = %{level: opts[:level], prefix: opts[:prefix]}
      events = DefaultLogger.events(opts[:prefix])
      telemetry().attach_many(opts[:handler_id], events, &DefaultLogger.handle/4, config)
    else
      {:error, :no_telemetry}
    end
  end

  @opentelemetry Codex.Options.Schema.new([
                   {:handler_id, :any, "the id of the handler", default: "codex-opentelemetry"},
                   {:prefix, :atoms, "the first part of event names", default: [:codex]}
                 ])

  @doc """
  Makes an OpenTelemetry span of each turn, and of each tool that the agent uses in it. Attributes
  follow the semantic conventions for generative AI.

      :ok = Codex.Telemetry.attach_opentelemetry()

    * `invoke_agent codex` is the span of a turn (kind `client`): `gen_ai.operation.name`,
      `gen_ai.provider.name`, `gen_ai.agent.name`, `gen_ai.conversation.id` (the thread),
      `gen_ai.request.model` (if the option `model` is set), `gen_ai.usage.input_tokens`,
      `gen_ai.usage.output_tokens`, `gen_ai.usage.cache_read.input_tokens`,
      `gen_ai.usage.reasoning.output_tokens`, `codex.transport`, `codex.result` and
      `codex.attempts`
    * `execute_tool` and the name of the tool is the span of a tool (kind `internal`):
      `gen_ai.operation.name`, `gen_ai.tool.name`, `gen_ai.tool.call.id`, `codex.item.type`, and
      `codex.mcp.server` for a tool of an MCP server

  A failure sets the status and `error.type`, the kind of the error. Messages and reasoning are
  events of the span of the turn. Spans have no content, also with `telemetry_content: true`.

  The parent of a turn is the current span of the process that reads it. A killed reader leaves no
  span. The application needs the packages `telemetry` and `opentelemetry_api`, and
  `opentelemetry` with an exporter to send spans.

  Options: `:handler_id` (default `"codex-opentelemetry"`), `:prefix` (default `[:codex]`). Returns
  `:ok`, `{:error, :already_exists}`, `{:error, :no_telemetry}`, or
  `{:error, :opentelemetry_unavailable}` if the application has no `opentelemetry_api`.
  """
  @spec attach_opentelemetry(keyword()) ::
          :ok | {:error, :already_exists | :no_telemetry | :opentelemetry_unavailable}
  def attach_opentelemetry(opts \\ []) do
    opts = Schema.validate!(@opentelemetry, opts)

    cond do
      not Code.ensure_loaded?(:telemetry) ->
        {:error, :no_telemetry}

      not OpenTelemetry.available?() ->
        {:error, :opentelemetry_unavailable}

      true ->
        events = OpenTelemetry.events(opts[:prefix])
        config = %{prefix: opts[:prefix]}
        telemetry().attach_many(opts[:handler_id], events, &OpenTelemetry.handle/4, config)
    end
  end

  @doc """
  Returns metrics of the events, for the reporters of `Telemetry.Metrics`: turns, their time and
  tokens, tools, approvals, attempts, limits and requests.

      {TelemetryMetricsPrometheus, metrics: Codex.Telemetry.metrics()}

  The names begin with `prefix`, which is the option `telemetry_prefix` of the client. Times are
  summaries in milliseconds. Raises a `RuntimeError` if the application has no package
  `telemetry_metrics`.
  """
  @spec metrics([atom()]) :: [struct()]
  def metrics(prefix \\ [:codex]) do
    if Code.ensure_loaded?(Telemetry.Metrics) do
      Metrics.build(prefix)
    else
      raise "Codex.Telemetry.metrics/1 needs the package telemetry_metrics: " <>
              "add {:telemetry_metrics, \"~> 1.0\"} to the dependencies"
    end
  end

  @doc """
  Switches debug logging on or off, for processes and connections that start afterwards. The
  application needs no `:telemetry`. `config :codex_sdk, debug: true` does the same.

      Codex.Telemetry.debug(true)

  Logs the arguments of each process, the names of its environment variables, each event, each
  message of a connection in both directions, stderr, and at the end the exit, the time and the
  number of bytes. `true` logs at the level `:info`; a level (`:debug`, `:info`, `:notice`,
  `:warning`, `:error`) is also accepted. Keys and tokens are `[redacted]`, and a line has at most
  4,000 characters. **Lines show prompts, commands and outputs.**

  For the log of the CLI itself, set `RUST_LOG` in the option `env`: the CLI logs to stderr.
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
  Returns the names of all events, with a prefix.

      iex> [:codex, :thread, :stop] in Codex.Telemetry.events()
      true
  """
  @spec events([atom()]) :: [[atom(), ...]]
  def events(prefix \\ [:codex]), do: Enum.map(Table.names(), &(prefix ++ &1))

  @doc """
  Does nothing, because the SDK has no exporter. Kept for callers of version 0.4.5, where
  `configure/1` set up an OpenTelemetry exporter: call `attach_opentelemetry/1` instead, and use the
  export of the CLI (`guides/telemetry.md`).

  Returns `:ok` for `enabled?: false` or no options, otherwise
  `{:error, %Codex.Error{kind: :unsupported}}`.
  """
  @spec configure(keyword()) :: :ok | {:error, Codex.Error.t()}
  def configure(opts \\ []) do
    if opts == [] or {:enabled?, false} in Schema.pairs!(opts) do
      :ok
    else
      message =
        "the SDK has no exporter: call Codex.Telemetry.attach_opentelemetry/1, " <>
          "or set [otel] in Codex's configuration (Codex.Config.Helpers)"

      {:error, Codex.Error.new(:unsupported, message)}
    end
  end

  @doc false
  # Measurements of a span that began at a native monotonic time.
  @spec spent(integer() | nil) :: map()
  def spent(nil), do: %{duration: nil, duration_ms: nil}

  def spent(began) do
    duration = System.monotonic_time() - began
    %{duration: duration, duration_ms: System.convert_time_unit(duration, :native, :millisecond)}
  end
end
