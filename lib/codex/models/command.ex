defmodule Codex.Models.Command do
  @moduledoc false
  # Runs `codex debug models`.

  alias Codex.CLI.Command
  alias Codex.{Error, Models.Query}

  # The built-in catalog of the CLI has 745 KB.
  @most 16 * 1024 * 1024

  @doc "Returns the output of the CLI."
  @spec run(Path.t(), Query.t()) :: {:ok, binary()} | {:error, Error.t()}
  def run(program, %Query{} = query) do
    argv = [program, "debug", "models" | if(query.bundled, do: ["--bundled"], else: [])]

    opts = [
      env: query.env,
      clear_env: true,
      cwd: query.cwd,
      stderr_limit: 8192,
      timeout: query.timeout,
      most: @most
    ]

    case Command.run(argv, opts) do
      {:ok, %{exit: %{status: 0}} = ended} -> {:ok, ended.stdout}
      {:ok, ended} -> {:error, ended(ended.exit, Command.text(ended.stderr))}
      {:error, reason} -> {:error, failed(reason)}
    end
  end

  defp failed({:timeout, ms}) do
    message = "codex debug models took longer than #{ms} ms"
    Error.new(:timeout, message, %{timeout_ms: ms})
  end

  defp failed({:too_long, bytes}),
    do: Error.new(:protocol, "codex debug models printed over #{bytes} bytes")

  defp failed({:lost, error}), do: Error.new(:crashed, Exception.message(error))

  defp failed({:not_started, error}) do
    message = "codex could not be started: #{Exception.message(error)}"
    Error.new(:cli_not_found, message, %{code: error.reason})
  end

  # The exit status of the CLI for unknown arguments.
  defp ended(%{status: 2}, stderr) do
    details = %{exit_status: 2, stderr: stderr}
    Error.new(:cli_unsupported, "this codex has no `debug models`: #{first(stderr)}", details)
  end

  defp ended(%{status: nil, signal: signal}, stderr) do
    details = %{signal: signal, stderr: stderr}
    Error.new(:killed, "codex debug models was ended by signal #{signal}", details)
  end

  defp ended(%{status: status}, stderr) do
    details = %{exit_status: status, stderr: stderr}

    Error.new(
      :crashed,
      "codex debug models exited with status #{status}: #{first(stderr)}",
      details
    )
  end

  # The CLI may print warnings before the error, and an excerpt of the file after it.
  defp first(stderr) do
    lines = String.split(stderr, "\n", trim: true)

    Enum.find(lines, List.last(lines) || "it printed no message", &(&1 =~ ~r/^error: /i))
    |> String.slice(0, 500)
  end
end
