defmodule Mix.Tasks.Codex.McpTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  alias Codex.JSON
  alias Mix.Tasks.Codex.Mcp

  @moduletag :tmp_dir

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
  end

  defp run(home, argv) do
    {before, rest} = Enum.split_while(argv, &(&1 != "--"))
    Mcp.run(before ++ ["--codex-home", home] ++ rest)
    text([])
  end

  defp decode(json) do
    {:ok, value} = JSON.decode(json)
    value
  end

  defp text(lines) do
    receive do
      {:mix_shell, :info, [line]} -> text([IO.iodata_to_binary(line) | lines])
    after
      0 -> lines |> Enum.reverse() |> Enum.join("\n")
    end
  end

  test "adds, lists, shows, switches and removes servers without their secrets", %{tmp_dir: home} do
    file = Path.join(home, "config.toml")
    File.write!(file, "# mine\n[mcp_servers.old]\ncommand = \"o\" # kept\nrequired = false\n")
    assert run(home, ~w(list --cwd) ++ [home]) =~ ~r/old +enabled +o$/m

    added = run(home, ~w(add files --env TOKEN=s3cret --env B=x=y -- npx -y) ++ ["/data dir"])
    assert added == "Added files (#{file})"
    run(home, ~w(add web --url http://127.0.0.1:9/ --env-http-header X-A=VAR))
    assert {:ok, %{"file" => ^file}} = JSON.decode(run(home, ~w(disable web --json)))

    text = File.read!(file)
    assert text =~ "# mine" and text =~ "\"o\" # kept" and text =~ "required = false"

    shown = run(home, ~w(get files --cwd) ++ [home])
    assert shown =~ ~s(args: ["-y","/data dir"]) and shown =~ ~s("TOKEN":"*****")
    refute shown =~ "s3cret"

    lines = run(home, ~w(list --json --cwd) ++ [home])
    refute lines =~ "s3cret"
    servers = for line <- String.split(lines, "\n"), {:ok, server} = JSON.decode(line), do: server

    assert Enum.map(servers, &{&1["name"], &1["enabled"]}) == [
             {"files", true},
             {"old", true},
             {"web", false}
           ]

    assert List.last(servers)["transport"]["env_http_headers"] == %{"X-A" => "VAR"}

    for name <- ~w(files web), do: assert(run(home, ["remove", name]) =~ "Removed #{name}")
    text = File.read!(file)
    assert_raise Mix.Error, ~r/no MCP server files/, fn -> run(home, ~w(remove files)) end
    assert File.read!(file) == text
    assert run(home, ~w(enable old)) =~ "Enabled old"
    run(home, ~w(remove old))
    assert run(home, ~w(list --cwd) ++ [home]) == "There are no MCP servers."
  end

  @tag :python
  test "lists and calls the tools of a server", %{tmp_dir: home} do
    server = Path.expand("../children/mcp_server.py", __DIR__)
    run(home, ["add", "odd", "--", "python3", server])

    assert run(home, ~w(tools odd)) =~ ~r/^echo/m
    tools = for line <- String.split(run(home, ~w(tools odd --json)), "\n"), do: decode(line)
    assert "echo" in Enum.map(tools, & &1["name"])

    # The output of a server cannot control the terminal.
    said = run(home, ["call", "odd", "echo", ~S({"text": "one\ntwo \u001b[2J"})])
    assert said =~ "one\ntwo"
    refute said =~ "\e"

    assert %{"content" => [%{"text" => "hi"}]} =
             decode(run(home, ["call", "odd", "echo", ~S({"text": "hi"}), "--json"]))

    for {argv, words} <- [
          {["call", "odd", "none"], "no such tool"},
          {["call", "odd", "echo", "[1]"], "expected the arguments as a JSON object"},
          {["call", "nope", "echo"], "nope"},
          {["login", "odd"], "odd has no URL"},
          {["logout", "odd"], "odd has no URL"}
        ] do
      assert assert_raise(Mix.Error, fn -> run(home, argv) end).message =~ words
    end
  end

  test "logs in to a server, and out", %{tmp_dir: home} do
    # No desktop opens the address: the test reads it off the terminal, as a person does.
    File.mkdir_p!(Path.join(home, "bin"))

    for name <- ~w(xdg-open open), file = Path.join([home, "bin", name]) do
      File.write!(file, "#!/bin/sh\nexit 0\n")
      File.chmod!(file, 0o755)
    end

    path = System.get_env("PATH")
    System.put_env("PATH", Path.join(home, "bin") <> ":" <> path)
    on_exit(fn -> System.put_env("PATH", path) end)

    server = Codex.OAuthServer.start!()
    File.write!(Path.join(home, "config.toml"), "mcp_oauth_credentials_store = \"file\"\n")
    run(home, ["add", "web", "--url", server.url])
    assert run(home, ["logout", "web", "--cwd", home]) == "There was no login to web"

    {:ok, terminal} = StringIO.open("")
    test = self()

    login =
      Task.async(fn ->
        Process.group_leader(self(), terminal)
        Mix.shell(Mix.Shell.IO)
        Mcp.run(["login", "web", "--codex-home", home, "--cwd", home])
        send(test, :logged_in)
      end)

    assert {200, page} = terminal |> address() |> Codex.OAuthServer.browse()
    assert page =~ "logged in"
    Task.await(login, 30_000)
    assert_received :logged_in
    assert terminal |> StringIO.contents() |> elem(1) =~ "Logged in to web"
    Mix.shell(Mix.Shell.Process)
    assert run(home, ["logout", "web", "--cwd", home]) == "Logged out of web"
  end

  defp address(terminal) do
    case Regex.run(~r"^http://\S+/authorize\S+$"m, terminal |> StringIO.contents() |> elem(1)) do
      [url] ->
        url

      nil ->
        Process.sleep(20)
        address(terminal)
    end
  end

  test "says what was wrong", %{tmp_dir: home} do
    for {argv, words} <- [
          {[], "usage"},
          {["tell"], "there is no command"},
          {~w(add), "usage"},
          {~w(add x), "expected --url URL, or a command"},
          {~w(add x --url u -- c), "expected --url URL, or a command"},
          {~w(add x --env s3cret -- c), "NAME=VALUE, got: [redacted]"},
          {~w(add x --url u --env A=s3cret), "--env is not an option of a server with a URL"},
          {~w(add x --bearer-token-env-var T -- c), "--bearer-token-env-var is not an option"},
          {["add", "bad name!", "--", "c"], "is no name of an MCP server"},
          {~w(get nope), "no such MCP server"},
          {~w(disable nope), "no such MCP server"},
          {~w(get nope --loud), "unknown or incomplete option --loud"}
        ] do
      error =
        assert_raise Mix.Error, fn -> if argv == [], do: Mcp.run([]), else: run(home, argv) end

      assert error.message =~ words
      refute error.message =~ "s3cret"
    end

    refute File.exists?(Path.join(home, "config.toml"))
  end
end
