defmodule Codex.Subprocess.Exit do
  @moduledoc """
  How a child ended.

    * `:status` - the exit status, 0 to 255; `nil` when a signal ended it.
    * `:signal` - the signal that ended it, by name (`:term`, `:kill`, `:int`, …) or by number where it has no name
      here; `nil` when it exited by itself.
    * `:stderr_dropped` - bytes of stderr that were dropped, oldest first, because the owner took them too slowly.
  """

  @type t :: %__MODULE__{
          status: nil | 0..255,
          signal: nil | Codex.Subprocess.signal_name() | 1..64,
          stderr_dropped: non_neg_integer
        }

  defstruct status: nil, signal: nil, stderr_dropped: 0
end
