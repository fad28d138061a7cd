defmodule Codex.Config.CoreTest do
  use ExUnit.Case, async: true

  alias Codex.Config
  alias Codex.Config.{Core, Error, Helpers}

  @moduletag :tmp_dir

  setup %{tmp_dir: dir}, do: %{opts: [codex_home: dir, env: %{"HOME" => dir}]}

  defp load(opts) do
    {:ok, config} = Config.load([cwd: false, system_dir: "/nowhere"] ++ opts)
    config
  end

  defp load(dir, opts, text) do
    File.write!(Path.join(dir, "config.toml"), text)
    load(opts)
  end

  test "defaults of an empty configuration", %{opts: opts} do
    config = load(opts)
    assert Core.history(config) == %{persistence: :save_all, max_bytes: nil}
    assert Core.cli_auth_credentials_store(config) == :file
    assert Core.mcp_oauth_credentials_store(config) == :auto
    assert Core.forced_login_method(config) == nil
    assert Core.forced_chatgpt_workspace_ids(config) == []

    assert %{inherit: nil, exclude: [], set: %{}, filters: %{}} =
             Core.shell_environment_policy(config)

    assert %{mode: nil, writable_roots: [], network_access: false} = Core.sandbox(config)
    assert Core.project_root_markers(config) == [".git"]
    assert Core.features(config) == %{}
    assert Core.model(config).model == nil

    assert {Core.model_providers(config), Core.otel(config), Core.profiles(config)} ==
             {%{}, %{}, []}
  end

  test "values", %{tmp_dir: dir, opts: opts} do
    File.write!(Path.join(dir, "work.config.toml"), "")

    config =
      load(dir, opts, """
      cli_auth_credentials_store = "keyring"
      forced_login_method = "api"
      forced_chatgpt_workspace_id = "w"
      sandbox_mode = "workspace-write"
      sandbox_workspace_write = { writable_roots = ["a"], network_access = true }
      project_root_markers = ["mix.exs"]
      model = "m"
      [history]
      persistence = "none"
      [shell_environment_policy]
      inherit = "core"
      filters = { "A*" = "include" }
      [features]
      a = true
      multi_agent_v2 = { enabled = false }
      [projects."/x"]
      trust_level = "untrusted"
      """)

    assert Core.history(config).persistence == :none
    assert Core.cli_auth_credentials_store(config) == :keyring
    assert Core.forced_login_method(config) == :api
    assert Core.forced_chatgpt_workspace_ids(config) == ["w"]
    assert %{inherit: :core, filters: %{"A*" => :include}} = Core.shell_environment_policy(config)
    root = Path.join(dir, "a")

    assert %{mode: :workspace_write, writable_roots: [^root], network_access: true} =
             Core.sandbox(config)

    assert Core.trust(config, "/x") == :untrusted
    assert Core.trust(config, "/y") == nil
    assert Core.model(config).model == "m"
    assert Core.profiles(config) == ["work"]

    assert {true, false, nil} =
             {Core.feature_enabled?(config, "a"), Core.feature_enabled?(config, "multi_agent_v2"),
              Core.feature_enabled?(config, "b")}

    File.mkdir_p!(Path.join(dir, "p/q"))
    File.write!(Path.join(dir, "p/mix.exs"), "")
    assert Core.project_root(config, Path.join(dir, "p/q")) == Path.join(dir, "p")
  end

  test "features are switched, and settings stay", %{tmp_dir: dir, opts: opts} do
    load(dir, opts, "[features.multi_agent_v2]\nmin_wait_timeout_ms = 1\n")
    assert {:ok, _} = Helpers.enable_feature("multi_agent_v2", opts)
    assert {:ok, _} = Helpers.disable_feature("memories", opts)

    assert Core.features(load(opts)) == %{
             "multi_agent_v2" => %{"min_wait_timeout_ms" => 1, "enabled" => true},
             "memories" => false
           }
  end

  test "MCP servers", %{opts: opts} do
    assert {:ok, _} = Helpers.put_mcp_server("docs", [command: "npx", args: ["a"]], opts)

    assert {:ok, _} =
             Helpers.put_mcp_server(
               "web.api",
               %{url: "https://x", http_headers: %{"A" => "b"}},
               opts
             )

    assert {:ok, _} = Helpers.put_mcp_server("docs", [command: "node"], opts)
    assert {:error, %Error{reason: :missing_key}} = Helpers.put_mcp_server("x", [args: []], opts)

    assert {:error, %Error{reason: :refused}} =
             Helpers.put_mcp_server("x", [url: "u", cwd: "/"], opts)

    config = load(opts)
    assert Helpers.mcp_server(config, "docs") == %{"command" => "node"}
    assert Map.keys(Helpers.mcp_servers(config)) == ["docs", "web.api"]
    assert {:ok, _} = Helpers.delete_mcp_server("docs", opts)
    assert Helpers.mcp_server(load(opts), "docs") == nil

    server = [command: "x", args: [], env: [A: "b"], tools: [t: [approval_mode: :prompt]]]

    for put <- [&Helpers.put_mcp_server("k", &1, opts), &Config.put("mcp_servers.k", &1, opts)] do
      assert {:ok, _} = put.(server)

      assert Helpers.mcp_server(load(opts), "k") == %{
               "command" => "x",
               "args" => [],
               "env" => %{"A" => "b"},
               "tools" => %{"t" => %{"approval_mode" => "prompt"}}
             }

      assert {:ok, _} = put.([{"command", "x"}, {"env", [{"A", "b"}]}])
      assert Helpers.mcp_server(load(opts), "k") == %{"command" => "x", "env" => %{"A" => "b"}}
      assert {:ok, _} = put.(command: "x", env: [], enabled_tools: [])
      server = %{"command" => "x", "env" => %{}, "enabled_tools" => []}
      assert Helpers.mcp_server(load(opts), "k") == server

      for {wrong, path} <- [
            {[command: "x", cwd: nil], ~w(cwd)},
            {[command: "x", env: [A: nil]], ~w(env A)},
            {[command: "x", env: %{"A" => {"sk-1"}}], ~w(env A)},
            {[command: "x", env: %{"" => "sk-1"}], ~w(env)},
            {[command: "x", env: %{"A=sk-1" => ""}], ~w(env)},
            {[command: "x", args: ["sk-1", nil]], ~w(args)},
            {[{"command", "x"}, {"args"}], []},
            {nil, []}
          ] do
        assert {:error, %Error{reason: :bad_value, path: ["mcp_servers", "k" | ^path]} = error} =
                 put.(wrong)

        refute Exception.message(error) =~ "sk-1"
      end
    end

    assert {:ok, _} = Config.put(["mcp_servers", "k", "env"], [], opts)
    assert {:error, %Error{path: ["mcp_servers"]}} = Helpers.put_mcp_server("", server, opts)

    assert {:error, %Error{path: ["mcp_servers", "k", "env"]}} =
             Config.put(["mcp_servers", "k", "env", "A=sk-1"], "", opts)

    providers = [p: [name: "P", query_params: [], http_headers: [{:X, "1"}]]]
    assert {:ok, _} = Config.put("model_providers", providers, opts)

    assert Config.get(load(opts), "model_providers.p") == %{
             "name" => "P",
             "query_params" => %{},
             "http_headers" => %{"X" => "1"}
           }
  end

  test "trust and telemetry", %{opts: opts} do
    assert {:ok, _} = Helpers.put_trust("/a.b", :trusted, opts)
    assert Core.trust(load(opts), "/a.b") == :trusted

    settings = [
      endpoint: "http://127.0.0.1:4318",
      headers: %{"k" => "v"},
      environment: "test",
      log_user_prompt: false
    ]

    assert {:ok, _} = Helpers.put_otel({:otlp_http, settings}, opts)

    assert Core.otel(load(opts)) == %{
             "environment" => "test",
             "log_user_prompt" => false,
             "exporter" => %{
               "otlp-http" => %{
                 "endpoint" => "http://127.0.0.1:4318",
                 "protocol" => "binary",
                 "headers" => %{"k" => "v"}
               }
             }
           }

    assert {:ok, _} = Helpers.put_otel({:otlp_grpc, [endpoint: "http://127.0.0.1:4317"]}, opts)
    assert %{"exporter" => %{"otlp-grpc" => %{}}, "environment" => "test"} = Core.otel(load(opts))
    assert {:ok, _} = Helpers.put_otel(:none, opts)
    assert Core.otel(load(opts))["exporter"] == "none"
    assert_raise Codex.OptionError, fn -> Helpers.put_otel({:otlp_http, []}, opts) end
  end
end
