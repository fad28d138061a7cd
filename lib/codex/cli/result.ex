defmodule Codex.CLI.Result do
  @moduledoc """
  The result of a command of the CLI.

    * `stdout`, `stderr` - the output, as the CLI wrote it. Of stderr, the newest bytes are kept
    * `exit_status` - the exit status, or nil if a signal ended the command
    * `signal` - the signal that ended the command, or nil
    * `duration_ms` - the time from the start to the end, in milliseconds

  `inspect/1` shows the sizes of the outputs, which may hold prompts and code.
  """

  @enforce_keys [:stdout, :stderr, :exit_status, :signal, :duration_ms]
  defstruct @enforce_keys

  @typedoc "The end of a command and its output. Fields: see above."
  @type t :: %__MODULE__{
          stdout: binary(),
          stderr: binary(),
          exit_status: non_neg_integer() | nil,
          signal: atom() | pos_integer() | nil,
          duration_ms: non_neg_integer()
        }

  defimpl Inspect do
    def inspect(result, _opts) do
      ended =
        if result.signal, do: "signal: #{result.signal}", else: "exit: #{result.exit_status}"

      sizes =
        "stdout: #{byte_size(result.stdout)} bytes, stderr: #{byte_size(result.stderr)} bytes"

      "#Codex.CLI.Result<#{ended}, #{sizes}, #{result.duration_ms} ms>"
    end
  end
end
