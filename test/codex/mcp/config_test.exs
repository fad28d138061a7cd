defmodule Codex.MCP.ConfigTest do
  use ExUnit.Case, async: true

  alias Codex.JSON
  alias Codex.MCP.Config

  @moduletag :tmp_dir

  # Servers with comments, quoted names, keys that the CLI drops, and secrets.
  @text """
  model = "m" # mine

  # the files
  [mcp_servers.files]
  command = "npx" # runs it
  args = ["-y", "server"]
  required = false
  env = { TOKEN = "s3cret" }

  [mcp_servers."a b.c"]
  command = "x"
  env_vars = ["HOME", { name = "SECRET", source = "remote" }]
  cwd = "/srv"
  enabled = false
  startup_timeout_ms = 1500
  tool_timeout_sec = 90
  enabled_tools = ["a"]
  disabled_tools = ["b"]

  [mcp_servers.web]
  url = "http://127.0.0.1:9/mcp"
  http_headers = { X-A = "s3cret" }
  env_http_headers = { X-B = "B_VAR" }
  bearer_token_env_var = "T"
  startup_timeout_sec = 0
  """

  setup %{tmp_dir: dir} do
    file = Path.join(dir, "config.toml")
    File.write!(file, @text)
    %{path: file, opts: [codex_home: dir]}
  end

  defp servers!(context) do
    {:ok, servers} = Config.list_servers(:home, [cwd: false] ++ context.opts)
    servers
  end

  describe "offline" do
    test "adds, replaces and removes a server, and keeps all other lines", context do
      assert {:ok, %{file: _, version: "sha256:" <> _}} =
               Config.add_server(
                 :home,
                 "new.one",
                 [command: "c", enabledTools: ["a"], cwd: nil],
                 context.opts
               )

      assert %{"command" => "c", "enabled_tools" => ["a"]} == servers!(context)["new.one"]
      assert File.read!(context.path) =~ @text
      assert {:ok, _} = Config.add_server(:home, "new.one", %{"url" => "http://x/"}, context.opts)
      assert servers!(context)["new.one"] == %{"url" => "http://x/"}
      assert {:ok, _} = Config.remove_server(:home, "new.one", context.opts)
      assert String.trim(File.read!(context.path)) == String.trim(@text)
      assert {:ok, _} = Config.remove_server(:home, "none", context.opts)
      assert {:ok, _} = Config.remove_server(:home, "a b.c", context.opts)
      assert Map.keys(servers!(context)) == ["files", "web"]
    end

    test "enables and disables servers, quoted names, too", context do
      assert {:ok, _} = Config.enable_server(:home, "a b.c", context.opts)
      assert {:ok, _} = Config.disable_server(:home, "files", context.opts)
      servers = servers!(context)
      assert servers["a b.c"]["enabled"] and servers["files"]["enabled"] == false
      text = File.read!(context.path)
      assert text =~ "# the files" and text =~ "# runs it" and text =~ "required = false"
      assert Config.disable_server(:home, "none", context.opts) == {:error, :server_not_found}
    end

    test "writes nothing that the CLI would refuse", context do
      for {attrs, reason} <- [
            {[], :missing_server_config},
            {"x", :missing_server_config},
            {[args: ["a"]], :missing_transport},
            {[command: " "], :missing_transport}
          ] do
        assert Config.add_server(:home, "s", attrs, context.opts) == {:error, reason}
      end

      for attrs <- [
            [command: "a", url: "http://b/"],
            [url: "http://b/", args: ["a"]],
            [command: "a", http_headers: %{a: "b"}],
            [url: "http://b/", bearer_token: "s3cret"],
            [command: "a", tool_timeout_sec: -1],
            [command: "a", args: "b"],
            [command: "a", env: %{"A" => 1}]
          ] do
        assert {:error, %Codex.Config.Error{} = error} =
                 Config.add_server(:home, "s", attrs, context.opts)

        refute inspect(error) =~ "s3cret"
        refute Exception.message(error) =~ "s3cret"

        # The same without a server to ask: nothing is sent.
        assert {:error, %Codex.Config.Error{}} = Config.add_server(self(), "s", attrs)
      end

      for name <- ["", "bad name!", "ä", :atom, "a\nb"] do
        assert Config.add_server(:home, name, [command: "a"], context.opts) ==
                 {:error, {:invalid_server_name, name}}
      end

      assert File.read!(context.path) == @text
    end
  end

  test "secrets are masked unless they are asked for", context do
    for {name, server} <- servers!(context) do
      refute inspect(Config.show(name, server)) =~ "s3cret"
    end

    shown = Config.show("files", servers!(context)["files"], secrets: true)
    assert shown["transport"]["env"] == %{"TOKEN" => "s3cret"}
  end

  defmodule Fake do
    def config_read(conn, opts),
      do:
        {:ok, %{"config" => %{"mcp_servers" => %{"a" => %{"command" => inspect({conn, opts})}}}}}

    def config_write(conn, key, value, opts), do: {:ok, %{call: {conn, key, value, opts}}}
  end

  test "shapes of calls with a connection" do
    assert {:ok, %{"a" => %{"command" => "{:c, [cwd: \"/\"]}"}}} =
             Config.list_servers(:c, app_server: Fake, cwd: "/")

    assert {:ok, %{call: {:c, "mcp_servers.\"d.e\"", %{"url" => "u"}, [x: 1]}}} =
             Config.add_server(:c, "d.e", %{url: "u"}, app_server: Fake, x: 1)

    assert {:ok, %{call: {:c, "mcp_servers.a", nil, []}}} =
             Config.remove_server(:c, "a", app_server: Fake)

    assert {:ok, %{call: {:c, "mcp_servers.a.enabled", false, []}}} =
             Config.disable_server(:c, "a", app_server: Fake)

    assert Config.enable_server(:c, "b", app_server: Fake) == {:error, :server_not_found}
  end

  describe "with the CLI" do
    @describetag :codex_cli

    defp codex!(model, args) do
      {:ok, codex} = Codex.Test.codex_path()
      env = Map.merge(model.env, %{"CODEX_HOME" => model.home})
      {out, 0} = System.cmd(codex, args, env: env, cd: model.workspace)
      {:ok, json} = JSON.decode(out)
      json
    end

    @tag :cli_pin
    test "`codex mcp list --json` and `get --json` say what show/3 says" do
      model = Codex.Test.start!([])
      file = Path.join(model.home, "config.toml")
      # Without a server over HTTP that the CLI would look for.
      File.write!(
        file,
        File.read!(file) <> "\n" <> String.replace(@text, "model = \"m\" # mine", "")
      )

      {:ok, servers} = Config.list_servers(:home, codex_home: model.home, cwd: false)
      listed = codex!(model, ["mcp", "list", "--json"])
      assert Enum.map(listed, & &1["name"]) == Enum.sort(Map.keys(servers))

      for their <- listed, name = their["name"] do
        our = Config.show(name, servers[name], secrets: true)
        assert codex!(model, ["mcp", "get", name, "--json"]) == our
        assert Map.delete(their, "auth_status") == Map.drop(our, ~w(enabled_tools disabled_tools))
      end
    end

    test "a connection reads and writes what the files hold" do
      model = Codex.Test.start!([])
      conn = Codex.Connected.connect!(model)
      opts = [codex_home: model.home]
      assert {:ok, _} = Config.add_server(conn, "d.e", command: "x", args: ["a"], enabled: false)
      assert {:ok, %{"args" => ["a"]}} = Config.get_server(:home, "d.e", [cwd: false] ++ opts)
      assert {:ok, _} = Config.add_server(:home, "f", [command: "y", enabled: false], opts)
      assert {:ok, %{"f" => %{"command" => "y"}, "d.e" => _}} = Config.list_servers(conn)
      assert {:ok, _} = Config.enable_server(conn, "d.e")
      assert {:ok, %{"enabled" => true}} = Config.get_server(:home, "d.e", [cwd: false] ++ opts)
      assert {:ok, _} = Config.remove_server(conn, "d.e")
      assert {:error, :server_not_found} = Config.get_server(:home, "d.e", [cwd: false] ++ opts)
    end
  end
end
