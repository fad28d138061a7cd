defmodule Codex.Error do
  @moduledoc """
  A failure of a run, a request or a call, in one shape.

    * `kind` - one of the closed set below
    * `message` - a sentence for people: the words of the CLI, the server or this package. It is
      printable, see `Codex.Text`
    * `retryable?` - whether the same call may succeed later without a change
    * `retry_after_ms` - how long to wait before that, if it is known
    * `resets_at` - when a limit ends, as a `DateTime` in UTC, if it is known. The CLI prints this
    * `resets_at` - the end of a limit, as a `DateTime` in UTC, if it is known. The CLI prints this
      time to the minute
    * `http_status`, `codex_error_info` - as reported by the server and the CLI. `codex exec`
      reports neither; a status in its message is parsed
    * `exit_status`, `signal`, `stderr` - of a process that ended without ending the turn. The
      status is 128 + n for signal n, and nil if no process ended; `stderr` is its newest bytes
    * `event` - the event of the failure: `Codex.Events.TurnFailed`, or the last
      `Codex.Events.Error` of a turn without an end
    * `result` - the result up to the failure: a `Codex.Turn.Result` from a turn of a thread
      (continue with its `thread`), a map with `:events` from `Codex.Exec`, and nil from a stream
    * `details` - a map with further facts: `:clock`, `:timeout_ms`, `:option` and `:open` of a
      timeout; `:stderr_truncated?`; and, for a failure that came as a map, `:code`, `:type`,
      `:status`, `:retry_after`, `:additional_details`, `:details` and `:raw` (the whole map). The
      map also has the fields `:exit_status`, `:signal`, `:stderr`, `:retryable?` and
      `:codex_error_info`

  If a provider repeats a known key in its text, the key is replaced by `[redacted]`. `inspect/1`
  shows neither `stderr` nor data of the run, and `to_string/1` returns the message. `Codex.Error`
  is an exception: `Exception.message/1` returns the message, too.

  ## Kinds

  #{Codex.Error.Kinds.docs()}

  The kind comes from `codexErrorInfo` if the CLI sends it, otherwise from a code or the HTTP
  status, otherwise from the words; of a long text, the first and the last 8 KiB count. A failed
  turn with unknown words is `:invalid_request`: the CLI passes on the body of an HTTP status 400
  unchanged.

  ## Timeouts

  For the kind `:timeout`, `details.clock` names the timeout that expired, `details.timeout_ms` its
  limit, and `details.option` the option that sets it. `details.open` lists the items that were
  running:

    * `:start` - no event came
    * `:idle` - the CLI was silent, or the turn made no progress
    * `:total` - the run was not over
    * `:request` - a request to the app-server had no answer
    * `:stop` - the process could not be ended
    * `:provider` - the model's server was silent, and the CLI gave up
  """

  alias Codex.Error.{Classifier, Kinds, Reasons, Words}
  alias Codex.{OptionError, Text, TransportError}
  alias Codex.Options.Schema

  defexception [
    :message,
    :kind,
    :retry_after_ms,
    :resets_at,
    :http_status,
    :codex_error_info,
    :exit_status,
    :signal,
    :stderr,
    :event,
    :result,
    retryable?: false,
    details: %{}
  ]

  @typedoc "A kind of the list above."
  @type kind :: unquote(Enum.reduce(Kinds.all(), &{:|, [], [&1, &2]}))

  @typedoc "A failure. Fields: see above."
  @type t :: %__MODULE__{
          message: String.t(),
          kind: kind(),
          retryable?: boolean(),
          retry_after_ms: pos_integer() | nil,
          resets_at: DateTime.t() | nil,
          http_status: 100..599 | nil,
          codex_error_info: term(),
          exit_status: integer() | nil,
          signal: atom() | pos_integer() | nil,
          stderr: String.t() | nil,
          event: struct() | nil,
          result: struct() | map() | nil,
          details: map()
        }

  @doc """
  Lists all kinds.

      iex> :rate_limit in Codex.Error.kinds()
      true
  """
  @spec kinds() :: [kind(), ...]
  def kinds, do: Kinds.all()

  # Fields that are in the details, too.
  @lifted [:exit_status, :signal, :stderr, :codex_error_info, :http_status, :resets_at]

  @doc """
  Makes an error of a kind. The fields that `details` names are set; without `details.retryable?`,
  the kind decides whether the error is retryable.

      iex> Codex.Error.new(:tool_failure, "no such file").kind
      :tool_failure
      iex> Codex.Error.new(:overloaded, "try later").retryable?
      true

  Raises `ArgumentError` for an unknown kind.
  """
  @spec new(kind(), String.t(), map()) :: t()
  def new(kind, message, details \\ %{}) when is_binary(message) and is_map(details) do
    unless kind in Kinds.all(),
      do: raise(ArgumentError, "expected one of the kinds of Codex.Error, got: #{inspect(kind)}")

    struct!(
      %__MODULE__{
        kind: kind,
        message: Text.printable(message),
        details: details,
        retryable?: Map.get(details, :retryable?, Kinds.retryable?(kind)) == true
      },
      Map.take(details, @lifted)
    )
  end

  @doc """
  Makes an error of the kind `:rate_limit`. Options: `:retry_after_ms` (ms), `:details` (map).
  """
  @spec rate_limit(String.t(), keyword()) :: t()
  def rate_limit(message, opts \\ []) when is_binary(message) do
    opts = Schema.pairs!(opts)
    error = new(:rate_limit, message, opts[:details] || %{})
    %{error | retry_after_ms: opts[:retry_after_ms]}
  end

  @doc """
  Returns whether a term is an error of the kind `:rate_limit`.

      iex> Codex.Error.rate_limit?(Codex.Error.rate_limit("slow down"))
      true
      iex> Codex.Error.rate_limit?(:closed)
      false
  """
  @spec rate_limit?(term()) :: boolean()
  def rate_limit?(%__MODULE__{kind: :rate_limit}), do: true
  def rate_limit?(_other), do: false

  @doc "Returns how long to wait before trying again, in ms, or nil if it is not known."
  @spec retry_after_ms(t()) :: pos_integer() | nil
  def retry_after_ms(%__MODULE__{retry_after_ms: ms}), do: ms

  @doc """
  Returns whether the same call may succeed later, for every term that `normalize/1` accepts.

  Failures of the network and the server are retryable. Quotas, limits of the plan, logins, and
  requests that cannot succeed are not.

      iex> Codex.Error.retryable?({:http_error, 503})
      true
      iex> Codex.Error.retryable?({:turn_failed, Codex.Error.new(:quota, "pay first")})
      false
  """
  @spec retryable?(term()) :: boolean()
  def retryable?(failure), do: normalize(failure).retryable?

  @doc """
  Converts any failure to a `Codex.Error`.

  Takes exceptions, the `error` map of a failed turn or of a refused request, and every reason that
  a function of this package returns, alone, in `{:turn_failed, error}` and its like, or in
  `{:error, reason}`. Such a reason has a kind and a sentence. Text, and terms that are not of this
  package, have the kind `:unknown`.

      iex> error = Codex.Error.normalize({:error, {:unsupported, :exec}})
      iex> error.kind
      :unsupported
      iex> Codex.Error.normalize(%{"code" => "rate_limit_exceeded"}).kind
      :rate_limit
      iex> error = Codex.Error.normalize(%{
      ...>   "message" => "exceeded retry limit, last status: 429 Too Many Requests",
      ...>   "codexErrorInfo" => %{"responseTooManyFailedAttempts" => %{"httpStatusCode" => 429}},
      ...>   "retry_after" => "20"
      ...> })
      iex> {error.kind, error.retryable?, error.retry_after_ms, error.http_status}
      {:rate_limit, true, 20_000, 429}
      iex> Codex.Error.normalize({:codex_timeout, 5_000}).details
      %{clock: :idle, timeout_ms: 5_000}
  """
  @spec normalize(term()) :: t()
  def normalize(%__MODULE__{} = error), do: error

  def normalize({tag, error})
      when tag in [:error, :turn_failed, :exec_failed, :review_unreadable],
      do: normalize(error)

  def normalize(%TransportError{} = error) do
    keys =
      ~w(exit_status signal stderr stderr_truncated? retryable?)a ++
        ~w(timeout_ms clock option open http_status resets_at)a

    details = error |> Map.take(keys) |> drop_nils()

    %{
      new(error.reason_code, error.message, Map.drop(details, [:http_status, :resets_at]))
      | event: error.event,
        result: error.result,
        retry_after_ms: error.retry_after_ms,
        resets_at: error.resets_at,
        http_status: error.http_status
    }
  end

  def normalize(%OptionError{} = error),
    do: new(Reasons.option(error), Exception.message(error), %{raw: error})

  def normalize(%Codex.Subprocess.Error{reason: reason} = error) do
    {kind, retryable?} = Reasons.subprocess(reason)
    details = drop_nils(%{retryable?: retryable?, clock: Reasons.clock(reason), raw: error})
    new(kind, Exception.message(error), details)
  end

  def normalize(%module{} = error)
      when module in [Codex.Config.Error, Codex.Config.ConstraintError],
      do: new(:config, Exception.message(error), %{raw: error})

  def normalize(%Codex.ApprovalError{} = error),
    do: new(:approval_denied, Exception.message(error), %{raw: error})

  def normalize(%Codex.GuardrailError{} = error),
    do: new(:guardrail, Exception.message(error), %{raw: error})

  def normalize({:codex_timeout, ms} = reason),
    do: new(:timeout, Words.reason(reason), %{timeout_ms: ms, clock: :idle})

  def normalize({:timeout, _method, ms} = reason),
    do: new(:timeout, Words.reason(reason), %{timeout_ms: ms, clock: :request})

  # The error of the program is more specific than `:not_started`.
  def normalize({tag, %{__exception__: true} = error} = reason)
      when tag in [:not_started, :lost] do
    error = normalize(error)
    %{error | message: Text.printable(Words.reason(reason))}
  end

  def normalize({:http_error, status}) when is_integer(status),
    do: from_map(%{message: "HTTP status #{status}", status: status}, {:http_error, status})

  def normalize(text) when is_binary(text), do: new(:unknown, text)

  def normalize(%{__exception__: true} = error),
    do: from_map(%{message: Exception.message(error)}, error)

  # The body of a refused request holds the failure as a member.
  def normalize(%{"error" => %{} = error} = map) when not is_map_key(map, "message"),
    do: from_map(error, map)

  def normalize(%{} = map), do: from_map(map, map)

  def normalize(other),
    do: new(Reasons.kind(other) || :unknown, Words.reason(other) || Words.show(other))

  @doc false
  # The error of a failed turn. `codex exec` leaves out codexErrorInfo; if the words are not known,
  # the app-server reports "other".
  @spec failed_turn(map()) :: t()
  def failed_turn(%{} = error), do: from_map(error, error, "other")

  defp from_map(map, raw, unnamed \\ nil) do
    message = map |> get(:message) |> text() |> Classifier.without_stack()
    info = get(map, :codex_error_info) || get(map, :codexErrorInfo)
    verdict = Classifier.failure(message, facts(map, info || unnamed))

    details =
      drop_nils(%{
        code: get(map, :code),
        type: get(map, :type),
        status: get(map, :status),
        retry_after: get(map, :retry_after),
        additional_details: get(map, :additional_details) || get(map, :additionalDetails),
        codex_error_info: info,
        details: get(map, :details) || %{},
        raw: raw,
        clock: if(verdict.kind == :timeout, do: :provider)
      })

    %{
      new(verdict.kind, message, details)
      | retryable?: verdict.retryable?,
        retry_after_ms: verdict.retry_after_ms,
        resets_at: verdict.resets_at,
        http_status: verdict.http_status
    }
  end

  # The app-server puts the most specific code into the data of a refused request.
  defp facts(map, info) do
    code = get(map, :code)
    inner = inner_code(get(map, :data))

    %{
      codex_error_info: info,
      code: inner || code,
      type: if(inner, do: code, else: get(map, :type)),
      http_status: get(map, :http_status) || get(map, :status),
      retry_after: get(map, :retry_after),
      resets_at: get(map, :resets_at) || get(map, :resetsAt)
    }
  end

  defp inner_code(%{} = data),
    do: Enum.find_value(~w(config_write_error_code input_error_code)a, &get(data, &1))

  defp inner_code(_other), do: nil

  defp get(map, key), do: Map.get(map, key) || Map.get(map, Atom.to_string(key))
  defp text(empty) when empty in [nil, ""], do: "turn failed"
  defp text(value) when is_binary(value), do: value
  defp text(value), do: inspect(value)
  defp drop_nils(map), do: for({key, value} <- map, value != nil, into: %{}, do: {key, value})

  defimpl String.Chars do
    def to_string(error), do: Exception.message(error)
  end

  defimpl Inspect do
    import Inspect.Algebra

    @fields ~w(kind message retryable? retry_after_ms resets_at http_status codex_error_info)a ++
              ~w(exit_status signal)a
    @longest 300

    def inspect(error, opts) do
      pairs = for name <- @fields, value = shown(name, error), value != nil, do: {name, value}
      container_doc("#Codex.Error<", pairs, ">", opts, &pair/2, separator: ",", break: :flex)
    end

    defp shown(:retryable?, error), do: {:flag, error.retryable?}

    defp shown(:message, %{message: message}) when is_binary(message) do
      if String.length(message) > @longest,
        do: String.slice(message, 0, @longest) <> "…",
        else: message
    end

    defp shown(name, error), do: Map.fetch!(error, name)

    defp pair({name, {:flag, value}}, opts), do: pair({name, value}, opts)
    defp pair({name, value}, opts), do: concat("#{name}: ", to_doc(value, opts))
  end
end
