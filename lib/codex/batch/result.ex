defmodule Codex.Batch.Result do
  @moduledoc """
  The result of a job of a `Codex.Batch`.

    * `key` - the key of the job; `index` - its number, from 0
    * `status` - see below
    * `result` - the `Codex.Turn.Result`, also of a failed turn that had begun; otherwise nil
    * `error` - a `Codex.Error`, nil for the status `:ok`. Its own `result` is nil
    * `usage` - tokens by the names of the CLI, also of a failed turn; nil if they are not known
    * `usd` - the estimated cost in dollars, nil if it is not known. It is computed if the model is
      an option of the job, or the batch has a budget in money
    * `attempts` - the number of attempts; 0 if the job did not begin
    * `thread_id` - the thread of the turn, nil if it is not known
    * `node` - the node that ran the job, or nil
    * `model` - the model that the options name, or nil for that of the CLI
    * `started_at` - when the job began, as a `DateTime` in UTC, or nil; `duration_ms` - its time
    * `waits` - its waits for rate limits, as `{began, ms}` with a `DateTime`; the first 20

  The status:

    * `:ok` - the turn was completed
    * `:failed` - the turn failed, expired, or could not begin. Nothing of it runs any more
    * `:uncertain` - the turn may have run, and nothing is known about its end: its process or
      server was lost. The SDK does not send such a prompt again by itself
    * `:cancelled` - the turn was interrupted, see `Codex.Batch.cancel/2` and `Codex.stop/1`
    * `:skipped` - the job did not begin, because the batch had ended: see the section on budgets
      of `Codex.Batch`
  """

  alias Codex.{Error, Turn}

  @enforce_keys [:key, :index, :status]
  defstruct [
    :key,
    :index,
    :status,
    :result,
    :error,
    :usage,
    :usd,
    :thread_id,
    :node,
    :model,
    :started_at,
    :duration_ms,
    attempts: 0,
    waits: []
  ]

  @typedoc "How a job ended. See above."
  @type status :: :ok | :failed | :uncertain | :cancelled | :skipped
  @typedoc "The result of a job. Fields: see above."
  @type t :: %__MODULE__{
          key: term(),
          index: non_neg_integer(),
          status: status(),
          result: Turn.Result.t() | nil,
          error: Error.t() | nil,
          usage: map() | nil,
          usd: float() | nil,
          attempts: non_neg_integer(),
          thread_id: String.t() | nil,
          node: node() | nil,
          model: String.t() | nil,
          started_at: DateTime.t() | nil,
          duration_ms: non_neg_integer() | nil,
          waits: [{DateTime.t(), non_neg_integer()}]
        }

  # The process or the server of the turn is gone, or its output cannot be understood.
  @lost [:crashed, :killed, :protocol, :stream_disconnected, :overflow]

  @doc false
  # The result of a job whose turn returned this.
  @spec of(map(), {:ok, Turn.Result.t()} | {:error, term()}) :: t()
  def of(%{key: key, index: index}, {:ok, result}),
    do: put(%__MODULE__{key: key, index: index, status: :ok}, result)

  def of(%{key: key, index: index}, {:error, reason}) do
    error = Error.normalize(reason)
    result = if is_struct(error.result, Turn.Result), do: error.result
    error = %{error | result: nil, event: nil}
    put(%__MODULE__{key: key, index: index, status: status(reason, error), error: error}, result)
  end

  defp put(job, nil), do: job

  defp put(job, result) do
    %{
      job
      | result: result,
        usage: result.usage,
        attempts: result.attempts,
        thread_id: result.thread.thread_id
    }
  end

  defp status(_reason, %{kind: :interrupted}), do: :cancelled
  defp status({:exec_failed, _}, %{kind: kind}) when kind in @lost, do: :uncertain
  defp status(_reason, _error), do: :failed

  @doc false
  # The result of a job that did not run.
  @spec without_turn(map(), status(), Error.t()) :: t()
  def without_turn(%{key: key, index: index}, status, error),
    do: %__MODULE__{key: key, index: index, status: status, error: error}

  @doc """
  Returns a result as a map for JSON, with string keys: `"key"`, `"status"`, `"text"` (the answer),
  `"thread_id"`, `"model"`, `"usage"`, `"usd"`, `"attempts"`, `"node"`, `"started_at"` (ISO 8601),
  `"duration_ms"`, `"waited_ms"` (its waits for rate limits), and `"error"` with `"kind"` and
  `"message"`. A key that JSON has no form for is inspected.
  """
  @spec to_map(t()) :: %{String.t() => term()}
  def to_map(%__MODULE__{} = result) do
    %{
      "key" => key(result.key),
      "status" => Atom.to_string(result.status),
      "text" => text(result.result),
      "thread_id" => result.thread_id,
      "usage" => result.usage,
      "usd" => result.usd,
      "attempts" => result.attempts,
      "node" => result.node && Atom.to_string(result.node),
      "model" => result.model,
      "started_at" => result.started_at && DateTime.to_iso8601(result.started_at),
      "duration_ms" => result.duration_ms,
      "waited_ms" => result.waits |> Enum.map(&elem(&1, 1)) |> Enum.sum(),
      "error" => error(result.error)
    }
  end

  @doc false
  # The key as text.
  @spec key_text(t()) :: String.t()
  def key_text(%__MODULE__{key: key}) when is_binary(key), do: key

  def key_text(%__MODULE__{key: key}),
    do: key |> key() |> then(&if(is_binary(&1), do: &1, else: inspect(&1)))

  defp key(key) when is_binary(key), do: if(String.valid?(key), do: key, else: inspect(key))
  defp key(key) when is_integer(key) or is_boolean(key) or is_nil(key), do: key
  defp key(key) when is_atom(key), do: Atom.to_string(key)
  defp key(key), do: inspect(key)

  defp text(%{final_response: %{text: text}}) when is_binary(text), do: text
  defp text(_none), do: nil

  defp error(nil), do: nil
  defp error(error), do: %{"kind" => Atom.to_string(error.kind), "message" => error.message}

  defimpl Inspect do
    def inspect(result, opts) do
      fields = [
        key: result.key,
        status: result.status,
        result: result.result,
        error: result.error,
        usd: result.usd,
        attempts: result.attempts,
        thread_id: result.thread_id,
        node: result.node
      ]

      Codex.ShortInspect.fields(Codex.Batch.Result, fields, opts)
    end
  end
end
