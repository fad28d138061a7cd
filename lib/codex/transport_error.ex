defmodule Codex.TransportError do
  @moduledoc """
  The `codex` process did not bring the turn to its end.

    * `reason_code` - `:crashed`, `:killed`, `:interrupted`, `:protocol`, `:timeout`, `:cli_not_found`,
      `:thread_not_found`, `:config`; see `t:Codex.Error.kind/0`
    * `exit_status` - of the process; 128 + n for signal n; -1 where it did not end by itself
    * `signal` - what ended it, as an atom (a number where it has no name), or nil
    * `stderr` - its newest bytes, followed by what stood on stdout and was no event
    * `stderr_truncated?` - whether older bytes were dropped
    * `retryable?` - whether the same call may succeed later
    * `timeout_ms` - for `:timeout`
  """

  defexception [
    :message,
    :signal,
    :timeout_ms,
    exit_status: -1,
    stderr: "",
    stderr_truncated?: false,
    retryable?: false,
    reason_code: :crashed
  ]

  @type t :: %__MODULE__{
          message: String.t(),
          reason_code: Codex.Error.kind(),
          exit_status: integer(),
          signal: atom() | integer() | nil,
          stderr: String.t(),
          stderr_truncated?: boolean(),
          retryable?: boolean(),
          timeout_ms: non_neg_integer() | nil
        }

  # EX_UNAVAILABLE, EX_TEMPFAIL, and the ends by KILL, PIPE and TERM.
  @retryable [69, 75, 137, 141, 143]

  @doc """
  The error of an exit status. Options: `:message`, `:stderr`, `:retryable?`.

      iex> Codex.TransportError.new(75, stderr: "busy").retryable?
      true
  """
  @spec new(integer(), keyword()) :: t()
  def new(status, opts \\ []) do
    %__MODULE__{
      exit_status: status,
      message: opts[:message] || "codex exited with status #{status}",
      stderr: opts[:stderr] || "",
      retryable?: Keyword.get(opts, :retryable?, retryable_status?(status))
    }
  end

  @doc "Whether a process that ended so may succeed when run again."
  @spec retryable_status?(integer()) :: boolean()
  def retryable_status?(status), do: status in @retryable
end
