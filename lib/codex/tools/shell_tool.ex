defmodule Codex.Tools.ShellTool do
  @moduledoc """
  A host tool that runs commands.

  **The commands run outside the sandbox of the CLI**, with the rights of this VM. Without the
  option `:approval`, every command is denied.

      {:ok, %{"output" => "hello\\n", "exit_code" => 0, "success" => true}} =
        Codex.Tools.ShellTool.invoke(
          %{"command" => ["echo", "hello"]},
          %{metadata: %{approval: fn _command, _context -> :allow end}}
        )

  ## Arguments

    * `command` (or `cmd`) - a list of words, or a text for `/bin/sh -c`
    * `workdir` (or `cwd`) - the working directory, relative to the option `:cwd`
    * `timeout_ms` (or `timeout`) - the time limit in ms
    * `yield_time_ms` - the time in ms after which the tool returns. A command that still runs then
      goes on as a session, which `Codex.Tools.WriteStdinTool` continues. It has no time limit, and
      ends with the turn
    * `sandbox_permissions`, `justification` - accepted, without effect

  ## Options, in `context.metadata`

    * `:approval` - decides each command: a function of the command; of command and context; or of
      command, context and metadata; or a module with `review_tool/2`. The command is the text, or
      the words joined by spaces. `:ok`, `:allow` and `{:allow, term}` allow; `:deny`, `false` and
      `{:deny, reason}` deny; any other answer denies, too. Its time counts as that of the call
    * `:executor` - runs the command instead: a function of arguments, context and metadata, or of
      the first of these. It needs no approval; if there is one, it decides first
    * `:cwd` - the working directory (default: that of the thread, else of the VM)
    * `:env` - variables to set, or to remove with nil. A command inherits the variables of the VM
      but for those with KEY, SECRET, TOKEN, PASSWORD or CREDENTIAL in their names
    * `:timeout_ms` - the time limit (default 60_000)
    * `:max_output_bytes` - the limit of the output (default 10_000). A longer output ends in
      `... (truncated)`

  ## Results

  `{:ok, map}` with `"output"` (stdout, then stderr), `"exit_code"` (128 and the signal if a signal
  ended the command) and `"success"`; or with `"output"` and `"session_id"`. A command that exceeds
  its limit is ended, with the processes that it started.
  """
  alias Codex.Tools.{Command, Hosted}

  use Codex.Tool,
    name: "shell",
    description: "Runs a command, and returns its output and exit code.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" =>
        Map.put(Command.properties(), "command", %{
          "type" => "array",
          "items" => %{"type" => "string"},
          "description" => "the program and its arguments"
        }),
      "required" => ["command"],
      "additionalProperties" => false
    }

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why a command has no result."
  @type reason ::
          {:invalid_argument, :command | :workdir | :timeout_ms | :yield_time_ms}
          | {:approval_denied, term()}
          | {:invalid_approval_response, term()}
          | {:exec_start_failed, Codex.Subprocess.Error.t()}
          | :timeout
          | :too_many_sessions

  @doc "Runs a command and waits for it. Another reason is that of an `:executor`."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    case Hosted.argument(args, ["command", "cmd"]) do
      command when is_binary(command) and command != "" ->
        Command.run(command, &Command.shell(&1, false), args, context)

      [_ | _] = words ->
        if not List.improper?(words) and Enum.all?(words, &is_binary/1),
          do: Command.run(words, & &1, args, context),
          else: {:error, {:invalid_argument, :command}}

      _other ->
        {:error, {:invalid_argument, :command}}
    end
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
