defmodule Codex.ConfigTest do
  use ExUnit.Case, async: true

  alias Codex.{Config, JSON}
  alias Codex.Config.{Error, LayerStack, Schema}

  @moduletag :tmp_dir
  @fixtures Path.expand("../fixtures/config", __DIR__)

  setup %{tmp_dir: dir} do
    for name <- ~w(home system work/sub), do: File.mkdir_p!(Path.join(dir, name))

    %{
      home: Path.join(dir, "home"),
      system: Path.join(dir, "system"),
      work: Path.join(dir, "work")
    }
  end

  defp write(dir, name, text) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
    path
  end

  defp load(context, opts \\ []) do
    opts = [codex_home: context.home, system_dir: context.system, cwd: context.work] ++ opts
    Config.load(Keyword.new(opts))
  end

  defp load!(context, opts \\ []) do
    {:ok, config} = load(context, opts)
    config
  end

  defp fixture(name) do
    {:ok, json} = @fixtures |> Path.join(name) |> File.read!() |> JSON.decode()
    json
  end

  defp repository(context, trust \\ "trusted") do
    write(context.work, ".git/HEAD", "ref: refs/heads/main\n")

    write(
      context.home,
      "config.toml",
      "[projects.#{inspect(context.work)}]\ntrust_level = \"#{trust}\"\n"
    )
  end

  test "from the highest to the lowest layer", context do
    repository(context)
    write(context.system, "managed_config.toml", "model = \"managed\"\n")
    write(context.system, "config.toml", "model = \"system\"\nreview_model = \"system\"\n")
    write(context.home, "p.config.toml", "model_verbosity = \"low\"\nmodel = \"profile\"\n")
    write(context.work, ".codex/config.toml", "model = \"root\"\nservice_tier = \"root\"\n")
    write(context.work, "sub/.codex/config.toml", "model = \"sub\"\nservice_tier = \"sub\"\n")

    config =
      load!(%{context | work: Path.join(context.work, "sub")},
        profile: "p",
        overrides: ["model=flag"]
      )

    assert [:managed, :session_flags, :project, :project, :profile, :user, :system] =
             Enum.map(Config.layers(config), & &1.name)

    assert Config.get(config, "model") == "managed"
    assert Config.get(config, "service_tier") == "sub"
    assert %{layer: :profile, profile: "p", line: 1} = Config.origin(config, "model_verbosity")
    assert %{layer: :system, line: 2, column: 1} = Config.origin(config, ["review_model"])
    assert Config.origin(config, "nothing") == nil
    assert Config.get(config, "nothing", :default) == :default

    assert ["managed", "flag", "sub", "root", "profile", "system"] =
             config |> Config.history("model") |> Enum.map(& &1.value)

    assert Config.effective(config)["projects"] == %{
             context.work => %{"trust_level" => "trusted"}
           }
  end

  test "a project without trust is there and does not count", context do
    repository(context, "untrusted")
    write(context.work, ".codex/config.toml", "model = \"root\"\n")
    config = load!(context)
    assert [%{name: :project, disabled_reason: why} | _] = Config.layers(config)
    assert why =~ "is marked as untrusted"
    assert Config.get(config, "model") == nil
    assert Config.explain(config, "model") =~ "not counted: \"root\" of project"
  end

  test "a broken file is an error with its place, or a warning if it does not count", context do
    repository(context)
    file = write(context.work, ".codex/config.toml", "a = 1\nmodel = [\"x\n")

    assert {:error, %Error{reason: :syntax, file: ^file, line: 2, source_line: "model = [\"x"}} =
             load(context)

    repository(context, "untrusted")
    assert [%Error{reason: :syntax, file: ^file, line: 2}] = Config.warnings(load!(context))

    File.rm!(file)
    File.mkdir!(file)

    repository(context)

    assert {:error, %Error{reason: :unreadable, file: ^file, found: "a directory"}} =
             load(context)
  end

  test "a wrong type names its file, unless a higher layer sets the key anew", context do
    file = write(context.home, "config.toml", "\n[tui]\nanimations = \"x\"\n")
    assert {:error, error} = load(context)

    assert Exception.message(error) ==
             "#{file}:3:14: invalid type: string \"x\", expected a boolean\n  3 | animations = \"x\""

    assert %Error{reason: :type, path: ["tui", "animations"], expected: "a boolean"} = error

    config = load!(context, overrides: ["tui.animations=true"])
    assert [%Error{reason: :type, line: 3}] = Config.warnings(config)
  end

  test "unknown keys are warnings, also if the CLI is silent, and errors if it is strict",
       context do
    file =
      write(context.home, "config.toml", "[agents.x]\nnicknames = []\n[history]\nmax_byte = 1\n")

    config = load!(context)

    assert [
             %{path: ["agents", "x", "nicknames"]},
             %{path: ["history", "max_byte"], nearest: "max_bytes"}
           ] = Config.warnings(config)

    assert Config.explain(config) =~ "#{file}:4:1: unknown configuration field `history.max_byte`"

    assert {:error, %Error{reason: :unknown_key, file: ^file, line: 4}} =
             load(context, strict: true)
  end

  describe "hostile files:" do
    @hostile [
      "one line with a long array": "x = [" <> String.duplicate("1,", 200_000) <> "]\n",
      "empty inline tables": "x = [" <> String.duplicate("{},", 150_000) <> "]\n",
      "dotted keys": Enum.map_join(1..40_000, &"a.b.c#{&1}.d = 1\n"),
      tables: Enum.map_join(1..60_000, &"[a.t#{&1}]\n"),
      "arrays of tables": String.duplicate("[[t]]\n", 60_000),
      "lines without a value": String.duplicate("a\n", 1_500_000),
      "empty lines": String.duplicate("\n", 2_500_000)
    ]

    for {name, text} <- @hostile do
      test "#{name} are an error that names the limit", context do
        path = write(context.home, "config.toml", unquote(text))
        assert {:error, %Error{reason: :too_large, file: ^path} = error} = load(context)
        assert Exception.message(error) =~ "more than 100000 keys and values (max_nodes)"

        # Nor are they written.
        assert {:error, %Error{reason: :too_large}} =
                 Config.put("model", "m", codex_home: context.home)
      end
    end

    test "the limit is an option", context do
      write(context.home, "config.toml", "model = \"m\"\n[tui]\ntheme = \"x\"\n")
      assert {:ok, _} = load(context, max_nodes: 10)
      assert {:error, %Error{reason: :too_large, expected: "2"}} = load(context, max_nodes: 2)
      assert_raise Codex.OptionError, ~r/:max_nodes/, fn -> load(context, max_nodes: 0) end
    end

    test "a string is not a key, at any length", context do
      text = String.duplicate("a = 1, b.c = [2]\n", 200_000)
      write(context.home, "config.toml", "developer_instructions = '''\n#{text}'''\n")
      assert Config.get(load!(context), "developer_instructions") == text
    end

    test "very many unknown keys are warnings, and the first have a nearest one", context do
      for text <- [
            Enum.map_join(1..30_000, &"modle_#{&1} = 1\n"),
            "tui = {" <> Enum.map_join(1..30_000, ", ", &"theme_#{&1} = 1") <> "}\n"
          ] do
        write(context.home, "config.toml", text)
        config = load!(context)
        warnings = Config.warnings(config)
        assert length(warnings) == 30_000
        {first, others} = Enum.split(warnings, 200)
        assert Enum.all?(first, &is_binary(&1.nearest))
        assert Enum.all?(others, &(&1.nearest == nil))
        # A long line is not repeated in each of them.
        assert Enum.all?(warnings, &(byte_size(&1.source_line) <= 403))
        assert byte_size(Config.explain(config)) < 30_000_000
      end
    end

    test "a long unknown key is a warning", context do
      write(context.home, "config.toml", String.duplicate("model", 100_000) <> " = 1\n")
      assert [%Error{reason: :unknown_key, nearest: nil}] = Config.warnings(load!(context))
    end

    test "they take little memory", context do
      # 10 MB on one line, and the part of it that the parser keeps.
      for text <- [
            ~S|"x = [" <> String.duplicate("1,", 5_000_000) <> "]"|,
            ~S|String.duplicate("\n", 10_000_000)|
          ] do
        script = """
        peak = fn ->
          [_, kb] = Regex.run(~r/VmHWM:\\s+(\\d+)/, File.read!("/proc/self/status"))
          String.to_integer(kb)
        end

        home = #{inspect(context.home)}
        File.write!(Path.join(home, "config.toml"), #{text})
        options = [codex_home: home, cwd: false, system_dir: home]
        _ = Codex.Config.Schema.ref()
        _ = File.write("/proc/self/clear_refs", "5")
        before = peak.()
        {:error, %{reason: :too_large}} = Codex.Config.load(options)
        IO.puts(div(peak.() - before, 1024))
        """

        assert {out, 0} = Codex.OtherVM.run(script)
        assert out |> String.trim() |> String.to_integer() < 150
      end
    end
  end

  test "keys that a project may not set", context do
    repository(context)
    write(context.work, ".codex/config.toml", "notify = [\"x\"]\n")
    config = load!(context)
    assert [%{dropped: ["notify"], config: %{}} | _] = Config.layers(config)
    assert [%Error{reason: :project_key, path: ["notify"]}] = Config.warnings(config)
  end

  test "requirements are shown; a broken file of them is an error", context do
    write(context.system, "requirements.toml", "allowed_sandbox_modes = [\"read-only\"]\n")
    assert Config.requirements(load!(context)) == %{"allowed_sandbox_modes" => ["read-only"]}
    write(context.system, "requirements.toml", "[")
    assert {:error, %Error{reason: :syntax}} = load(context)
  end

  test "the name of a profile is not a path; overrides have a key and a value", context do
    assert {:error, %Error{reason: :bad_profile}} = load(context, profile: "../x")
    assert {:error, %Error{reason: :bad_override, found: "x"}} = load(context, overrides: ["x"])
    assert_raise Codex.OptionError, fn -> load(context, overrides: [1]) end
    assert_raise Codex.OptionError, fn -> load(context, overides: []) end
  end

  test "overrides are read as the CLI reads them", context do
    cases = fixture("c_override_parsing.json")

    for %{"config" => expected} = given <- cases["single"] ++ cases["several"] do
      overrides = given["args"] || [given["arg"]]
      {:ok, tree} = Codex.Native.config_overrides(overrides)
      assert {overrides, Codex.Native.config_term(tree)} == {overrides, expected}
    end

    for %{"arg" => override, "stderr" => words} <- cases["errors"],
        override != "approval_policy=untrusted" do
      assert {:error, error} = load(context, overrides: [override])
      assert words =~ error.message
    end

    assert {:error,
            %{reason: :refused, message: "approval_policy = \"untrusted\" is no longer" <> _}} =
             load(context, overrides: ["approval_policy=untrusted"])
  end

  test "versions are those of the CLI", context do
    for %{"config" => config, "version" => version} <-
          fixture("version_examples.json")["examples"] do
      overrides = for {key, value} <- config, do: key <> "=" <> Codex.ConfigStacks.inline(value)
      {:ok, tree} = Codex.Native.config_overrides(overrides)

      assert {_, _, ^version, _, _} = Codex.Native.config_prepare(Schema.ref(), tree, "/", "/")
    end

    assert %{version: "sha256:44136fa3" <> _} = List.last(Config.layers(load!(context)))
  end

  test "nothing secret is shown by inspect", context do
    write(
      context.home,
      "config.toml",
      "[mcp_servers.x]\nurl = \"u\"\nhttp_headers.a = \"hush\"\n"
    )

    config = load!(context)
    refute inspect({config, Config.layers(config)}) =~ "hush"
  end

  test "layer stacks", context do
    repository(context)
    write(context.work, ".codex/config.toml", "features.remote_models = false\n")
    write(context.work, "sub/.codex/config.toml", "features.remote_models = true\n")
    cwd = Path.join(context.work, "sub")
    assert {:ok, layers} = LayerStack.load(context.home, cwd)

    assert [:user, :project, :project] =
             for(%{source: source} <- layers, source != :system, do: source)

    assert %{"features" => %{"remote_models" => true}} = LayerStack.effective_config(layers)
    assert LayerStack.remote_models_enabled?(context.home, cwd)
    refute LayerStack.remote_models_enabled?(context.home, context.work)
    refute LayerStack.remote_models_enabled?(Path.join(context.home, "none"), cwd)
  end

  test "the system's configuration may have any name", context do
    file = write(context.tmp_dir, "mine.toml", "model = \"of the system\"\n")
    write(context.tmp_dir, "config.toml", "model = \"another file\"\n")
    assert load!(context, system_config: file) |> Config.get("model") == "of the system"
  end
end

defmodule Codex.Config.SystemPathTest do
  # The application environment is that of the whole VM.
  use ExUnit.Case, async: false

  alias Codex.Config.LayerStack

  @moduletag :tmp_dir

  test "system_config_path names a file", %{tmp_dir: dir} do
    file = Path.join(dir, "mine.toml")
    File.write!(file, "features.remote_models = true\n")
    File.write!(Path.join(dir, "config.toml"), "features.remote_models = false\n")
    Application.put_env(:codex_sdk, :system_config_path, file)
    on_exit(fn -> Application.delete_env(:codex_sdk, :system_config_path) end)

    assert {:ok, [%{source: :system, path: ^file, config: config} | _]} =
             LayerStack.load(dir, dir)

    assert config == %{"features" => %{"remote_models" => true}}
  end
end
