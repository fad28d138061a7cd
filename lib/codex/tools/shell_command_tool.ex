defmodule Codex.Tools.ShellCommandTool do
  @moduledoc """
  A host tool that runs a text in the user's shell.

  **The commands run outside the sandbox of the CLI**, with the rights of this VM. Without the
  option `:approval`, every command is denied.

  Arguments, options and results are those of `Codex.Tools.ShellTool`, but for

    * `command` (or `cmd`) - a text for the shell; the words of a list are joined by spaces
    * `login` - whether the shell is a login shell (default: the option `:login`)
    * the option `:login` (default `true`): `$SHELL -l -c`. With `false`, `/bin/sh -c`
  """
  alias Codex.Tools.{Command, Hosted, ShellTool}

  use Codex.Tool,
    name: "shell_command",
    description: "Runs a command line in a shell, and returns its output and exit code.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" =>
        Map.merge(Command.properties(), %{
          "command" => %{"type" => "string", "description" => "the command line"},
          "login" => %{"type" => "boolean", "description" => "whether to use a login shell"}
        }),
      "required" => ["command"],
      "additionalProperties" => false
    }

  import Codex.Tools.Hosted, only: [is_call: 2]

  @doc "Runs a command line and waits for it."
  @impl true
  @spec invoke(map(), map()) ::
          {:ok, term()} | {:error, ShellTool.reason() | {:invalid_argument, :login} | term()}
  def invoke(args, context) when is_call(args, context) do
    login = Map.get(Hosted.options(context), :login, true)
    # `false` is an argument, too.
    login = if is_map_key(args, "login"), do: args["login"], else: login

    case {Hosted.argument(args, ["command", "cmd"]), login} do
      {_command, login} when not is_boolean(login) ->
        {:error, {:invalid_argument, :login}}

      {command, login} when is_binary(command) and command != "" ->
        Command.run(command, &Command.shell(&1, login), args, context)

      {[_ | _] = words, login} ->
        if not List.improper?(words) and Enum.all?(words, &is_binary/1),
          do: Command.run(Enum.join(words, " "), &Command.shell(&1, login), args, context),
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
