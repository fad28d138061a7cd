# A turn over the app-server: its user adds instructions while it runs, and a policy answers the
# agent's requests for approval.
#
#     mix run examples/steer.exs "Why is the build slow?" --allow "make -n" --allow "git log"
#
# Each line of the input is added to the running turn. Commands that leave the read-only sandbox
# need an approval: those named by --allow get it, all others are refused. Uses the login of the
# Codex CLI. Exit status: 0 with an answer, 1 if the turn failed, 2 for wrong arguments.

defmodule Steer do
  alias Codex.{AppServer, Events, Thread}

  def main(args) do
    case OptionParser.parse(args, strict: [allow: :keep]) do
      {options, [prompt], []} ->
        case run(prompt, Keyword.get_values(options, :allow)) do
          {:ok, _result} -> 0
          {:error, reason} -> failed("steer: #{Codex.Error.normalize(reason).message}", 1)
        end

      _wrong ->
        failed(~s(usage: steer.exs "PROMPT" [--allow COMMAND]...), 2)
    end
  end

  defp run(prompt, allowed) do
    with {:ok, conn} <- AppServer.connect(),
         {:ok, thread} <-
           Codex.start_thread([],
             transport: {:app_server, conn},
             sandbox: :read_only,
             ask_for_approval: :on_request,
             approval_policy: &decide(&1, allowed)
           ) do
      spawn_link(fn -> read(thread) end)
      Thread.run(thread, prompt, on_event: &show/1)
    end
  end

  # The command is the one that the shell gets: the whole of it is compared.
  defp decide(%{type: :command_execution_approval, command: command}, allowed) do
    if Enum.any?(allowed, &(command in [&1, "/bin/bash -lc '#{&1}'"])) do
      IO.puts(Codex.Text.line("[allowed: #{command}]"))
      :allow
    else
      IO.puts(Codex.Text.line("[refused: #{command}]"))
      {:deny, "only the commands that the user named"}
    end
  end

  defp decide(_patch_or_tool, _allowed), do: {:deny, "only commands"}

  defp read(thread) do
    case IO.gets("") do
      line when is_binary(line) ->
        if String.trim(line) != "", do: steer(thread, String.trim(line))
        read(thread)

      _end ->
        :ok
    end
  end

  # Any process may steer. Without a running turn, the reason says so.
  defp steer(thread, text) do
    case Thread.steer(thread, text) do
      :ok -> IO.puts("[added]")
      {:error, reason} -> IO.puts("[not added: #{Codex.Error.normalize(reason).message}]")
    end
  end

  defp show(%Events.TurnStarted{}), do: IO.puts("[started]")

  defp show(%Events.ItemAgentMessageDelta{item: item}),
    do: IO.write(Codex.Text.printable(item["text"]))

  defp show(%Events.TurnCompleted{}), do: IO.puts("")
  defp show(_event), do: :ok

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end
end

System.halt(Steer.main(System.argv()))
