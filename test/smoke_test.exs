defmodule Codex.SmokeTest do
  # The things that must work with each tested version of the CLI. `bin/test` runs this file with
  # all of them.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{AppServer, Config, Items, Test, Thread}

  @moduletag :codex_cli

  # A thread on each transport.
  defp threads(script) do
    exec = Test.start!(script)
    app = Test.start!(script)
    {:ok, conn} = AppServer.connect(Test.options(app), cwd: app.workspace)

    [
      {exec, Test.options(exec), Test.thread_options(exec)},
      {app, [], Test.thread_options(app) ++ [transport: {:app_server, conn}]}
    ]
  end

  test "a turn with a command and a patch, and the same thread again" do
    patch = "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"
    script = [shell("echo one; exit 3"), apply_patch(patch), "All done.", "Again."]

    for {model, client, options} <- threads(script) do
      options = options ++ [sandbox: :danger_full_access]
      {:ok, thread} = Codex.start_thread(client, options)
      assert {:ok, result} = Thread.run(thread, "go")
      assert result.final_response.text == "All done."
      assert result.usage["input_tokens"] > 0
      # The machine may lack a sandbox.
      assert Enum.filter(result.warnings, &(&1 =~ ~r/setting|metadata|deprecated/i)) == []

      items = for %Codex.Events.ItemCompleted{item: item} <- result.events, do: item
      assert Enum.find(items, &match?(%Items.CommandExecution{exit_code: 3}, &1))
      assert Enum.find(items, &match?(%Items.FileChange{status: :completed}, &1))
      assert File.read!(Path.join(model.workspace, "new.txt")) == "hello\n"

      id = result.thread.thread_id
      {:ok, thread} = Codex.resume_thread(id, client, options)
      assert {:ok, %{final_response: %{text: "Again."}} = again} = Thread.run(thread, "again")
      assert again.thread.thread_id == id
      assert Test.remaining(model) == 0
    end
  end

  test "plan mode in a new thread, and in the same thread again" do
    model = Test.start!(["A plan.", "Another."])

    {:ok, conn} =
      AppServer.connect(Test.options(model), cwd: model.workspace, experimental_api: true)

    options = [transport: {:app_server, conn}, collaboration_mode: :plan]

    {:ok, thread} = Codex.start_thread([], Test.thread_options(model) ++ options)
    assert {:ok, %{final_response: %{text: "A plan."}} = result} = Thread.run(thread, "How?")
    assert {:ok, %{final_response: %{text: "Another."}}} = Thread.run(result.thread, "And?")

    for %{body: %{"input" => input}} <- Test.requests(model),
        do: assert(inspect(input, limit: :infinity, printable_limit: :infinity) =~ "Plan Mode")
  end

  test "a failure has its kind" do
    busy = http_error(429, %{error: %{message: "slow"}}, [{"retry-after", "1"}])

    for {_model, client, options} <- threads([busy]) do
      {:ok, thread} = Codex.start_thread(client, options)
      assert {:error, {:turn_failed, %{kind: :rate_limit}}} = Thread.run(thread, "go")
    end
  end

  test "the configuration is read as the CLI reads it" do
    config = """
    model_reasoning_effort = "high"

    [tui]
    notifications = true
    """

    model = Test.start!([], config: config)
    {:ok, loaded} = Config.load(codex_home: model.home, cwd: model.workspace)
    {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
    params = %{"includeLayers" => true, "cwd" => model.workspace}

    assert {:ok, %{"config" => config, "layers" => layers}} =
             AppServer.request(conn, "config/read", params)

    assert [version] = for(%{"name" => %{"type" => "user"}} = l <- layers, do: l["version"])
    assert version in Enum.map(Config.layers(loaded), & &1.version)
    assert config["model_reasoning_effort"] == "high"
    assert Config.effective(loaded)["model_reasoning_effort"] == "high"
    assert Config.warnings(loaded) == []
  end
end
