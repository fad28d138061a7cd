defmodule Codex.Auth.PreflightTest do
  # Compares the preflight with the behaviour of the CLI.
  use ExUnit.Case, async: true

  alias Codex.{AppServerClient, Auth, JSON, Logins, Subprocess, Test, Thread}
  alias Codex.Auth.Credentials
  alias Codex.Test.Steps

  alias Codex.Auth.Credentials

  @moduletag :tmp_dir

  @key ~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-test-of-the-file"})

  defp codes(preflight), do: Enum.map(preflight.warnings, & &1.code)

  defp preflight(home, opts \\ []) do
    {env, opts} = Keyword.pop(opts, :env, %{})

    {:ok, preflight} =
      Auth.preflight(
        [env: Logins.env(home, env), cwd: false, system_dir: Path.dirname(home)] ++ opts
      )

    preflight
  end

  describe "without the CLI" do
    setup %{tmp_dir: dir}, do: %{home: Logins.home!(dir)}

    test "reports the account of a ChatGPT login as unverified", %{home: home} do
      Logins.put!(home, Logins.chatgpt())
      found = preflight(home)

      assert %{ready?: true, error: nil, method: :chatgpt, plan: "pro", email: "ann@example.com"} =
               found

      assert {found.workspace_id, found.account_id, found.user_id} == {"acc-1", "acc-1", "user-1"}
      assert found.source == {:file, Path.join(home, "auth.json")}
      assert found.remote_models? and found.renewable? and found.warnings == []

      Logins.put!(home, Logins.chatgpt(expires_in: -60))
      assert [%{code: :token_expired, message: message}] = preflight(home).warnings
      assert message =~ "the CLI will renew it"
    end

    test "the variables that the lanes look at differ", %{home: home} do
      Logins.put!(home, @key)
      env = %{"CODEX_API_KEY" => " sk-test-of-the-variable ", "OPENAI_API_KEY" => "sk-other"}
      exec = preflight(home, env: env)
      assert {exec.source, exec.key_hint} == {{:env, "CODEX_API_KEY"}, "sk-test-***iable"}
      assert codes(exec) == [:login_hidden]

      app = preflight(home, env: env, lane: :app_server)
      assert app.source == {:file, Path.join(home, "auth.json")}
      assert codes(app) == [:codex_api_key_ignored]

      ignored = preflight(home, env: Map.delete(env, "CODEX_API_KEY"))
      assert codes(ignored) == [:openai_api_key_ignored]
      assert preflight(home, api_key: "sk-given-0123456789").key_hint == "sk-given***56789"
    end

    test "an invalid access token hides the login", %{home: home} do
      Logins.put!(home, @key)

      for lane <- [:exec, :app_server] do
        found = preflight(home, lane: lane, env: %{"CODEX_ACCESS_TOKEN" => "nonsense"})
        assert %{ready?: false, error: {:invalid_access_token, words}} = found

        assert words ==
                 "CODEX_ACCESS_TOKEN is neither a personal access token nor a JSON Web Token"

        assert codes(found) == [:access_token_hides_login]
      end

      token = Logins.jwt(%{"email" => "agent@example.com", "exp" => 4_102_444_800})
      found = preflight(home, env: %{"CODEX_ACCESS_TOKEN" => token})
      assert %{ready?: true, method: :agent_identity, email: "agent@example.com"} = found
      found = preflight(home, env: %{"CODEX_ACCESS_TOKEN" => "at-1"})
      assert %{ready?: true, method: :personal_access_token} = found
      assert codes(found) == [:access_token_unchecked, :login_hidden]
      assert %{source: {:file, _}} = preflight(home, env: %{"CODEX_ACCESS_TOKEN" => " "})
    end

    test "the requirements of the provider decide", %{home: home} do
      Logins.put!(home, nil)
      assert %{ready?: false, error: :no_credentials, provider: "mock"} = preflight(home)

      overrides = ~w(model_providers.mock.env_key=MY_KEY)
      assert %{error: {:missing_env, "MY_KEY"}} = preflight(home, overrides: overrides)

      found = preflight(home, overrides: overrides, env: %{"MY_KEY" => "sk-mine-0123456789"})
      assert %{ready?: true, method: :bearer_token, source: {:env, "MY_KEY"}} = found
      assert found.key_hint == "sk-mine-***56789"

      found = preflight(home, overrides: ~w(model_providers.mock.experimental_bearer_token=t))
      assert %{ready?: true, method: :bearer_token, source: {:config, _}} = found
      refute inspect(found) =~ ~s("t")

      found = preflight(home, overrides: ~w(model_providers.mock.requires_openai_auth=false))
      assert %{ready?: true, method: :none, source: nil} = found

      assert %{ready?: true, method: :none} =
               preflight(home, overrides: ~w(model_provider=ollama))

      assert %{error: :no_credentials} = preflight(home, overrides: ~w(model_provider=openai))

      blank = [overrides: overrides, env: %{"MY_KEY" => "  "}]
      assert %{ready?: false, error: {:missing_env, "MY_KEY"}} = preflight(home, blank)

      assert %{error: {:unknown_provider, "nope"}} =
               preflight(home, overrides: ~w(model_provider=nope))
    end

    test "a login that is broken, useless or gone", %{home: home} do
      Logins.put!(home, "{nope")
      assert %{ready?: false, error: {:invalid_credentials, {:file, _}, _}} = preflight(home)
      # To `login status` it is a login; no request can be made with it.
      Logins.put!(home, "{}")
      assert %{ready?: false, error: :no_credentials, method: :chatgpt} = preflight(home)
      Logins.put!(home, ~s({"OPENAI_API_KEY":""}))
      assert %{ready?: false, error: :no_credentials, method: :api_key} = preflight(home)
      Logins.put!(home, @key)
      # The CLI does not see a login in the memory of this VM.
      key = Credentials.api_key("sk-in-memory-0123")
      :ok = Auth.write(key, codex_home: home, cwd: false, store: :ephemeral)
      found = preflight(home, store: :ephemeral)
      assert %{ready?: false, error: :no_credentials} = found
      assert codes(found) == [:ephemeral]

      # A store that only the CLI can read; it does not encrypt a file.
      encrypted = "features.secret_auth_storage=true"
      auto = [encrypted, "cli_auth_credentials_store=auto"]
      found = preflight(home, overrides: auto)
      assert %{ready?: false, error: :encrypted_store, store: :encrypted} = found

      assert Auth.read(codex_home: home, cwd: false, overrides: auto) ==
               {:error, :encrypted_store}

      assert %{ready?: true} = preflight(home, overrides: [encrypted])
    end

    test "rules of the configuration, for each credential", %{home: home} do
      chatgpt = ~w(forced_login_method=chatgpt)
      api = ~w(forced_login_method=api)
      key = %{"CODEX_API_KEY" => "sk-1"}

      Logins.put!(home, @key)

      assert preflight(home, overrides: chatgpt).error ==
               {:forced_login_method, :chatgpt, :api_key}

      assert %{ready?: true} = preflight(home, overrides: api)
      # The CLI looks at its login whatever the provider asks for.
      for more <- ["model_providers.mock.requires_openai_auth=false", "model_provider=ollama"] do
        assert preflight(home, overrides: [more | chatgpt]).error ==
                 {:forced_login_method, :chatgpt, :api_key}

        assert %{ready?: true} = preflight(home, lane: :app_server, overrides: [more | chatgpt])
      end

      assert preflight(home, lane: :app_server, overrides: chatgpt).error ==
               {:forced_login_method, :chatgpt, :api_key}

      Logins.put!(home, Logins.chatgpt())
      assert preflight(home, overrides: api).error == {:forced_login_method, :api, :chatgpt}
      assert %{ready?: true} = preflight(home, overrides: api, env: key)

      assert preflight(home, overrides: chatgpt, env: key).error ==
               {:forced_login_method, :chatgpt, :api_key}

      workspace = &["forced_chatgpt_workspace_id=#{&1}"]

      # As the CLI reads them: trimmed; an empty value is not a rule.
      for none <- [~s(""), ~s([""]), ~s(" acc-1 "), ~s([" acc-1 ", ""])],
          do: assert(%{ready?: true} = preflight(home, overrides: workspace.(none)))

      assert %{ready?: true} = preflight(home, overrides: workspace.("acc-1"))
      assert %{ready?: true} = preflight(home, overrides: workspace.(~s(["acc-2", "acc-1"])))

      assert preflight(home, overrides: workspace.("acc-2")).error ==
               {:forced_chatgpt_workspace_id, ["acc-2"], "acc-1"}

      assert %{ready?: true} = preflight(home, overrides: workspace.("acc-2"), env: key)
    end

    test "every reason has words", %{home: home} do
      for error <- [
            :no_credentials,
            :keyring_unavailable,
            :encrypted_store,
            {:keyring, :locked, "words"},
            {:invalid_credentials, {:file, home}, "words"},
            {:invalid_credentials, {:keyring, "cli|1"}, "words"},
            {:unreadable, home, "words"},
            {:lock_held, home},
            {:native, "words"},
            {:invalid_access_token, "words"},
            {:missing_env, "MY_KEY"},
            {:unknown_provider, "nope"},
            {:forced_login_method, :api, :chatgpt},
            {:forced_login_method, :chatgpt, :api_key},
            {:forced_chatgpt_workspace_id, ["a"], nil},
            {:forced_chatgpt_workspace_id, ["a"], "b"}
          ] do
        assert Auth.explain(error) =~ ~r/^\S.{4,}/
        assert %Codex.Error{} = Codex.Error.normalize(error)
      end
    end
  end

  # --- Behaviour of the CLI ---

  # {name, content of auth.json, variables, configuration, the header that reaches the model}
  @cases [
    {"a key in the file", @key, %{}, [], "Bearer sk-test-of-the-file"},
    {"a variable", @key, %{"CODEX_API_KEY" => " sk-var "}, [], "Bearer sk-var"},
    {"an empty variable", @key, %{"CODEX_API_KEY" => " "}, [], "Bearer sk-test-of-the-file"},
    {"a variable alone", nil, %{"CODEX_API_KEY" => "sk-var"}, [], "Bearer sk-var"},
    {"a token that is none", @key, %{"CODEX_ACCESS_TOKEN" => "nonsense"}, [], nil},
    {"an empty token", @key, %{"CODEX_ACCESS_TOKEN" => ""}, [], "Bearer sk-test-of-the-file"},
    {"the wrong variable", nil, %{"OPENAI_API_KEY" => "sk-var"}, [], nil},
    {"nothing", nil, %{}, [], nil},
    {"a broken file", "{nope", %{}, [], nil},
    {"a key of the provider", @key, %{"MY_KEY" => "sk-mine"},
     ~w(model_providers.mock.env_key=MY_KEY), "Bearer sk-mine"},
    {"a missing key of the provider", @key, %{}, ~w(model_providers.mock.env_key=MY_KEY),
     :no_request},
    {"a token of the provider", @key, %{}, ~w(model_providers.mock.experimental_bearer_token=tok),
     "Bearer tok"},
    {"a provider that asks for nothing", @key, %{},
     ~w(model_providers.mock.requires_openai_auth=false), nil},
    {"a login in memory", @key, %{}, ~w(cli_auth_credentials_store=ephemeral), nil}
  ]

  for {name, document, env, overrides, header} <- @cases do
    @tag :codex_cli
    @tag example: {document, env, overrides, header}
    test "exec: #{name}", %{example: {document, env, overrides, header}} do
      {model, thread} = thread!(env, overrides)
      Logins.put!(model.home, document)
      {:ok, preflight} = Thread.preflight(thread)
      result = Thread.run(thread, "pay")

      assert paid(model, preflight, result, header)
    end
  end

  for {name, document, env, account} <- [
        {"a key in the file", @key, %{}, "apiKey"},
        {"a variable is not looked at", @key, %{"CODEX_API_KEY" => "sk-var"}, "apiKey"},
        {"a variable alone", nil, %{"CODEX_API_KEY" => "sk-var"}, nil},
        {"a token that is none", @key, %{"CODEX_ACCESS_TOKEN" => "nonsense"}, nil},
        {"nothing", nil, %{}, nil},
        {"a key that is forbidden", @key, %{}, {:forced, "chatgpt"}}
      ] do
    @tag :codex_cli
    @tag example: {document, env, account}
    test "app-server: #{name}", %{tmp_dir: dir, example: {document, env, account}} do
      home = Logins.home!(dir)
      Logins.put!(home, document)

      {overrides, account} =
        case account do
          {:forced, method} -> {["forced_login_method=#{method}"], nil}
          account -> {[], account}
        end

      flags = Enum.flat_map(overrides, &["-c", &1])
      client = AppServerClient.start!(home, dir, flags, env: env)
      {{:ok, answer}, client} = AppServerClient.call(client, "account/read", %{})
      AppServerClient.stop(client)
      assert answer["account"]["type"] == account
      assert answer["requiresOpenaiAuth"]

      found = preflight(home, lane: :app_server, env: env, overrides: overrides)
      assert found.ready? == (account != nil)
      # The forbidden login is neither used nor removed.
      assert File.exists?(Path.join(home, "auth.json")) == (document != nil)
    end
  end

  describe "rules" do
    @describetag :codex_cli

    @violations [
      {"a key where ChatGPT is forced", :key, %{}, ["forced_login_method=chatgpt"],
       {:forced_login_method, :chatgpt, :api_key}},
      {"ChatGPT where a key is forced", :chatgpt, %{}, ["forced_login_method=api"],
       {:forced_login_method, :api, :chatgpt}},
      {"a variable beside a good login", :chatgpt, %{"CODEX_API_KEY" => "sk-var"},
       ["forced_login_method=chatgpt"], {:forced_login_method, :chatgpt, :api_key}},
      {"another workspace", :chatgpt, %{}, ["forced_chatgpt_workspace_id=acc-2"],
       {:forced_chatgpt_workspace_id, ["acc-2"], "acc-1"}},
      {"a provider that asks for nothing", :key, %{},
       ["forced_login_method=chatgpt", "model_providers.mock.requires_openai_auth=false"],
       {:forced_login_method, :chatgpt, :api_key}}
    ]

    for {name, login, env, overrides, why} <- @violations do
      @tag example: {login, env, overrides, why}
      test "#{name}: an error instead of a login that is gone", context do
        {login, env, overrides, why} = context.example
        {model, thread} = thread!(env, overrides)
        document = if login == :key, do: @key, else: Logins.chatgpt()
        Logins.put!(model.home, document)

        assert Thread.run(thread, "pay") == {:error, why}
        assert Thread.run_streamed(thread, "pay") == {:error, why}
        assert {:ok, %{ready?: false, error: ^why}} = Thread.preflight(thread)
        assert File.read!(Path.join(model.home, "auth.json")) == document
        assert Test.requests(model) == []

        # The CLI does the same.
        assert {1, said} = bare(model, env, overrides)
        assert said =~ "Logging out."
        refute File.exists?(Path.join(model.home, "auth.json"))
      end
    end

    test "a rule in the file of a trusted project counts" do
      {model, thread} = thread!(%{}, [])
      Logins.put!(model.home, @key)
      project = Path.join(model.workspace, ".codex")
      File.mkdir_p!(project)
      File.write!(Path.join(project, "config.toml"), "forced_login_method = \"chatgpt\"\n")
      assert {:ok, _} = Thread.run(thread, "pay")

      trust = "[projects.#{JSON.encode!(model.workspace)}]\ntrust_level = \"trusted\"\n"
      File.write!(Path.join(model.home, "config.toml"), trust, [:append])
      assert Thread.run(thread, "pay") == {:error, {:forced_login_method, :chatgpt, :api_key}}
      assert {1, _} = bare(model, %{}, [])
      refute File.exists?(Path.join(model.home, "auth.json"))
    end

    test "allowed credentials run; a broken configuration is left to the CLI" do
      {model, thread} = thread!(%{"CODEX_API_KEY" => "sk-var"}, ["forced_login_method=api"])

      Logins.put!(model.home, Logins.chatgpt())
      assert {:ok, _} = Thread.run(thread, "pay")

      # With all that keeps the CLI on loopback.
      {model, thread} = thread!(%{}, [])
      config = Path.join(model.home, "config.toml")
      File.write!(config, "forced_login_method = 3\n" <> File.read!(config))
      assert {:error, error} = Thread.run(thread, "pay")
      assert %Codex.Error{kind: :config} = Codex.Error.normalize(error)
      assert Test.requests(model) == []
    end
  end

  test "a thread's own options count", %{tmp_dir: dir} do
    home = Logins.home!(dir)
    Logins.put!(home, @key)
    global = [codex_home: home, codex_path: "/bin/true"]

    {:ok, thread} =
      Codex.start_thread(global,
        config: %{"model_providers.mock.env_key" => "MY_KEY"},
        working_directory: dir
      )

    assert {:ok, %{error: {:missing_env, "MY_KEY"}}} = Thread.preflight(thread)

    {:ok, thread} =
      Codex.start_thread([api_key: "sk-given-0123456789"] ++ global, working_directory: dir)

    assert {:ok, %{ready?: true, key_hint: "sk-given***56789"}} = Thread.preflight(thread)
    {:ok, options} = Codex.Options.new(global)
    assert {:ok, %{source: {:file, _}}} = Auth.preflight(options)
    # A variable of `env` wins over `api_key`, in a run as here.
    both = [api_key: "sk-option-0123456789", env: %{"CODEX_API_KEY" => "sk-variable-012345"}]
    {:ok, options} = Codex.Options.new(both ++ global)
    {:ok, thread} = Codex.start_thread(options, working_directory: dir)
    assert {:ok, %{key_hint: hint}} = Auth.preflight(options)
    assert {:ok, %{key_hint: ^hint}} = Thread.preflight(thread)
    assert hint == "sk-varia***12345"
    {:ok, thread} = Codex.start_thread(global, working_directory: dir, oss: true)
    assert {:ok, %{provider: "ollama", method: :none}} = Thread.preflight(thread)
    {:ok, thread} = Codex.start_thread(global, working_directory: Path.join(dir, "none"))
    assert {:error, {:invalid_working_directory, _}} = Thread.preflight(thread)
    assert_raise Codex.OptionError, ~r/:lane/, fn -> Auth.preflight(lane: :both) end
  end

  defp paid(model, preflight, result, :no_request) do
    assert posts(model) == []
    assert {:error, _} = result
    assert {preflight.ready?, preflight.error} == {false, {:missing_env, "MY_KEY"}}
  end

  defp paid(model, preflight, _result, header) do
    assert [%{headers: headers}] = posts(model)
    sent = headers["authorization"]
    # A provider that asks for nothing gets an empty token.
    assert if(sent in ["Bearer", "Bearer "], do: nil, else: sent) == header
    none? = preflight.method == :none
    assert preflight.ready? == (is_binary(header) or none?)
    assert is_nil(preflight.error) == preflight.ready?

    if preflight.method == :api_key do
      assert "Bearer " <> key = header
      assert preflight.key_hint == Credentials.mask(key)
    end

    true
  end

  defp thread!(env, overrides) do
    config = "model_providers.mock.requires_openai_auth = true\nfeatures.apps = false"
    model = Test.start!([], default: Steps.message("paid"), config: config)
    config = Path.join(model.home, "config.toml")
    File.write!(config, "chatgpt_base_url = \"#{model.url}\"\n" <> File.read!(config))
    keys = %{"CODEX_API_KEY" => nil, "OPENAI_API_KEY" => nil, "CODEX_ACCESS_TOKEN" => nil}
    env = model.env |> Map.merge(keys) |> Map.merge(env)
    global = Keyword.put(Test.options(model), :env, env)

    {:ok, thread} =
      Codex.start_thread(global, Test.thread_options(model) ++ [config_overrides: overrides])

    {model, thread}
  end

  # The CLI by itself: exit status and stderr.
  defp bare(model, env, overrides) do
    {:ok, codex} = Test.codex_path()
    flags = Enum.flat_map(overrides, &["-c", &1])
    argv = [codex, "exec", "--skip-git-repo-check"] ++ flags ++ ["-"]
    env = Map.merge(Map.put(model.env, "CODEX_HOME", model.home), env)
    {:ok, sub} = Subprocess.open(argv, env: env, cwd: model.workspace)
    {:ok, sub} = Subprocess.write(sub, "pay")
    {:ok, sub} = Subprocess.close_stdin(sub)
    await_exit(sub)
  end

  defp await_exit(sub) do
    {:ok, sub, outputs} = Subprocess.next(sub, 20_000)

    case List.keyfind(outputs, :exit, 0) do
      {:exit, exit} -> {exit.status, Subprocess.stderr(sub)}
      nil -> await_exit(sub)
    end
  end

  defp posts(model), do: for(%{method: "POST"} = request <- Test.requests(model), do: request)
end
