defmodule Codex.Config.Unknown do
  @moduledoc false
  # Keys that `priv/config/schema.json` lacks. An installed CLI that is newer than the data may know
  # them: warnings then say so, and strict loading asks that CLI.

  alias Codex.CLI.{Command, Program}
  alias Codex.Config.{Error, Key, Schema}

  @doc """
  Returns the errors that hold if unknown keys are errors: those of keys that a newer CLI refuses,
  too. Without a newer CLI, or without its answer, all of them.
  """
  @spec confirmed([Error.t()], map()) :: [Error.t()]
  def confirmed([], _opts), do: []

  def confirmed(errors, opts) do
    case newer() do
      nil -> errors
      program -> refused(errors, ask(program, opts))
    end
  end

  defp refused(_errors, :accepted), do: []
  defp refused(errors, :no_answer), do: errors

  # The CLI names the first key.
  defp refused(errors, {:refused, detail}) do
    named? = fn error -> detail =~ "`#{Key.format(error.path)}`" end
    Enum.filter(errors, named?) ++ Enum.reject(errors, named?)
  end

  @doc "Returns warnings with words for a CLI that is newer than the data."
  @spec reworded([Error.t()]) :: [Error.t()]
  def reworded(warnings) do
    if Enum.any?(warnings, &unknown?/1) and newer() != nil,
      do: Enum.map(warnings, &reword/1),
      else: warnings
  end

  defp unknown?(error), do: error.reason == :unknown_key

  defp reword(error) do
    text =
      "`#{Key.format(error.path)}` is not known to codex_sdk (schema of #{Schema.cli_version()})"

    if unknown?(error), do: %{error | message: text}, else: error
  end

  # The installed program if it is newer than the data, else nil.
  defp newer do
    with {:ok, program} <- Program.find(nil),
         {:ok, version} <- Program.known_version(program),
         :gt <- Version.compare(version, Schema.cli_version()) do
      program
    else
      _none_or_not_newer -> nil
    end
  end

  # Prints what the server would start with, and starts nothing.
  defp ask(program, opts) do
    overrides = Enum.flat_map(opts.overrides, &["-c", &1])
    argv = [program, "app-server", "--strict-config", "--print-startup-config"] ++ overrides
    run = [env: %{"CODEX_HOME" => opts.home}, cwd: opts.cwd, timeout: opts.timeout]

    with {:ok, %{stdout: out}} <- Command.run(argv, run),
         {:ok, answer} <- Codex.JSON.decode(out) do
      case answer do
        %{"error" => %{"data" => %{"detail" => detail}}} when is_binary(detail) ->
          {:refused, detail}

        %{"appServerVersion" => _version} ->
          :accepted

        _other ->
          :no_answer
      end
    else
      _failure -> :no_answer
    end
  end
end
