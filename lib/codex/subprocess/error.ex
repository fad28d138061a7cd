defmodule Codex.Subprocess.Error do
  @moduledoc """
  What can go wrong with a child process.

  `:reason` is one of a closed set, `:text` says more where there is more to say.

  From `Codex.Subprocess.open/2`:

    * `:enoent` - no such program, or the interpreter its first line names is missing
    * `:eacces` - the program may not be executed
    * `:eisdir` - the program is a directory
    * `:enoexec` - the file is no program (a script without a `#!` line, too)
    * `:etxtbsy` - somebody is writing to the program's file
    * `:e2big` - arguments and environment are longer than the system takes
    * `:einval` - there is a null byte in an argument, in the environment or in the directory
    * `:unwritable` - a file of the option `:files` could not be made; `:text` names it
    * `:bad_cwd` - the working directory does not exist or may not be entered
    * `:enomem`, `:eagain`, `:emfile` - no memory, no process, no descriptor to be had
    * `:spawn_failed` - the system gave another reason; `:text` has it
    * `:start_timeout` - the program was not running within `:start_timeout`
    * `:launcher_missing` - `priv/native/codex_launcher` is not there or cannot be run

  Later:

    * `:launcher_died` - the launcher was killed. On Linux the child and its descendants are ended
    * `:terminated` - the launcher was told to end by SIGTERM, SIGHUP or SIGINT and stops the child
    * `:unkillable` - the child survived SIGKILL for two seconds (it hangs in the kernel, or is of another user)
    * `:protocol` - launcher and library do not understand each other: they are of different versions
    * `:stdin_closed` - written to after `Codex.Subprocess.close_stdin/1`
    * `:exited` - written to after the child's exit was reported
    * `:stop_timeout` - `Codex.Subprocess.stop/2` waited in vain; the launcher goes on by itself
  """

  @codes ~w(enoent eacces eisdir enoexec etxtbsy e2big bad_cwd unwritable enomem eagain emfile spawn_failed
            terminated unkillable protocol)a

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

  @type t :: %__MODULE__{reason: reason, text: nil | String.t()}

  defexception [:reason, :text]

  @impl true
  def message(%{reason: reason, text: nil}), do: words(reason)
  def message(%{reason: reason, text: text}), do: "#{words(reason)}: #{Codex.Text.line(text)}"

  # The launcher's codes are a closed set too. One it does not share with us comes from another version of it.
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
  defp words(:einval), do: "the system does not take such strings"
  defp words(:bad_cwd), do: "the working directory cannot be entered"
  defp words(:unwritable), do: "a file for the program could not be written"
  defp words(:enomem), do: "not enough memory for another process"
  defp words(:eagain), do: "no more processes are allowed"
  defp words(:emfile), do: "no more open files are allowed"
  defp words(:spawn_failed), do: "the program could not be started"
  defp words(:start_timeout), do: "the program did not start in time"
  defp words(:launcher_missing), do: "the launcher cannot be run"
  defp words(:launcher_died), do: "the launcher died"
  defp words(:terminated), do: "the launcher was told to end"
  defp words(:unkillable), do: "the child does not die"
  defp words(:protocol), do: "launcher and library do not understand each other"
  defp words(:stdin_closed), do: "stdin is closed"
  defp words(:exited), do: "the child has exited"
  defp words(:stop_timeout), do: "the child did not stop in time"
end
