defmodule Codex.Models.CLITest do
  # Models of the real CLI. async: false, because the guide uses the default home.
  use ExUnit.Case, async: false

  import Codex.ModelsCase
  import ExUnit.CaptureIO
  alias Codex.{AppServerClient, Error, Models}
  alias Codex.Models.Catalog

  @moduletag :codex_cli
  @moduletag :tmp_dir

  defp models(catalog), do: Enum.map(catalog.presets, & &1.model)

  defp common(presets), do: Enum.map(presets, &Map.drop(&1, [:extra, :supported_in_api]))

  @tag :cli_pin
  test "the models of the configuration, and the version of the CLI" do
    test = Codex.Test.start!([], models: ["one", "two"])
    assert {:ok, catalog} = Models.fetch(Codex.Test.options(test))
    assert %{source: :cli, skipped: 0} = catalog
    assert catalog.cli_version == Codex.FoundCLI.version!()
    assert models(catalog) == ["one", "two"]
    assert Catalog.default(catalog, :api).model == "one"
    assert Codex.Test.requests(test) == []

    # The built-in catalog is the recorded one.
    assert {:ok, bundled} = Models.fetch([bundled: true] ++ Codex.Test.options(test))
    {:ok, recorded} = Models.fetch(source: {:file, path("bundled_models.json")})
    assert common(bundled.presets) == common(recorded.presets)
    assert Codex.Test.requests(test) == []
  end

  test "a run leaves only files of the CLI in the home" do
    test = Codex.Test.start!()
    before = File.ls!(test.home)
    assert {:ok, _} = Models.fetch(Codex.Test.options(test))
    # The CLI may keep links to itself there.
    assert (File.ls!(test.home) -- before) -- ["tmp"] == []
  end

  test "the same models, order and default as the app-server's list" do
    entries = [
      {"A", %{"priority" => 5}},
      {"B", %{"priority" => 1, "visibility" => "hide"}},
      {"C", %{"priority" => 3, "supported_in_api" => false}},
      {"D", %{"priority" => 4, "visibility" => "none"}},
      {"E", %{"priority" => 3}}
    ]

    test = Codex.Test.start!([], models: ["codex-test"])
    file = Path.join(test.home, "models.json")
    {:ok, %{"models" => [entry]}} = file |> File.read!() |> Codex.JSON.decode()
    entries = for {slug, more} <- entries, do: entry |> Map.put("slug", slug) |> Map.merge(more)
    File.write!(file, Codex.JSON.encode!(%{models: entries}))

    assert {:ok, catalog} = Models.fetch(Codex.Test.options(test))
    assert models(catalog) == ~w(B C E D A)

    client = AppServerClient.start!(test.home, test.workspace)
    {{:ok, shown}, client} = AppServerClient.call(client, "model/list", %{})
    {{:ok, all}, client} = AppServerClient.call(client, "model/list", %{includeHidden: true})
    AppServerClient.stop(client)

    # Without a login, the CLI omits models that the API does not have.
    {:ok, shown} = Models.from_model_list(shown)
    assert common(shown.presets) == common(Catalog.visible(catalog, :api))
    assert Catalog.default(shown, :api).model == Catalog.default(catalog, :api).model
    {:ok, all} = Models.from_model_list(all)
    assert models(all) == models(catalog) -- ["C"]
  end

  test "a login of its provider's: the CLI asks it, and its cache file is read" do
    entry = hd(json("models_cache.json")["models"])
    list = Codex.JSON.encode!(%{models: [entry]})
    test = Codex.Test.start!()
    # `Codex.Test` lists no models to the CLI, so another server does.
    {port, server} = serve(list)

    config = Path.join(test.home, "config.toml")
    text = File.read!(config)
    text = String.replace(text, ~r/^model_catalog_json = .*$/m, "")
    text = String.replace(text, test.url, "http://127.0.0.1:#{port}/v1")
    File.write!(config, text)
    File.write!(Path.join(test.home, "auth.json"), Codex.JSON.encode!(login()))

    assert {:ok, catalog} = Models.fetch(Codex.Test.options(test))
    assert {catalog.source, models(catalog)} == {:cli, ["remote-only"]}
    assert_receive {:asked, "GET /v1/models?client_version=" <> _}

    opts = [codex_home: test.home]
    assert {:ok, cached} = Models.fetch([source: :cache] ++ opts)
    assert {cached.source, cached.cli_version} == {:cache, Codex.FoundCLI.version!()}
    assert cached.presets == catalog.presets

    # Without the CLI, the cache is the only source.
    none = [codex_path: Path.join(test.home, "none")]
    assert {:ok, %{source: :cache}} = Models.fetch(none ++ opts)
    Process.exit(server, :kill)
  end

  # A ChatGPT login in the CLI's format; its signature is not checked.
  defp login do
    part = &Base.url_encode64(Codex.JSON.encode!(&1), padding: false)
    account = %{chatgpt_plan_type: "plus", chatgpt_account_id: "acc-1", chatgpt_user_id: "u-1"}

    claims = %{
      "email" => "a@example.com",
      "exp" => 4_102_444_800,
      "https://api.openai.com/auth" => account
    }

    token = "#{part.(%{alg: "none"})}.#{part.(claims)}.c2ln"
    tokens = %{id_token: token, access_token: token, refresh_token: "r", account_id: "acc-1"}

    %{
      auth_mode: "chatgpt",
      OPENAI_API_KEY: nil,
      tokens: tokens,
      last_refresh: DateTime.to_iso8601(DateTime.utc_now())
    }
  end

  defp serve(json) do
    test = self()

    {:ok, socket} =
      :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, active: false, packet: :line])

    {:ok, port} = :inet.port(socket)
    server = spawn_link(fn -> accept(socket, json, test) end)
    :ok = :gen_tcp.controlling_process(socket, server)
    Process.unlink(server)
    on_exit(fn -> Process.exit(server, :kill) end)
    {port, server}
  end

  defp accept(listening, json, test) do
    {:ok, socket} = :gen_tcp.accept(listening)
    {:ok, line} = :gen_tcp.recv(socket, 0, 5_000)
    headers(socket)
    send(test, {:asked, line})

    :gen_tcp.send(socket, [
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n",
      "content-length: #{byte_size(json)}\r\n\r\n",
      json
    ])

    :gen_tcp.close(socket)
    accept(listening, json, test)
  end

  defp headers(socket) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, "\r\n"} -> :ok
      {:ok, _header} -> headers(socket)
    end
  end

  test "the catalog of a trusted project counts if the CLI runs in it", %{tmp_dir: dir} do
    test = Codex.Test.start!()
    project = Path.join(dir, "project")
    File.mkdir_p!(Path.join(project, ".git"))
    File.mkdir_p!(Path.join(project, ".codex"))
    entry = %{hd(json("models_cache.json")["models"]) | "slug" => "of-the-project"}
    catalog = Path.join(dir, "catalog.json")
    File.write!(catalog, Codex.JSON.encode!(%{models: [entry]}))

    File.write!(
      Path.join(project, ".codex/config.toml"),
      "model_catalog_json = #{inspect(catalog)}\n"
    )

    File.write!(
      Path.join(test.home, "config.toml"),
      "\n[projects.#{inspect(project)}]\ntrust_level = \"trusted\"\n",
      [:append]
    )

    assert {:ok, catalog} = Models.fetch([cwd: project] ++ Codex.Test.options(test))
    assert models(catalog) == ["of-the-project"]
    assert {:ok, catalog} = Models.fetch([cwd: dir] ++ Codex.Test.options(test))
    assert models(catalog) == ["codex-test"]
  end

  test "a refusal of the CLI is an error in its words" do
    test = Codex.Test.start!()
    config = Path.join(test.home, "config.toml")
    text = File.read!(config)

    for {toml, words} <- [
          {"model = 3", "invalid type: integer `3`"},
          {"model_catalog_json = \"#{test.home}/none.json\"", "No such file"},
          {"model = [", "in array"}
        ] do
      key = toml |> String.split(" ") |> hd()
      File.write!(config, String.replace(text, ~r/^#{key} = .*$/m, toml))

      assert {:error, %Error{kind: :crashed, details: %{exit_status: 1}} = error} =
               Models.fetch(Codex.Test.options(test))

      assert error.message =~ words
    end
  end

  test "the code of the guide runs" do
    test = Codex.Test.start!()
    options = Codex.Test.options(test)
    names = ~w(CODEX_HOME CODEX_PATH HOME)
    before = Map.take(System.get_env(), names)

    on_exit(fn ->
      for name <- names, do: System.delete_env(name)
      System.put_env(before)
    end)

    System.put_env("CODEX_HOME", test.home)
    System.put_env("CODEX_PATH", options[:codex_path])

    guide = File.read!(Path.expand("../../../guides/models.md", __DIR__))
    code = for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, guide), do: code
    assert [_, _] = code

    output = capture_io(fn -> Code.eval_string(Enum.join(code, "\n")) end)
    assert output =~ "codex-test  low medium high xhigh\n"
    assert output =~ "from cli, CLI #{Codex.FoundCLI.version!()}"
  end
end
