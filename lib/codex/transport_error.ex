defmodule Codex.TransportError do
  @moduledoc """
  A failed run in the result of `Codex.Exec.run/2` and `Codex.Exec.review/2`: the `codex` process
  ended without ending the turn. All other functions return or raise `Codex.Error`, and
  `Codex.Error.normalize/1` converts this struct to a `Codex.Error`.

    * `reason_code` - a kind of `Codex.Error`. If the CLI printed an error instead of running a
      turn, it is `:config`, `:thread_not_found`, `:thread_busy`, `:not_a_git_repo`, `:mcp`,
      `:cli_unsupported`, …; otherwise `:interrupted`, `:killed`, `:crashed`, `:protocol`,
      `:timeout` or `:cli_not_found`
    * `message` - the CLI's own words, if it printed any
    * `exit_status` - of the process; 128 + n for signal n; nil if no process ended
    * `signal` - the signal that ended the process, as an atom (a number if it has no name), or nil
    * `stderr` - the newest bytes, followed by the lines of stdout that were not events
    * `stderr_truncated?` - whether older bytes were dropped
    * `retryable?` - whether the same call may succeed later
    * `retry_after_ms`, `resets_at`, `http_status` - as in `Codex.Error`
    * `timeout_ms`, `clock`, `option`, `open` - for `:timeout`: the limit, the name of the timeout
      (see `Codex.Error`), the option that sets it, and the items that were open
    * `result` - from `Codex.Exec.run/2`, a map with the `:events` so far; nil if the reader has
      read them
    * `event` - the last `Codex.Events.Error` of the run, or nil: the error that the CLI retried
  """

  alias Codex.Options.Schema

  @derive {Inspect, except: [:stderr, :event, :open, :result]}
  defexception [
    :message,
    :exit_status,
    :signal,
    :timeout_ms,
    :clock,
    :option,
    :retry_after_ms,
    :resets_at,
    :http_status,
    :event,
    :open,
    :result,
    stderr: "",
    stderr_truncated?: false,
    retryable?: false,
    reason_code: :crashed
  ]

  @typedoc "A failed run. Fields: see above."
  @type t :: %__MODULE__{
          message: String.t(),
          reason_code: Codex.Error.kind(),
          exit_status: integer() | nil,
          signal: atom() | integer() | nil,
          stderr: String.t(),
          stderr_truncated?: boolean(),
          retryable?: boolean(),
          retry_after_ms: pos_integer() | nil,
          resets_at: DateTime.t() | nil,
          http_status: 100..599 | nil,
          timeout_ms: non_neg_integer() | nil,
          clock: atom() | nil,
          option: atom() | nil,
          event: struct() | nil,
          open: [struct()] | nil,
          result: %{events: [struct()]} | nil
        }

  @impl true
  def message(error), do: Codex.Text.printable(error.message)

  # EX_UNAVAILABLE, EX_TEMPFAIL, and the ends by KILL, PIPE and TERM.
  @retryable [69, 75, 137, 141, 143]

  @doc """
  Makes the error of an exit status. Options: `:message`, `:stderr`, `:retryable?`.

      iex> Codex.TransportError.new(75, stderr: "busy").retryable?
      true
  """
  @spec new(integer(), keyword()) :: t()
  def new(status, opts \\ []) when is_integer(status) do
    opts = Schema.pairs!(opts)

    %__MODULE__{
      exit_status: status,
      message: opts[:message] || "codex exited with status #{status}",
      stderr: opts[:stderr] || "",
      retryable?: Keyword.get(opts, :retryable?, retryable_status?(status))
    }
  end

  @doc false
  # Converts a `Codex.Error` to the form in which `Codex.Exec.run/2` returns a failed run.
  @spec of(%{:kind => atom(), :details => map(), optional(atom()) => term()}) :: t()
  def of(%{kind: _, details: _} = error) do
    same = Map.take(error, ~w(message signal retryable? retry_after_ms resets_at http_status)a)
    more = Map.take(error.details, ~w(timeout_ms clock option open stderr_truncated?)a)

    %__MODULE__{
      exit_status: error.exit_status,
      reason_code: error.kind,
      stderr: error.stderr || "",
      event: error.event,
      result: error.result
    }
    |> Map.merge(same)
    |> Map.merge(more)
  end

  @doc "Returns whether a process with this exit status may succeed when it is run again."
  @spec retryable_status?(integer()) :: boolean()
  def retryable_status?(status), do: status in @retryable
end
