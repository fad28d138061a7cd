defmodule Codex.Tools.WriteStdinTool do
  @moduledoc """
  A host tool that writes to a command which `Codex.Tools.ShellTool` or
  `Codex.Tools.ShellCommandTool` left running, and returns its further output.

  **The command runs outside the sandbox of the CLI.** The approval of its start covers what is
  written to it, unless this tool has an option `:approval` of its own, with the forms of
  `Codex.Tools.ShellTool`: it gets the text.

  The CLI has a tool `write_stdin` itself, so a thread needs another name:

      approval = &MyApp.Approvals.command/2

      tools = [
        {Codex.Tools.ShellTool, approval: approval},
        {Codex.Tools.WriteStdinTool, name: "shell_input"}
      ]

  ## Arguments

    * `session_id` - the number that the shell tool returned. It holds for the same turn, or for the
      same process if the host calls the tools
    * `chars` - the text to write (default: none)
    * `yield_time_ms` - how long to wait for the end of the command (default 250)
    * `max_output_tokens` - cuts the output at four times as many bytes

  ## Options, in `context.metadata`

    * `:approval` - see above
    * `:executor` - writes instead: a function of arguments, context and metadata, or of the first
      of these

  ## Results

  As those of `Codex.Tools.ShellTool`: with `"session_id"` while the command runs, else with
  `"exit_code"`. After that, the session is gone.
  """
  use Codex.Tool,
    name: "write_stdin",
    description: "Writes to a running command, and returns its output.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "session_id" => %{"type" => "integer", "description" => "the running command"},
        "chars" => %{"type" => "string", "description" => "the text to write"},
        "yield_time_ms" => %{"type" => "integer", "description" => "how long to wait, in ms"},
        "max_output_tokens" => %{"type" => "integer", "description" => "the limit of the output"}
      },
      "required" => ["session_id"],
      "additionalProperties" => false
    }

  alias Codex.Tools.{Command, Hosted, Terminal, Terminals}

  @yield 250

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why nothing was written. `:not_found`: there is no such session, or it has ended."
  @type reason ::
          {:missing_argument, :session_id}
          | {:invalid_argument, :session_id | :chars | :yield_time_ms | :max_output_tokens}
          | {:approval_denied, term()}
          | {:invalid_approval_response, term()}
          | :not_found

  @doc "Writes to a running command, and waits for its output."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    number = &(is_integer(&1) and &1 in 0..0xFFFFFFFF)

    with {:ok, id} <- session_id(args["session_id"]),
         {:ok, chars} <- Hosted.optional(args, ["chars"], :chars, "", &is_binary/1),
         {:ok, yield} <- Hosted.optional(args, ["yield_time_ms"], :yield_time_ms, @yield, number),
         {:ok, most} <-
           Hosted.optional(args, ["max_output_tokens"], :max_output_tokens, nil, number) do
      if Hosted.options(context)[:executor],
        do: Hosted.callback(:executor, Map.put(args, "session_id", id), context),
        else: allowed(id, chars, yield, most, context)
    end
  end

  defp allowed(id, chars, yield, most, context) do
    approval = Hosted.options(context)[:approval]

    with :ok <- approved(approval, chars, context), do: write(id, chars, yield, most, context)
  end

  defp approved(approval, chars, _context) when approval == nil or chars == "", do: :ok

  defp approved(approval, chars, context),
    do: Hosted.approve(approval, :review_tool, chars, context)

  defp session_id(nil), do: {:error, {:missing_argument, :session_id}}
  defp session_id(id) when is_integer(id), do: {:ok, id}
  defp session_id(id) when is_float(id) and trunc(id) == id, do: {:ok, trunc(id)}
  defp session_id(_other), do: {:error, {:invalid_argument, :session_id}}

  defp write(id, chars, yield, most, context) do
    with terminal when is_pid(terminal) <- Terminals.find(Terminals.scope(context), id),
         :ok <- Terminal.write(terminal, chars) do
      terminal |> Terminal.wait(yield) |> answer(id, most)
    else
      :full -> {:error, {:invalid_argument, :chars}}
      _gone -> {:error, :not_found}
    end
  end

  defp answer({output, nil}, id, most),
    do: {:ok, cut(%{"output" => output, "session_id" => id}, most)}

  defp answer(ended, _id, most),
    do: with({:ok, result} <- Command.ended(ended), do: {:ok, cut(result, most)})

  defp cut(result, nil), do: result

  defp cut(%{"output" => output} = result, most) do
    if byte_size(output) > most * 4 do
      cut = output |> binary_part(0, most * 4) |> Codex.Text.utf8()
      %{result | "output" => cut <> "\n... (truncated)"}
    else
      result
    end
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  def error_text(:not_found), do: "there is no such session; the command has ended"
  def error_text(reason), do: Hosted.error_text(reason)
end
