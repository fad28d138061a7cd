defmodule Codex.Subprocess.Error do
  @moduledoc """
  A failure of a child process.

  `:reason` is one of a closed set, `:text` has further words or is nil.

  From `Codex.Subprocess.open/2`:

    * `:enoent` - the program does not exist, or the interpreter of its first line is missing
    * `:eacces` - the program may not be executed
    * `:eisdir` - the program is a directory
    * `:enoexec` - the file is not a program (also a script without a `#!` line)
    * `:etxtbsy` - the program's file is being written
    * `:e2big` - arguments and environment exceed the limit of the system
    * `:einval` - an argument, the environment or the directory has a null byte
    * `:unwritable` - a file of the option `:files` could not be made; `:text` names it
    * `:bad_cwd` - the working directory does not exist or may not be entered
    * `:enomem`, `:eagain`, `:emfile` - the system has no memory, process or descriptor left
    * `:spawn_failed` - the system gave another reason; `:text` has it
    * `:start_timeout` - the program was not running within `:start_timeout`
    * `:launcher_missing` - `priv/native/codex_launcher` is missing or cannot be run

  Later:

    * `:launcher_died` - the launcher was killed. On Linux the child and its descendants are ended
    * `:terminated` - SIGTERM, SIGHUP or SIGINT ended the launcher, which stops the child
    * `:unkillable` - the child survived SIGKILL for two seconds (it hangs in the kernel, or belongs
      to another user)
    * `:protocol` - launcher and library have different versions
    * `:stdin_closed` - write after `Codex.Subprocess.close_stdin/1`
    * `:exited` - write after the child's exit was reported
    * `:stop_timeout` - the child did not end in the time of `Codex.Subprocess.stop/2`; the launcher
      continues to end it
  """

  @codes ~w(enoent eacces eisdir enoexec etxtbsy e2big bad_cwd unwritable enomem eagain emfile)a ++
           ~w(spawn_failed terminated unkillable protocol)a

  @typedoc "Why a call of `Codex.Subprocess` failed. See above."
  @type reason ::
          :enoent
          | :eacces
          | :eisdir
          | :enoexec
          | :etxtbsy
          | :e2big
          | :einval
          | :bad_cwd
          | :unwritable
          | :enomem
          | :eagain
          | :emfile
          | :spawn_failed
          | :start_timeout
          | :launcher_missing
          | :launcher_died
          | :terminated
          | :unkillable
          | :protocol
          | :stdin_closed
          | :exited
          | :stop_timeout

  @typedoc "A failure of a child process."
  @type t :: %__MODULE__{reason: reason, text: nil | String.t()}

  defexception [:reason, :text]

  @impl true
  def message(%{reason: reason, text: nil}), do: words(reason)
  def message(%{reason: reason, text: text}), do: "#{words(reason)}: #{Codex.Text.line(text)}"

  # The launcher's codes are a closed set, too. An unknown code belongs to another version of it.
  @doc false
  @spec from_code(String.t(), String.t()) :: t
  def from_code(code, text) do
    case Enum.find(@codes, &(Atom.to_string(&1) == code)) do
      nil -> %__MODULE__{reason: :protocol, text: "unknown error #{code}: #{text}"}
      reason -> %__MODULE__{reason: reason, text: text}
    end
  end

  defp words(:enoent), do: "no such program"
  defp words(:eacces), do: "the program may not be executed"
  defp words(:eisdir), do: "the program is a directory"
  defp words(:enoexec), do: "the file is not a program"
  defp words(:etxtbsy), do: "the program's file is being written to"
  defp words(:e2big), do: "arguments and environment are too long"
  defp words(:einval), do: "an argument, the environment or the directory has a null byte"
  defp words(:bad_cwd), do: "the working directory cannot be entered"
  defp words(:unwritable), do: "a file for the program could not be written"
  defp words(:enomem), do: "not enough memory for another process"
  defp words(:eagain), do: "no more processes are allowed"
  defp words(:emfile), do: "no more open files are allowed"
  defp words(:spawn_failed), do: "the program could not be started"
  defp words(:start_timeout), do: "the program did not start in time"
  defp words(:launcher_missing), do: "the launcher cannot be run: run mix compile"
  defp words(:launcher_died), do: "the launcher died"
  defp words(:terminated), do: "a signal ended the launcher"
  defp words(:unkillable), do: "the child survived SIGKILL"
  defp words(:protocol), do: "launcher and library have different versions: run mix compile"
  defp words(:stdin_closed), do: "stdin is closed"
  defp words(:exited), do: "the child has exited"
  defp words(:stop_timeout), do: "the child did not stop in time"
end
