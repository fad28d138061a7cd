defmodule Codex.SessionStore.Status do
  @moduledoc """
  Says how far the mirror of a thread is.

    * `thread_id` - the thread
    * `state` - `:current`: the store has all whole lines. `:behind`: it lacks some. `:failed`:
      likewise, and the last try failed
    * `sent` - the bytes that this turn or call has sent to the store
    * `behind` - the bytes that the store lacks, or nil if they were not counted
    * `error` - the `Codex.Error` of the last try that failed, or nil

  In the result of a turn, `:behind` means that `flush_ms` was over: the mirror goes on for
  `give_up_ms`. Lines that it does not reach are sent by the next turn of the thread on this node,
  or by `Codex.SessionStore.sync/3`.
  """

  @enforce_keys [:thread_id, :state]
  defstruct [:thread_id, :state, :behind, :error, sent: 0]

  @typedoc "The status of a mirror. Fields: see above."
  @type t :: %__MODULE__{
          thread_id: String.t(),
          state: :current | :behind | :failed,
          sent: non_neg_integer(),
          behind: non_neg_integer() | nil,
          error: Codex.Error.t() | nil
        }

  @doc """
  Returns a status in words.

      iex> alias Codex.SessionStore.Status
      iex> Status.message(%Status{thread_id: "01a2", state: :behind})
      "the session store lacks lines of the thread 01a2: it did not take them in time (flush_ms)"
  """
  @spec message(t()) :: String.t()
  def message(%__MODULE__{state: :current} = status),
    do: "the session store has all lines of the thread #{status.thread_id}"

  def message(%__MODULE__{error: nil} = status),
    do:
      "the session store lacks lines of the thread #{status.thread_id}: it did not take them in " <>
        "time (flush_ms)"

  def message(%__MODULE__{error: error} = status),
    do: "the session store lacks lines of the thread #{status.thread_id}: #{error.message}"

  defimpl String.Chars do
    def to_string(status), do: @for.message(status)
  end
end
