defmodule Codex.Sessions.Turn do
  @moduledoc """
  A recorded turn.

    * `id` - its id, or nil: CLI versions before 0.100 record none
    * `status` - `:completed`, `:failed`, `:interrupted`; `:in_progress` if no line ends it, because
      it runs or its writer was killed; `:unknown` if the format cannot tell
    * `prompt` - the first prompt, or nil
    * `final` - the last answer, or nil: the last message of the phase `"final_answer"`, else the
      last message
    * `model` - the model, or nil
    * `usage` - tokens of its calls by the names of the CLI; nil if the thread recorded none
    * `reverted` - whether it was taken out of the history of the thread. Its tokens were spent
    * `inherited` - whether it is a turn of the thread that this one came from; functions return
      such turns only if they are asked to
    * `started`, `ended` - the times of its first line and of the line that ended it, as text
      (ISO 8601, UTC), or nil
    * `events` - its events in order, with the structs of both transports: empty unless the function
      that returned the turn reads them
  """

  @enforce_keys [:status]
  defstruct [
    :id,
    :status,
    :prompt,
    :final,
    :model,
    :usage,
    :started,
    :ended,
    reverted: false,
    inherited: false,
    events: []
  ]

  @typedoc "How a turn ended, if it did."
  @type status :: :completed | :failed | :interrupted | :in_progress | :unknown
  @typedoc "A recorded turn. Fields: see above."
  @type t :: %__MODULE__{
          id: String.t() | nil,
          status: status(),
          prompt: String.t() | nil,
          final: String.t() | nil,
          model: String.t() | nil,
          usage: Codex.Sessions.Session.usage() | nil,
          reverted: boolean(),
          inherited: boolean(),
          started: String.t() | nil,
          ended: String.t() | nil,
          events: [Codex.Events.t()]
        }

  @doc "Returns the items of the completed events of a turn, in order."
  @spec items(t()) :: [Codex.Items.t()]
  def items(%__MODULE__{events: events}),
    do: for(%Codex.Events.ItemCompleted{item: item} <- events, do: item)

  defimpl Inspect do
    def inspect(turn, opts), do: Codex.ShortInspect.data(turn, opts)
  end
end
