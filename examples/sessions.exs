# Lists threads, prints one, or continues one.
#
#     mix run examples/sessions.exs                       # the newest 20 threads
#     mix run examples/sessions.exs --here                # of the current directory
#     mix run examples/sessions.exs ID                    # the messages of one
#     mix run examples/sessions.exs ID "And then?"        # continues it
#
# The threads are those of the home of the Codex CLI: of `codex`, of `codex exec`, of editors and of
# app-servers. Exit status: 0, 1 for a failure such as an unknown id, or 2 for wrong arguments.

defmodule Sessions do
  def main(args) do
    case OptionParser.parse(args, strict: [here: :boolean]) do
      {options, [], []} -> connected(&list(&1, options))
      {[], [id], []} -> connected(&show(&1, id))
      {[], [id, prompt], []} -> connected(&resume(&1, id, prompt))
      _wrong -> failed("usage: sessions.exs [--here | ID [PROMPT]]", 2)
    end
  end

  defp connected(fun) do
    with {:ok, conn} <- Codex.AppServer.connect(), :ok <- fun.(conn) do
      0
    else
      {:error, reason} -> failed("sessions: #{Codex.Error.normalize(reason)}", 1)
    end
  rescue
    # Lazy lists raise errors.
    error in Codex.Error -> failed("sessions: #{error}", 1)
  end

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end

  defp list(conn, options) do
    filter = if options[:here], do: [cwd: File.cwd!()], else: []
    threads = conn |> Codex.Threads.list(filter) |> Enum.take(20)
    if threads == [], do: IO.puts("no threads")

    for thread <- threads do
      {:ok, created} = DateTime.from_unix(thread["createdAt"])
      title = Codex.Text.line(thread["name"] || thread["preview"] || "")

      IO.puts(
        "#{thread["id"]}  #{created}  #{inspect(thread["source"])}  #{String.slice(title, 0, 60)}"
      )
    end

    :ok
  end

  defp show(conn, id) do
    for %{"item" => item} <- Codex.Threads.items({conn, id}), do: say(item)
    :ok
  end

  defp say(%{"type" => "userMessage", "content" => content}) do
    for %{"type" => "text", "text" => text} <- content,
        do: IO.puts("> #{Codex.Text.printable(text)}")
  end

  defp say(%{"type" => "agentMessage", "text" => text}), do: IO.puts(Codex.Text.printable(text))
  defp say(_other), do: :ok

  defp resume(conn, id, prompt) do
    options = [transport: {:app_server, conn}, sandbox: :read_only]

    with {:ok, thread} <- Codex.resume_thread(id, [], options),
         {:ok, result} <- Codex.Thread.run(thread, prompt) do
      IO.puts(Codex.Text.printable(to_string(result)))
    end
  end
end

System.halt(Sessions.main(System.argv()))
