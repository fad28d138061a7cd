# Runs a file of prompts, a few at a time, and writes a line of JSON for each.
#
#     mix run examples/batch.exs prompts.txt > results.jsonl
#     mix run examples/batch.exs prompts.txt --concurrency 8 --seconds 300 --app-server
#
# Each line of the file is a prompt; blank lines are left out. Results come in the order of the
# file: {"line": 3, "ok": true, "answer": "…", "attempts": 1, "usage": {…}} or
# {"line": 4, "ok": false, "kind": "timeout", "message": "…"}. The sum is printed on stderr. The agent
# reads the current directory, with the login of the Codex CLI; the threads are not stored.
#
# Exit status: 0 if all prompts succeeded, 1 if a prompt failed, 2 if nothing was run.

defmodule Batch do
  @flags [concurrency: :integer, seconds: :integer, attempts: :integer, app_server: :boolean]

  def main(args) do
    with {options, [file], []} <- OptionParser.parse(args, strict: @flags),
         {:ok, text} <- read(file),
         {:ok, transport} <- transport(options[:app_server]) do
      text |> run(transport, options) |> report()
    else
      {:error, reason} ->
        IO.puts(:stderr, "batch: #{message(reason)}")
        2

      _wrong ->
        IO.puts(
          :stderr,
          "usage: batch.exs FILE [--concurrency N] [--seconds N] [--attempts N] [--app-server]"
        )

        2
    end
  end

  defp read(file) do
    with {:error, posix} <- File.read(file),
         do: {:error, "cannot read #{file}: #{:file.format_error(posix)}"}
  end

  # Uses a process of `codex exec` for each prompt, or one server for all.
  defp transport(true) do
    with {:ok, conn} <- Codex.AppServer.connect([], reconnect: true),
         do: {:ok, {:app_server, conn}}
  end

  defp transport(_exec), do: {:ok, :exec}

  defp run(text, transport, options) do
    thread = [
      transport: transport,
      sandbox: :read_only,
      skip_git_repo_check: true,
      ephemeral: true,
      total_timeout_ms: 1_000 * (options[:seconds] || 300),
      retry_opts: [max_attempts: options[:attempts] || 3],
      rate_limit: true
    ]

    text
    |> String.split("\n")
    |> Enum.with_index(1)
    |> Enum.reject(fn {prompt, _line} -> String.trim(prompt) == "" end)
    # `total_timeout_ms` is the limit: it ends the CLI in good order.
    |> Task.async_stream(fn {prompt, line} -> {line, ask(prompt, thread)} end,
      max_concurrency: options[:concurrency] || 4,
      timeout: :infinity
    )
    |> Enum.map(fn {:ok, {line, outcome}} ->
      IO.puts(Codex.JSON.encode!(Map.put(json(outcome), :line, line)))
      outcome
    end)
  end

  defp ask(prompt, thread_options) do
    with {:ok, thread} <- Codex.start_thread([], thread_options),
         do: Codex.Thread.run(thread, prompt)
  end

  defp json({:ok, result}) do
    %{ok: true, answer: to_string(result), attempts: result.attempts, usage: result.usage}
  end

  defp json({:error, reason}) do
    error = Codex.Error.normalize(reason)
    %{ok: false, kind: error.kind, message: error.message}
  end

  defp report(outcomes) do
    done = for {:ok, result} <- outcomes, do: result
    failed = length(outcomes) - length(done)

    # A failed turn reports no usage.
    usage =
      for(%{usage: %{} = usage} <- done, do: usage)
      |> Enum.reduce(%{}, &Map.merge(&1, &2, fn _name, a, b -> a + b end))

    IO.puts(
      :stderr,
      "#{length(done)} done, #{failed} failed; " <>
        "tokens: #{usage["input_tokens"] || 0} in, #{usage["output_tokens"] || 0} out"
    )

    if failed == 0, do: 0, else: 1
  end

  defp message(reason), do: Codex.Error.normalize(reason).message
end

System.halt(Batch.main(System.argv()))
