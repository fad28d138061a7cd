defmodule Codex.Sessions.Page do
  @moduledoc """
  A page of sessions.

    * `sessions` - `Codex.Sessions.Session` structs, the newest first
    * `next` - the value of the option `:after` for the next page, or nil at the end
    * `problems` - a `Codex.Sessions.Problem` for each file or line of these sessions that was not
      read. The first page also has those of files that belong to no session
  """

  defstruct sessions: [], next: nil, problems: []

  @typedoc "A page of threads. Fields: see above."
  @type t :: %__MODULE__{
          sessions: [Codex.Sessions.Session.t()],
          next: String.t() | nil,
          problems: [Codex.Sessions.Problem.t()]
        }
end
