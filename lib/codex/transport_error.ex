defmodule Codex.TransportError do
  @moduledoc """
  The form in which `Codex.Exec.run/2` and `Codex.Exec.review/2` return a run that was lost: the
  `codex` process did not bring the turn to its end. Everything else returns or raises `Codex.Error`,
  and `Codex.Error.normalize/1` makes one of this.

    * `reason_code` - why: a kind of `Codex.Error`. What the CLI says on stderr instead of running a turn tells `:config`,
      `:thread_not_found`, `:thread_busy`, `:not_a_git_repo`, `:mcp`, `:cli_unsupported`, …; besides there are `:interrupted`, `:killed`,
      `:crashed`, `:protocol`, `:timeout`, `:cli_not_found`
    * `message` - the CLI's own words, where it had some
    * `exit_status` - of the process; 128 + n for signal n; nil if no process ended
    * `signal` - what ended it, as an atom (a number where it has no name), or nil
    * `stderr` - its newest bytes, followed by what stood on stdout and was no event
    * `stderr_truncated?` - whether older bytes were dropped
    * `retryable?` - whether the same call may succeed later
    * `retry_after_ms`, `resets_at`, `http_status` - as in `Codex.Error`
    * `timeout_ms`, `clock`, `option`, `open` - for `:timeout`: the limit, which clock it was (see `Codex.Error`), the option that sets
      it, and the items that were open when it ran out
    * `result` - from `Codex.Exec.run/2`, a map of the `:events` that came; nil where the reader has read them
    * `event` - the last `Codex.Events.Error` of the run, or nil: what the CLI was struggling with
  """

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
  The error of an exit status. Options: `:message`, `:stderr`, `:retryable?`.

      iex> Codex.TransportError.new(75, stderr: "busy").retryable?
      true
  """
  @spec new(integer(), keyword()) :: t()
  def new(status, opts \\ []) when is_integer(status) do
    opts = Codex.Options.Keywords.list!(opts)

    %__MODULE__{
      exit_status: status,
      message: opts[:message] || "codex exited with status #{status}",
      stderr: opts[:stderr] || "",
      retryable?: Keyword.get(opts, :retryable?, retryable_status?(status))
    }
  end

  @doc false
  # A `Codex.Error` in the form in which `Codex.Exec.run/2` returns a lost run.
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

  @doc "Whether a process that ended so may succeed when run again."
  @spec retryable_status?(integer()) :: boolean()
  def retryable_status?(status), do: status in @retryable
end
