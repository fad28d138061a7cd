# Calls a server of the Model Context Protocol, without the Codex CLI and without a model.
#
#     mix run examples/mcp_client.exs "npx -y @modelcontextprotocol/server-everything"
#     mix run examples/mcp_client.exs "python3 my_server.py" echo '{"text": "hello"}'
#
# The first argument is the command of the server. Alone, it lists the tools; with a tool
# and its arguments as a JSON object, it calls the tool. Questions of the server are asked at the
# terminal. Exit status: 0, 1 if the server or the tool failed, 2 for wrong arguments.

defmodule McpClient do
  alias Codex.MCP.Client

  def main([command]), do: connected(command, &list/1)

  def main([command, tool, json]) do
    case Codex.JSON.decode(json) do
      {:ok, %{} = arguments} -> connected(command, &call(&1, tool, arguments))
      _other -> failed("mcp_client: the arguments are no JSON object: #{json}", 2)
    end
  end

  def main(_args), do: failed("usage: mcp_client.exs COMMAND [TOOL JSON]", 2)

  defp connected(command, fun) do
    # A server that does not start is a status, not a crash of this process.
    Process.flag(:trap_exit, true)
    options = [command: OptionParser.split(command), elicitation: &answer/2]

    case Client.start_link(options) do
      {:ok, client} ->
        status = fun.(client)
        :ok = Client.stop(client)
        status

      {:error, reason} ->
        failed("mcp_client: #{message(reason)}", 1)
    end
  end

  defp list(client) do
    case Client.list_tools(client) do
      {:ok, tools, _client} ->
        for tool <- tools,
            do: IO.puts(Codex.Text.line("#{tool["name"]}  #{tool["description"]}"))

        0

      {:error, reason} ->
        failed("mcp_client: #{message(reason)}", 1)
    end
  end

  # A tool that fails has answered, too.
  defp call(client, tool, arguments) do
    case Client.call_tool(client, tool, arguments, timeout_ms: 60_000) do
      {:ok, result} ->
        for part <- result["content"], do: IO.puts(text(part))
        if result["isError"], do: 1, else: 0

      {:error, reason} ->
        failed("mcp_client: #{message(reason)}", 1)
    end
  end

  defp text(%{"type" => "text", "text" => text}), do: Codex.Text.printable(text)
  defp text(%{"type" => type}), do: "(#{type})"

  # The server asks for one value of each property.
  defp answer(%{"message" => question} = request, _context) do
    IO.puts(Codex.Text.line(question))
    names = request |> get_in(["requestedSchema", "properties"]) |> Kernel.||(%{}) |> Map.keys()
    values = for name <- names, do: {name, IO.gets("#{Codex.Text.line(name)}: ")}

    if values != [] and Enum.all?(values, &is_binary(elem(&1, 1))),
      do: {:accept, Map.new(values, fn {name, value} -> {name, String.trim(value)} end)},
      else: :decline
  end

  defp message(%{"message" => message}), do: Codex.Text.line(message)
  defp message(reason), do: Codex.Error.normalize(reason).message

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end
end

System.halt(McpClient.main(System.argv()))
