defmodule Codex.Error do
  @moduledoc """
  What went wrong, in one shape.

    * `kind` - an atom of `t:kind/0`
    * `message` - for people
    * `details` - a map; the keys that apply of `:exit_status`, `:signal`, `:stderr` (its newest bytes),
      `:stderr_truncated?`, `:retryable?`, `:timeout_ms`, `:code`, `:type`, `:status`, `:additional_details`,
      `:codex_error_info`, `:raw` (the failure as the CLI sent it)
    * `retry_after_ms` - how long to wait before trying again, where that is known
  """

  alias Codex.TransportError

  defexception [:message, :kind, :retry_after_ms, details: %{}]

  @typedoc """
    * `:unknown` - a turn that failed with a text that is not told apart further
    * `:rate_limit` - too many requests
    * `:sandbox_assessment_failed` - a command could not be assessed
    * `:interrupted` - SIGINT, or a cancel by the host
    * `:killed` - another signal ended the CLI; `details.signal` names it
    * `:crashed` - the CLI exited with a status other than 0 and told no failure of the turn; see `details.stderr`
    * `:protocol` - the CLI ended, or closed its output, without ending the turn
    * `:timeout` - nothing came for `details.timeout_ms`
    * `:cli_not_found` - the program could not be started
    * `:thread_not_found` - there is no such thread to resume
    * `:config` - the set-up does not allow the run: the file of an output schema cannot be written
    * `:tool_failure`, `:approval_hook_failed`, `:unsupported_feature` - from the host side of tools
  """
  @type kind ::
          :unknown
          | :rate_limit
          | :sandbox_assessment_failed
          | :interrupted
          | :killed
          | :crashed
          | :protocol
          | :timeout
          | :cli_not_found
          | :thread_not_found
          | :config
          | :tool_failure
          | :approval_hook_failed
          | :unsupported_feature

  @type t :: %__MODULE__{
          message: String.t(),
          kind: kind(),
          details: map(),
          retry_after_ms: pos_integer() | nil
        }

  @rate_limit_codes ~w(rate_limit rate_limit_exceeded rate_limit_error azure_rate_limit)
  @sandbox_codes ~w(sandbox_assessment_failed sandbox_assessment)

  @doc """
      iex> Codex.Error.new(:tool_failure, "no such file").kind
      :tool_failure
  """
  @spec new(kind(), String.t(), map()) :: t()
  def new(kind, message, details \\ %{}),
    do: %__MODULE__{kind: kind, message: message, details: details}

  @doc "An error of kind `:rate_limit`. Options: `:retry_after_ms` (ms), `:details` (map)."
  @spec rate_limit(String.t(), keyword()) :: t()
  def rate_limit(message, opts \\ []) do
    %__MODULE__{
      kind: :rate_limit,
      message: message,
      retry_after_ms: opts[:retry_after_ms],
      details: opts[:details] || %{}
    }
  end

  @doc """
      iex> Codex.Error.rate_limit?(Codex.Error.rate_limit("slow down"))
      true
      iex> Codex.Error.rate_limit?(:closed)
      false
  """
  @spec rate_limit?(term()) :: boolean()
  def rate_limit?(%__MODULE__{kind: :rate_limit}), do: true
  def rate_limit?(_other), do: false

  @doc "How long to wait before trying again, in ms, where that is known."
  @spec retry_after_ms(t()) :: pos_integer() | nil
  def retry_after_ms(%__MODULE__{retry_after_ms: ms}), do: ms

  @doc """
  Any failure as a `Codex.Error`: exceptions, the `error` map of a failed turn, a timeout tuple, text.

      iex> Codex.Error.normalize(%{"message" => "Rate limit reached", "code" => "rate_limit_exceeded"}).kind
      :rate_limit
      iex> Codex.Error.normalize({:codex_timeout, 5_000}).details
      %{timeout_ms: 5_000}
  """
  @spec normalize(term()) :: t()
  def normalize(%__MODULE__{} = error), do: error

  def normalize(%TransportError{} = error) do
    details =
      error
      |> Map.take([:exit_status, :signal, :stderr, :stderr_truncated?, :retryable?, :timeout_ms])
      |> drop_nils()

    new(error.reason_code, error.message, details)
  end

  def normalize({:codex_timeout, ms}),
    do: new(:timeout, "codex sent nothing for #{ms} ms", %{timeout_ms: ms})

  def normalize(text) when is_binary(text), do: new(:unknown, text)

  def normalize(%{__exception__: true} = error),
    do: from_map(%{message: Exception.message(error)}, error)

  def normalize(%{} = map), do: from_map(map, map)
  def normalize(other), do: new(:unknown, inspect(other))

  defp from_map(map, raw) do
    message = text(get(map, :message)) || "turn failed"
    code = get(map, :code)
    type = get(map, :type)

    details =
      drop_nils(%{
        code: code,
        type: type,
        status: get(map, :status),
        retry_after: get(map, :retry_after),
        additional_details: get(map, :additional_details) || get(map, :additionalDetails),
        codex_error_info: get(map, :codex_error_info) || get(map, :codexErrorInfo),
        details: get(map, :details) || %{},
        raw: raw
      })

    %__MODULE__{
      kind: classify(code, type, String.downcase(message)),
      message: message,
      details: details,
      retry_after_ms: retry_after(get(map, :retry_after))
    }
  end

  defp classify(code, type, message) do
    cond do
      code in @rate_limit_codes or type in @rate_limit_codes or message =~ "rate limit" ->
        :rate_limit

      code in @sandbox_codes or type in @sandbox_codes or message =~ "sandbox assessment" ->
        :sandbox_assessment_failed

      true ->
        :unknown
    end
  end

  # An integer below 1000 means seconds, otherwise milliseconds; text is seconds.
  defp retry_after(n) when is_integer(n) and n > 0 and n < 1000, do: n * 1000
  defp retry_after(n) when is_integer(n) and n > 0, do: n

  defp retry_after(text) when is_binary(text) do
    case Integer.parse(text) do
      {seconds, _} when seconds > 0 -> seconds * 1000
      _ -> nil
    end
  end

  defp retry_after(_other), do: nil

  defp get(map, key), do: Map.get(map, key) || Map.get(map, Atom.to_string(key))
  defp text(value) when is_binary(value), do: value
  defp text(nil), do: nil
  defp text(value), do: inspect(value)
  defp drop_nils(map), do: for({key, value} <- map, value != nil, into: %{}, do: {key, value})
end
