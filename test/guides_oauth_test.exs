defmodule Codex.GuidesOAuthTest do
  # Runs the code of the section "OAuth" of `guides/mcp.md`.
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  alias Codex.MCP.OAuth.Bearer
  alias Codex.OAuthServer

  @moduletag :tmp_dir

  @guide File.read!(Path.expand("../guides/mcp.md", __DIR__))
  @section ~r/^## OAuth\n(.*?)(?=^## |\z)/ms |> Regex.run(@guide) |> List.last()
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @section), do: code

  setup %{tmp_dir: dir} do
    %{variables: [home: Codex.Logins.home!(dir, "mcp_oauth_credentials_store = \"file\"\n")]}
  end

  defp run(text, variables, person) do
    code = Enum.find(@blocks, &(&1 =~ text)) || flunk("no block has #{text}")
    code |> with_person(person) |> Code.eval_string(variables)
  end

  # Stands in for the person: a browser that the desktop opens, or a line that is typed.
  defp with_person(code, nil), do: code

  defp with_person(code, :browser) do
    String.replace(code, ~S[login("web", url, ], ~S[login("web", url, open: open, ])
  end

  defp with_person(code, :typed) do
    typed = ~S["Address after the login: " |> IO.gets() |> String.trim()]
    assert code =~ typed
    String.replace(code, typed, "person.(address)")
  end

  test "logs in with a browser, and by an address that is typed", context do
    server = OAuthServer.start!()
    open = OAuthServer.browser()

    variables =
      [url: server.url, open: open, person: &OAuthServer.location/1] ++ context.variables

    run("status(", variables, :browser)
    assert_received {:opened, _url}
    out = capture_io(fn -> run("IO.gets", variables, :typed) end)
    assert out =~ "Log in at http://127.0.0.1"
    {_result, variables} = run("bearer(", variables, nil)
    assert {:ok, "at-2" <> _} = Bearer.token(variables[:bearer])
  end
end
