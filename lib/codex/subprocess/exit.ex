defmodule Codex.Subprocess.Exit do
  @moduledoc """
  The end of a child.

    * `:status` - the exit status, 0 to 255; nil if a signal ended the child.
    * `:signal` - the signal that ended the child, by name (`:term`, `:kill`, `:int`, …) or by
      number if it has no name here; nil if the child exited by itself.
    * `:stderr_dropped` - the number of dropped bytes of stderr, oldest first, because the owner was
      too slow.
  """

  @typedoc "The end of a child. Fields: see above."
  @type t :: %__MODULE__{
          status: nil | 0..255,
          signal: nil | Codex.Subprocess.signal_name() | 1..64,
          stderr_dropped: non_neg_integer
        }

  defstruct status: nil, signal: nil, stderr_dropped: 0
end
