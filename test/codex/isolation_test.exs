defmodule Codex.IsolationTest do
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  import Codex.Stub, only: [eventually: 1]
  alias Codex.Home.Isolated
  alias Codex.{Items, Thread}

  @moduletag :tmp_dir

  test "an isolated home has the given configuration, and goes with its owner", %{tmp_dir: dir} do
    test = self()

    owner =
      spawn(fn ->
        send(
          test,
          Isolated.create(dir: dir, config: %{"model" => "m", "a.b" => 1, a: %{"c.d" => [true]}})
        )

        Process.sleep(:infinity)
      end)

    assert_receive {:ok, home}, 5_000
    assert File.stat!(home).mode |> Bitwise.band(0o777) == 0o700
    config = File.read!(Path.join(home, "config.toml"))

    assert config |> String.split("\n", trim: true) |> Enum.sort() == [
             ~S("a" = {"c.d" = [true], "b" = 1}),
             ~S("model" = "m")
           ]

    Process.exit(owner, :kill)
    assert eventually(fn -> not File.exists?(home) end)
  end

  test "it can be removed before, and what cannot be is an error", %{tmp_dir: dir} do
    {:ok, home} = Isolated.create(dir: dir)
    assert Isolated.remove(home) == :ok
    refute File.exists?(home)
    assert Isolated.remove(dir) == :ok
    assert File.exists?(dir)
    assert Isolated.create(dir: dir, config: %{"k" => nil}) == {:error, {:invalid_config, "k"}}
    assert Isolated.create(dir: dir, config: ["a=1"]) == {:error, {:invalid_config, :not_a_table}}

    assert {:error, %Codex.OptionError{reason: :unknown, path: [:ownr], nearest: :owner}} =
             Isolated.create(ownr: dir)

    file = Path.join(dir, "file")
    File.write!(file, "")
    assert {:error, {:write_failed, _, reason}} = Isolated.create(dir: file)
    assert reason in [:eexist, :enotdir]
  end

  describe "the real CLI" do
    @describetag :codex_cli

    # The home of a user: the mark of homes that this package makes is taken away.
    defp plain!(model) do
      File.rm!(Path.join(model.home, ".codex_sdk_home"))
      model.home
    end

    # Passes the loopback provider to the run, which has no configuration of the user.
    defp provider(model) do
      %{
        "analytics.enabled" => false,
        "features.plugins" => false,
        "model" => "codex-test",
        "model_catalog_json" => Path.join(model.home, "models.json"),
        "model_provider" => "mock",
        "model_providers.mock" => %{
          "name" => "mock",
          "base_url" => model.url,
          "wire_api" => "responses"
        }
      }
    end

    defp run(isolation, codex_home \\ nil) do
      model =
        Codex.Test.start!([shell("env"), "Done."],
          config: ~s(developer_instructions = "USER-CONFIG")
        )

      File.write!(Path.join(model.home, "AGENTS.md"), "HOME-AGENTS")
      File.write!(Path.join(model.workspace, "AGENTS.md"), "PROJECT-AGENTS")
      System.put_env("CODEX_SDK_TEST_MARK", "VM-ENVIRONMENT")
      home = if codex_home, do: codex_home.(model), else: plain!(model)

      {:ok, thread} =
        Codex.start_thread(
          Keyword.put(Codex.Test.options(model), :codex_home, home),
          Codex.Test.thread_options(model) ++
            [isolation: isolation, config: provider(model), sandbox: :danger_full_access]
        )

      {:ok, result} = Thread.run(thread, "hi")
      [%{body: body} | _] = Codex.Test.requests(model)

      [env] =
        for %{item: %Items.CommandExecution{status: :completed} = item} <- result.events,
            do: item.aggregated_output

      seen = inspect(body, limit: :infinity, printable_limit: :infinity) <> env

      for mark <- ~w(USER-CONFIG HOME-AGENTS PROJECT-AGENTS VM-ENVIRONMENT),
          seen =~ mark,
          do: mark
    end

    test "inherits everything, ignores the configuration of the user, or more" do
      assert run(:inherit) == ~w(USER-CONFIG HOME-AGENTS PROJECT-AGENTS VM-ENVIRONMENT)
      assert run(:project) == ~w(HOME-AGENTS PROJECT-AGENTS VM-ENVIRONMENT)
      assert run(:hermetic) == ~w(HOME-AGENTS)
    end

    test "sees no file of the user with a home of its own" do
      home = fn model ->
        {:ok, home} = Isolated.create(dir: Path.dirname(model.home), config: provider(model))
        home
      end

      assert run(:hermetic, home) == []
      assert run(:inherit, home) == ~w(PROJECT-AGENTS VM-ENVIRONMENT)
    end

    # Nothing but the home names the provider here: without it the run would leave this machine.
    defp asked(client, options, model) do
      {:ok, thread} = Codex.start_thread(client, Codex.Test.thread_options(model) ++ options)

      assert {:ok, %{final_response: %{text: "Done."}}} = Thread.run(thread, "hi")
      assert {:ok, %{source: source}} = Thread.preflight(thread)
      [%{body: body}] = for %{method: "POST"} = one <- Codex.Test.requests(model), do: one
      {source, inspect(body, limit: :infinity, printable_limit: :infinity)}
    end

    @isolations [
      [isolation: :project],
      [isolation: :hermetic],
      [ignore_user_config: true],
      [isolation: :hermetic, ignore_user_config: true]
    ]

    test "keeps the configuration of a home of its own" do
      for options <- @isolations do
        model = Codex.Test.start!(["Done."])
        config = Map.put(provider(model), "developer_instructions", "OF-THE-HOME")
        {:ok, home} = Isolated.create(dir: Path.dirname(model.home), config: config)
        client = Keyword.put(Codex.Test.options(model), :codex_home, home)
        assert {_, body} = asked(client, options, model)
        assert body =~ "OF-THE-HOME"

        # The variable wins over the option, for the CLI and here.
        model = Codex.Test.start!(["Done."])
        client = Keyword.put(Codex.Test.options(model), :codex_home, plain!(Codex.Test.start!()))
        client = put_in(client[:env]["CODEX_HOME"], model.home)
        assert {_, _} = asked(client, options, model)
      end
    end

    test "reaches the scripted model of Codex.Test, or no provider" do
      for options <- @isolations do
        model = Codex.Test.start!(["Done."], config: "developer_instructions = 'OF-THE-HOME'")
        assert {_, body} = asked(Codex.Test.options(model), options, model)
        assert body =~ "OF-THE-HOME"
      end
    end

    test "still leaves rules, AGENTS files and the environment out" do
      assert run(:hermetic, & &1.home) == ~w(USER-CONFIG HOME-AGENTS)
    end
  end
end
