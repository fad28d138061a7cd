defmodule Codex.Approvals.Crash do
  @moduledoc false
  # Logs failures of host functions that should have answered a request. The turn continues with a
  # denial, so only the log has the cause.

  alias Codex.Error.Words
  alias Codex.Text

  require Logger

  @doc "Logs a crash. Arguments are left out, because they may hold a user's words."
  @spec log(String.t(), :error | :exit | :throw, term(), Exception.stacktrace()) :: :ok
  def log(who, kind, reason, stacktrace) do
    stacktrace = Enum.map(stacktrace, &without_arguments/1)
    reason = if kind == :exit, do: called(reason), else: reason

    Logger.error(fn ->
      Text.printable("#{who} failed: " <> Exception.format(kind, reason, stacktrace))
    end)
  end

  # An exit out of a call names the call.
  defp called({reason, {module, function, args}}) when is_list(args),
    do: {reason, {module, function, length(args)}}

  defp called(reason), do: reason

  defp without_arguments({module, function, args, where}) when is_list(args),
    do: {module, function, length(args), where}

  defp without_arguments(entry), do: entry

  @doc """
  Logs an invalid answer; `text` is a sentence without its subject, or the reason of an error.
  """
  @spec invalid(String.t(), String.t() | term()) :: :ok
  def invalid(who, text) when is_binary(text),
    do: Logger.warning(fn -> Text.line("#{who} #{text}") end)

  def invalid(who, reason),
    do: invalid(who, "is invalid: " <> (Words.reason(reason) || Words.show(reason)))
end
