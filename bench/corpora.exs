defmodule Bench.Corpora do
  @moduledoc false
  # Generates streams to decode, once, and keeps them in .corpora/. The shapes are those of the
  # tested CLI (test/fixtures/exec; notifications as the app-server sends them); texts and sizes are
  # random.

  @dir Path.expand(".corpora", __DIR__)
  @version 2

  @names [:small, :mixed, :large, :rpc]
  def names, do: @names

  @doc "The path of a corpus of about `mb` megabytes."
  def path(name, mb) when name in @names do
    path = Path.join(@dir, "#{name}-#{mb}mb-v#{@version}.jsonl")

    unless File.exists?(path) do
      File.mkdir_p!(@dir)
      File.write!(path <> ".new", make(name, mb * 1_000_000))
      File.rename!(path <> ".new", path)
    end

    path
  end

  @doc "A corpus as chunks of whole lines of about `size` bytes, each a binary of its own."
  def chunks(name, mb, size \\ 65_536) do
    name |> path(mb) |> File.read!() |> cut(size)
  end

  defp cut("", _size), do: []

  defp cut(bytes, size) do
    at = end_of_lines(bytes, min(size, byte_size(bytes)))
    {chunk, rest} = :erlang.split_binary(bytes, at)
    [:binary.copy(chunk) | cut(rest, size)]
  end

  # Returns the position of the last newline before `size`, or of the first one after it.
  defp end_of_lines(bytes, size) do
    case :binary.matches(binary_part(bytes, 0, size), "\n") do
      [] ->
        {at, 1} = :binary.match(bytes, "\n", scope: {size, byte_size(bytes) - size})
        at + 1

      matches ->
        {at, 1} = List.last(matches)
        at + 1
    end
  end

  ## Generators

  defp make(name, bytes) do
    :rand.seed(:exsss, {1, 2, 3})
    lines(name, bytes, 0, [])
  end

  defp lines(_name, left, _n, acc) when left <= 0, do: Enum.reverse(acc)

  defp lines(name, left, n, acc) do
    line = IO.iodata_to_binary([line(name, n), ?\n])
    lines(name, left - byte_size(line), n + 1, [line | acc])
  end

  # About 183 bytes each: many short items.
  defp line(:small, n) do
    case rem(n, 8) do
      0 -> command(n, "started", "", "null", "in_progress")
      1 -> command(n, "completed", words(2) <> "\\n", "0", "completed")
      2 -> item("completed", n, "reasoning", ~s("text":"**#{words(2)}**\\n\\n#{words(12)}"))
      3 -> item("completed", n, "agent_message", ~s("text":"#{words(18)}"))
      4 -> item("completed", n, "agent_message", ~s("text":"#{words(9)} – #{words(6)}"))
      5 -> changes(n, "completed")
      6 -> todo(n)
      7 -> call(n)
    end
  end

  # About 2.1 KB each: every second one is a command with its output, full of escapes.
  defp line(:mixed, n) do
    case rem(n, 8) do
      odd when odd in [1, 3, 5, 7] ->
        command(n, "completed", output(3200, 40), "0", "completed")

      0 ->
        command(n, "started", "", "null", "in_progress")

      2 ->
        item("completed", n, "agent_message", ~s("text":"#{text(1500)}"))

      4 ->
        mcp(n)

      6 ->
        item("completed", n, "reasoning", ~s("text":"**#{words(3)}**\\n\\n#{text(900)}"))
    end
  end

  # About 208 KB each, one escape in 50 bytes.
  defp line(:large, n), do: command(n, "completed", output(208_000, 50), "0", "completed")

  # About 270 bytes each: the most frequent notification of the app-server.
  defp line(:rpc, n) do
    ~s({"method":"item/agentMessage/delta","params":{"threadId":"01a1f6d4-85db-7361-ba5e-e19a013750ca",) <>
      ~s("turnId":"01a1f6d4-85f0-7ac1-970d-18cbe9e25b76","itemId":"msg_resp_#{div(n, 50)}_item_1",) <>
      ~s("delta":"#{words(3)} "},"emittedAtMs":#{1_795_142_485_718 + n}})
  end

  defp item(stage, n, type, rest),
    do: ~s({"type":"item.#{stage}","item":{"id":"item_#{rem(n, 500)}","type":"#{type}",#{rest}}})

  defp command(n, stage, output, exit_code, status) do
    item(
      stage,
      n,
      "command_execution",
      ~s("command":"/bin/bash -lc 'cat #{word()}.txt'","aggregated_output":"#{output}",) <>
        ~s("exit_code":#{exit_code},"status":"#{status}")
    )
  end

  defp changes(n, status) do
    item(
      "completed",
      n,
      "file_change",
      ~s("changes":[{"path":"/workspace/#{word()}.txt","kind":"update"},{"path":"/workspace/new/#{word()}.txt",) <>
        ~s("kind":"add"}],"status":"#{status}")
    )
  end

  defp todo(n) do
    item(
      "updated",
      n,
      "todo_list",
      ~s("items":[{"text":"#{words(3)}","completed":true},{"text":"#{words(3)}","completed":false}])
    )
  end

  defp mcp(n) do
    item(
      "completed",
      n,
      "mcp_tool_call",
      ~s("server":"tiny","tool":"#{word()}","arguments":{"text":"#{words(4)}","limit":#{n}},) <>
        ~s("result":{"content":[{"type":"text","text":"#{text(1200)}"}],"structured_content":) <>
        ~s({"score":0.#{n},"tags":["#{word()}","#{word()}"]}},"error":null,"status":"completed")
    )
  end

  defp call(n) do
    item(
      "started",
      n,
      "mcp_tool_call",
      ~s("server":"tiny","tool":"#{word()}","arguments":{"text":"#{words(2)}","limit":#{n}},) <>
        ~s("result":null,"error":null,"status":"in_progress")
    )
  end

  @words ~w(the file of thread build error warning lib main function returns value test passed failed module line
            import config server client größe naïve 数据 running compiled in for with and not a to)

  defp word, do: Enum.random(@words)
  defp words(n), do: Enum.map_join(1..n, " ", fn _ -> word() end)

  # Prose of about `bytes` bytes, with an escape per hundred bytes.
  defp text(bytes), do: filled(bytes, fn -> words(16) <> Enum.random(["\\n", "\\\"", ". "]) end)

  # Output of a command: a newline, or sometimes a quote, a tab or a colour, per `every` bytes.
  defp output(bytes, every) do
    filled(bytes, fn ->
      words(max(div(every, 6) - 1, 1)) <>
        Enum.random([
          "\\n",
          "\\n",
          "\\n",
          "\\n",
          "\\n",
          "\\n",
          "\\t",
          "\\\"",
          "\\\\",
          "\\u001b[0m"
        ])
    end)
  end

  defp filled(bytes, piece), do: filled(bytes, piece, [])
  defp filled(left, _piece, acc) when left <= 0, do: IO.iodata_to_binary(acc)

  defp filled(left, piece, acc) do
    text = piece.()
    filled(left - byte_size(text), piece, [acc | text])
  end
end
