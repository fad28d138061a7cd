defmodule Codex.GuidesMCPTest do
  # Runs the code of the sections "A client" and "Handlers" of `guides/mcp.md`.
  use ExUnit.Case, async: true

  alias Codex.MCP.Client

  @moduletag :python

  @guide File.read!(Path.expand("../guides/mcp.md", __DIR__))
  @server Path.expand("children/mcp_server.py", __DIR__)

  defp run(section) do
    [_, text] = Regex.run(~r/^## #{section}\n(.*?)(?=^## )/ms, @guide)
    [[_, code]] = Regex.scan(~r/^```elixir\n(.*?)^```/ms, text)
    {_result, variables} = Code.eval_string(code, command: ["python3", @server])
    Map.new(variables)
  end

  defp ask(client, kind), do: Client.call_tool(client, "ask", %{"kind" => kind})

  test "a client lists and calls tools, and ends" do
    %{names: names, client: client} = run("A client")
    assert "echo" in names
    refute Process.alive?(client)
  end

  test "handlers answer the server" do
    %{asked: client} = run("Handlers")

    assert {:ok, %{"content" => [%{"text" => answer}]}} = ask(client, "elicitation")

    assert {:ok, %{"action" => "accept", "content" => %{"name" => "Ann"}}} =
             Codex.JSON.decode(answer)

    assert {:ok, %{"content" => [%{"text" => roots}]}} = ask(client, "roots")
    assert roots =~ "file:///srv/shop"
  end
end
