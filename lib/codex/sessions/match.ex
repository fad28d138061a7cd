defmodule Codex.Sessions.Match do
  @moduledoc """
  A place in a session that a search found.

    * `session` - the id of the thread
    * `turn` - the id of the turn, or nil: older files have none
    * `number` - the number of the turn in its file, from 1 on
    * `part` - `:prompt`, `:answer`, `:command` or `:patch`
    * `before`, `text`, `after` - the found text and what stands around it
    * `item` - the `Codex.Items` struct
  """

  @enforce_keys [:session, :part, :text]
  defstruct [:session, :turn, :number, :part, :text, :item, before: "", after: ""]

  @typedoc "The kind of text."
  @type part :: :prompt | :answer | :command | :patch
  @typedoc "A found place. Fields: see above."
  @type t :: %__MODULE__{
          session: String.t(),
          turn: String.t() | nil,
          number: pos_integer() | nil,
          part: part(),
          before: String.t(),
          text: String.t(),
          after: String.t(),
          item: Codex.Items.t()
        }
end
