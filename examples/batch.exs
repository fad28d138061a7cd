# Runs a file of prompts, a few at a time, and writes a line of JSON for each.
#
#     mix run examples/batch.exs prompts.txt > results.jsonl
#     mix run examples/batch.exs prompts.txt --concurrency 8 --seconds 300 --app-server
#     mix run examples/batch.exs prompts.txt --journal night.journal
#
# With a journal, the same command continues after a crash, without the prompts that are done.
# Each line of the file is a prompt; blank lines are left out. Results come in the order of the
# file: {"line": 3, "ok": true, "answer": "…", "attempts": 1, "usage": {…}} or
# {"line": 4, "ok": false, "kind": "timeout", "message": "…"}. The sum is printed on stderr. The
# agent reads the current directory, with the login of the Codex CLI; threads are stored for a
# journal only.
#
# Exit status: 0 if all prompts succeeded, 1 if a prompt failed, 2 if nothing was run or
# the journal cannot be used.

defmodule Batch do
  @flags [
    concurrency: :integer,
    seconds: :integer,
    attempts: :integer,
    app_server: :boolean,
    journal: :string
  ]

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
          "usage: batch.exs FILE [--concurrency N] [--seconds N] [--attempts N] [--app-server] " <>
            "[--journal FILE]"
        )

        2
    end
  rescue
    # The journal is in use, or is no journal.
    error in Codex.Error ->
      IO.puts(:stderr, "batch: #{error.message}")
      2
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
      ephemeral: options[:journal] == nil
    ]

    # The threads of a journal are stored: a turn that a crash interrupted is looked up there.
    journal = if path = options[:journal], do: [journal: path, on_interrupted: :resume], else: []

    batch = [
      thread: thread,
      max_concurrency: options[:concurrency] || 4,
      timeout_ms: 1_000 * (options[:seconds] || 300),
      retry_opts: [max_attempts: options[:attempts] || 3]
    ]

    prompts =
      for {prompt, line} <- Enum.with_index(String.split(text, "\n"), 1),
          String.trim(prompt) != "",
          do: %{key: line, prompt: prompt}

    prompts
    |> Codex.map(& &1, batch ++ journal)
    |> Enum.map(fn result ->
      IO.puts(Codex.JSON.encode!(json(result)))
      result
    end)
  end

  defp json(%{status: :ok} = done) do
    answer = to_string(done.result)
    %{line: done.key, ok: true, answer: answer, attempts: done.attempts, usage: done.usage}
  end

  defp json(%{error: error} = failed),
    do: %{line: failed.key, ok: false, kind: error.kind, message: error.message}

  defp report(results) do
    done = for %{status: :ok} = result <- results, do: result
    failed = length(results) - length(done)

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
