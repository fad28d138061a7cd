defmodule Codex.CLI.Failure do
  @moduledoc false
  # Errors of commands. Words of the CLI decide on the kind, because exit statuses do not.

  alias Codex.CLI.{Output, Result}
  alias Codex.Error
  alias Codex.Error.Redact

  # Characters of a message.
  @most 500

  # The text behind an error and its causes: the stack, an excerpt of `config.toml`, which can hold
  # secrets, and advice.
  @behind ~r/
    \n\s*Stack\ backtrace: |
    (?:\s*Caused\ by:|:)?\s*(?:\d+:\ )?TOML\ parse\ error |
    \n\n(?:Usage:|For\ more\ information)
  /x

  # The first row that matches.
  @kinds [
    {~r/ChatGPT auth|ChatGPT authentication|Not signed in|Not logged in|requires? ChatGPT/i,
     :auth_missing},
    {~r/is not a terminal|interactive terminal|confirmed interactively|only supported on/,
     :unsupported},
    {~r/unexpected argument|unrecognized subcommand/, :cli_unsupported},
    {~r/No (?:active|archived|active or archived) session|no rollout found/i, :thread_not_found},
    {~r/failed to connect|error sending request|dns error|connection is errored/i,
     :connection_refused},
    {~r/config\.toml|failed to load (?:bootstrap )?configuration/i, :config}
  ]

  @doc "Returns the error of a command that ended without success."
  @spec of(String.t(), Result.t(), [String.t()]) :: Error.t()
  def of(label, %Result{} = result, secrets) do
    words = result |> words() |> Redact.redact(secrets)
    details = %{exit_status: result.exit_status, signal: result.signal}

    Error.new(
      kind(result, words),
      "#{label} #{ended(result)}: #{message(words)}",
      Map.put(details, :stderr, Redact.redact(Output.without_warnings(result.stderr), secrets))
    )
  end

  @doc "Returns the error of an output that cannot be read."
  @spec unreadable(String.t(), Result.t()) :: Error.t()
  def unreadable(label, result) do
    message = "#{label} wrote #{byte_size(result.stdout)} bytes in an unknown form to stdout"
    Error.new(:protocol, message, %{exit_status: result.exit_status})
  end

  @doc "Returns the error of a command that did not start or did not end by itself."
  @spec stopped(String.t(), term()) :: Error.t()
  def stopped(label, {:timeout, ms}) do
    details = %{timeout_ms: ms, clock: :total, option: :timeout}
    Error.new(:timeout, "#{label} took longer than #{ms} ms; raise :timeout", details)
  end

  def stopped(label, {:too_long, bytes}) do
    message = "#{label} wrote over #{bytes} bytes to stdout; raise :stdout_limit"
    Error.new(:overflow, message)
  end

  def stopped(label, :cancelled), do: Error.new(:interrupted, "#{label} was cancelled")
  def stopped(_label, reason), do: Error.normalize(reason)

  defp words(result) do
    case Output.without_warnings(result.stderr) do
      "" -> result.stdout |> Codex.Text.printable() |> String.trim()
      words -> words
    end
  end

  defp ended(%{exit_status: nil, signal: signal}), do: "was ended by signal #{signal}"
  defp ended(%{exit_status: status}), do: "exited with status #{status}"

  defp kind(%{exit_status: nil}, _words), do: :killed

  # A command that gives a reason has refused.
  defp kind(_result, words) do
    found = Enum.find_value(@kinds, fn {words_of, kind} -> if words =~ words_of, do: kind end)
    found || if(words =~ ~r/^error: /im, do: :invalid_request, else: :crashed)
  end

  # The error and its causes. Logs can stand before it.
  defp message(""), do: "it printed no message"

  defp message(words) do
    [before | _rest] = String.split(words, @behind, parts: 2)

    text =
      case Regex.run(~r/^error: .*/ims, before) do
        [error] -> error |> String.replace(~r/^error: /i, "")
        nil -> before
      end

    text
    |> String.replace(~r/\s*Caused by:\s*(?:0: )?/, ": ")
    |> String.replace(~r/\s*\n\s*/, " ")
    |> String.trim()
    |> String.slice(0, @most)
  end
end
