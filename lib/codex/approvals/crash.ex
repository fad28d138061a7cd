defmodule Codex.Approvals.Crash do
  @moduledoc false
  # A function of the host failed where its answer was waited for. The turn goes on with a no, so the log is the only place that tells why.

  alias Codex.Error.Words
  alias Codex.Text

  require Logger

  @doc "It crashed. Arguments are left out: they may be what a user said."
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

  @doc "What it said is no answer: a text, or the reason of an error."
  @spec odd(String.t(), String.t() | term()) :: :ok
  def odd(who, text) when is_binary(text),
    do: Logger.warning(fn -> Text.line("#{who} #{text}") end)

  def odd(who, reason), do: odd(who, "is none: " <> (Words.reason(reason) || Words.show(reason)))
end
