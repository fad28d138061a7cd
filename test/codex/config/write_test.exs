defmodule Codex.Config.WriteTest do
  use ExUnit.Case, async: true

  import Bitwise

  alias Codex.{AppServerClient, Config, ConfigStacks}
  alias Codex.Config.Error

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    %{toml: Path.join(dir, "config.toml"), opts: [codex_home: dir, env: %{"HOME" => dir}]}
  end

  defp read(%{opts: opts}) do
    {:ok, config} = Config.load([cwd: false, system_dir: "/nowhere"] ++ opts)
    config
  end

  defp version(context), do: Enum.find(Config.layers(read(context)), &(&1.name == :user)).version

  test "put, delete and batch keep everything else", %{toml: file, opts: opts} = context do
    File.write!(file, "# mine\nmodel = \"a\" # why\n[history]\nmax_bytes = 1\n")
    assert {:ok, %{file: ^file, version: version}} = Config.put("model", "b", opts)
    assert version == version(context)
    assert File.read!(file) == "# mine\nmodel = \"b\" # why\n[history]\nmax_bytes = 1\n"

    edits = [
      {:put, "history", %{persistence: "none"}, :upsert},
      {:put, ~S(projects."/a.b".trust_level), :trusted},
      {:delete, "model"},
      {:delete, "not.there"}
    ]

    assert {:ok, _} = Config.batch(edits, opts)

    assert Config.effective(read(context)) == %{
             "history" => %{"max_bytes" => 1, "persistence" => "none"},
             "projects" => %{"/a.b" => %{"trust_level" => "trusted"}}
           }

    assert {:ok, _} = Config.put("history", %{"max_bytes" => 2}, opts)
    assert Config.get(read(context), "history") == %{"max_bytes" => 2}
  end

  test "nothing is written when anything is wrong", %{toml: file, opts: opts} do
    File.write!(file, "model = \"a\"\n")

    for {reason, edit} <- [
          bad_value: {:put, "x", nil},
          bad_value: {:put, "x", [1, nil]},
          bad_value: {:put, "x", {1}},
          bad_value: {:put, "x", 9_223_372_036_854_775_808},
          type: {:put, "model", 3},
          value: {:put, "history.persistence", "some"}
        ] do
      assert {:error, %Error{reason: ^reason}} = Config.batch([{:put, "y", 1}, edit], opts)
      assert File.read!(file) == "model = \"a\"\n"
    end

    assert_raise ArgumentError, fn -> Config.put("a..b", 1, opts) end
    assert_raise ArgumentError, fn -> Config.batch([{:set, "a", 1}], opts) end
    assert {:error, %Error{reason: :bad_profile}} = Config.put("a", 1, [profile: "../x"] ++ opts)

    File.write!(file, "model = \n")
    assert {:error, %Error{reason: :syntax, line: 1}} = Config.put("x", 1, opts)
  end

  test "a file that moved is a conflict with both versions",
       %{toml: file, opts: opts} = context do
    old = version(context)
    assert {:ok, %{version: new}} = Config.put("model", "a", [expected_version: old] ++ opts)
    assert {:error, error} = Config.put("model", "b", [expected_version: old] ++ opts)
    assert %Error{reason: :conflict, expected: ^old, found: ^new, file: ^file} = error
    assert {:ok, _} = Config.put("model", "b", [expected_version: new] ++ opts)
  end

  test "mode and links stay; a new file is for its owner alone", %{
    tmp_dir: dir,
    toml: file,
    opts: opts
  } do
    assert {:ok, _} = Config.put("model", "a", opts)
    assert (File.stat!(file).mode &&& 0o777) == 0o600

    File.chmod!(file, 0o640)
    target = Path.join(dir, "elsewhere.toml")
    File.rename!(file, target)
    File.ln_s!("elsewhere.toml", file)
    assert {:ok, %{file: ^target}} = Config.put("model", "b", opts)
    assert File.read_link!(file) == "elsewhere.toml"
    assert (File.stat!(target).mode &&& 0o777) == 0o640
    assert File.read!(target) == "model = \"b\"\n"

    locks = [".config.toml.lock", ".elsewhere.toml.lock"]
    assert Enum.sort(File.ls!(dir)) == locks ++ ["config.toml", "elsewhere.toml"]
  end

  test "writers at once lose no edit", %{opts: opts} = context do
    1..40
    |> Task.async_stream(&Config.put("desktop.k#{&1}", &1, [timeout: 20_000] ++ opts),
      max_concurrency: 8,
      timeout: 30_000
    )
    |> Enum.each(fn {:ok, result} -> assert {:ok, _} = result end)

    assert Config.get(read(context), "desktop") == Map.new(1..40, &{"k#{&1}", &1})
  end

  test "a profile's file", %{tmp_dir: dir, opts: opts} do
    assert {:ok, %{file: file}} = Config.put("model", "a", [profile: "p"] ++ opts)
    assert file == Path.join(dir, "p.config.toml")
  end

  @tag :codex_cli
  test "our writes and the app-server's on one file", %{} do
    # The CLI warns about homes below the system's temporary directory only; the build directory is
    # fine.
    dir =
      Path.join(
        Mix.Project.build_path(),
        "codex_test/write-#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)

    File.write!(Path.join(dir, "config.toml"), """
    # settings that keep the CLI on this machine
    analytics.enabled = false
    features.plugins = false
    model_provider = "mock"
    [model_providers.mock] # ours
    name = "mock"
    base_url = "http://127.0.0.1:9/v1"
    """)

    ConfigStacks.seed(1)
    opts = [codex_home: dir, env: %{"HOME" => dir}]
    client = AppServerClient.start!(dir, dir)

    client =
      Enum.reduce(1..60, client, fn index, client ->
        old = version(%{opts: opts})

        client =
          if ConfigStacks.chance(50),
            do: ours(index, old, client, opts),
            else: theirs(index, old, client, opts)

        {theirs, client} = user(client)
        ours = Enum.find(Config.layers(read(%{opts: opts})), &(&1.name == :user)).config
        assert {index, ours} == {index, theirs}
        client
      end)

    AppServerClient.stop(client)
    text = File.read!(Path.join(dir, "config.toml"))
    assert text =~ "# settings that keep the CLI on this machine\nanalytics.enabled = false\n"
    assert text =~ "[model_providers.mock] # ours\n"
  end

  # One process writes, and the other gets a conflict.
  defp ours(index, old, client, opts) do
    {path, value} = change(index)
    strategy = ConfigStacks.one_of([:replace, :upsert])
    edit = if value == nil, do: {:delete, path}, else: {:put, path, value, strategy}
    assert {:ok, %{version: new}} = Config.batch([edit], [expected_version: old] ++ opts)

    if new != old do
      {result, client} = write(client, path, value, strategy, old)

      assert {:error, %{"data" => %{"config_write_error_code" => "configVersionConflict"}}} =
               result

      client
    else
      client
    end
  end

  defp theirs(index, old, client, opts) do
    {path, value} = change(index)
    strategy = ConfigStacks.one_of([:replace, :upsert])
    {result, client} = write(client, path, value, strategy, old)
    assert {:ok, %{"status" => "ok", "version" => new}} = result
    assert new == version(%{opts: opts})

    if new != old,
      do:
        assert(
          {:error, %Error{reason: :conflict, found: ^new}} =
            Config.put(path, 1, [expected_version: old] ++ opts)
        )

    client
  end

  defp write(client, path, value, strategy, expected) do
    AppServerClient.call(client, "config/value/write", %{
      keyPath: Config.Key.format(path),
      value: value,
      mergeStrategy: strategy,
      expectedVersion: expected
    })
  end

  defp change(index) do
    ConfigStacks.one_of([
      {["model"], "m#{index}"},
      {["model"], nil},
      {["history"], %{"max_bytes" => index}},
      {["history", "persistence"], ConfigStacks.one_of(["none", "save-all"])},
      {["history"], nil},
      {["tui", "theme"], "t#{index}"},
      {["tui"], %{"animations" => true}},
      {["project_doc_fallback_filenames"], ["a#{index}", "b"]},
      {["projects", "/a.b/#{rem(index, 3)}", "trust_level"], "trusted"},
      {["mcp_servers", "s#{rem(index, 3)}"],
       %{"command" => "c#{index}", "env" => %{"K" => "v"}, "args" => []}},
      {["mcp_servers", "s#{rem(index, 3)}"], nil},
      {["not_a_key", "x y"], %{"z" => [1, 2.5, %{"q" => true}]}}
    ])
  end

  defp user(client) do
    {{:ok, %{"layers" => layers}}, client} =
      AppServerClient.call(client, "config/read", %{includeLayers: true})

    {Enum.find(layers, &(&1["name"]["type"] == "user"))["config"], client}
  end
end
