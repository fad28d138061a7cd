defmodule Codex.Models.PlainTest do
  # async: false, because the functions without options read the environment of the VM.
  use ExUnit.Case, async: false

  import Codex.ModelsCase
  import ExUnit.CaptureLog
  alias Codex.Models

  @moduletag :tmp_dir

  @variables ~w(CODEX_HOME CODEX_PATH CODEX_API_KEY) ++
               ~w(CODEX_MODEL OPENAI_DEFAULT_MODEL CODEX_MODEL_DEFAULT)

  setup %{tmp_dir: dir} do
    before = Map.take(System.get_env(), @variables)

    on_exit(fn ->
      for name <- @variables, do: System.delete_env(name)
      System.put_env(before)
    end)

    for name <- @variables, do: System.delete_env(name)
    home = home!(dir)
    System.put_env("CODEX_HOME", home)
    System.put_env("CODEX_PATH", stub!(dir, "cat #{path("debug_models.json")}"))
    %{home: home}
  end

  defp catalog!(dir, entries) do
    file = Path.join(dir, "catalog.json")
    File.write!(file, Codex.JSON.encode!(%{models: entries}))
    System.put_env("CODEX_PATH", stub!(dir, "cat #{file}"))
  end

  test "the data of a model in the catalog", %{tmp_dir: dir} do
    assert Models.display_name("gpt-5.5") == "GPT-5.5"
    assert Models.description("gpt-5.5") == "Legacy coding model."
    assert Models.default_reasoning_effort("gpt-5.5") == :medium
    assert %{id: "gpt-6-sol"} = Models.get_upgrade("gpt-5.5")
    assert Models.get_upgrade("gpt-6-sol") == nil
    assert Models.supported_in_api?("gpt-5.5")
    assert Models.tool_enabled?("gpt-5.5")

    assert Enum.map(Models.supported_reasoning_efforts("gpt-5.5"), & &1.effort) ==
             [:low, :medium, :high, :xhigh]

    # Each call runs the CLI once.
    before = runs(dir)
    assert Models.default_model() == "gpt-6.1-sol"
    assert Models.default_reasoning_effort() == :low
    assert runs(dir) == before + 2

    catalog!(dir, [
      %{slug: "a", shell_type: "disabled", supported_in_api: false},
      %{slug: "b", visibility: "hide"}
    ])

    refute Models.tool_enabled?("a")
    refute Models.supported_in_api?("a")
    # Hidden is not unknown.
    assert Models.tool_enabled?("b")
  end

  test "a model that the catalog lacks is one line in the log, and never a crash" do
    unknown = "unknown-#{System.unique_integer([:positive])}"

    log =
      capture_log(fn ->
        for _ <- 1..3 do
          assert Models.default_reasoning_effort(unknown) == nil
          assert Models.supported_reasoning_efforts(unknown) == []
          assert Models.get_upgrade(unknown) == nil
          assert Models.display_name(unknown) == nil
          assert Models.description(unknown) == nil
          refute Models.supported_in_api?(unknown)
          refute Models.tool_enabled?(unknown)
        end
      end)

    assert [_, _] = String.split(log, unknown)
    assert log =~ "catalog (cli) has no model"
  end

  test "nil is not a model, and logs nothing", %{tmp_dir: dir} do
    assert capture_log(fn ->
             assert Models.default_reasoning_effort(nil) == nil
             assert Models.supported_reasoning_efforts(nil) == []
             refute Models.tool_enabled?(nil)
           end) == ""

    assert runs(dir) == 0
  end

  test "the environment overrides the default, in this order, and starts no CLI", %{tmp_dir: dir} do
    for {name, value} <- [
          {"CODEX_MODEL_DEFAULT", "third"},
          {"OPENAI_DEFAULT_MODEL", "second"},
          {"CODEX_MODEL", " first "}
        ] do
      System.put_env(name, value)
      assert Models.default_model() == String.trim(value)
      assert Models.default_model(:api) == String.trim(value)
    end

    assert runs(dir) == 0

    System.put_env("CODEX_MODEL", "  ")
    System.put_env("OPENAI_DEFAULT_MODEL", "")
    assert Models.default_model() == "third"

    # Unknown, and allowed.
    assert capture_log(fn -> assert Models.default_reasoning_effort() == nil end) =~ "third"
    assert {:ok, %{model: nil}} = Codex.Options.new()
  end

  test "who pays is inferred from the key and the login", %{tmp_dir: dir, home: home} do
    catalog!(dir, [
      %{slug: "chat", priority: 1, visibility: "list", supported_in_api: false},
      %{slug: "both", priority: 2, visibility: "list", supported_in_api: true}
    ])

    auth = &File.write!(Path.join(home, "auth.json"), &1)
    told = fn -> {Enum.map(Models.list(), & &1.model), Models.default_model()} end

    chatgpt = {["chat", "both"], "chat"}
    api = {["both"], "both"}

    assert told.() == chatgpt
    auth.(~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-test"}))
    assert told.() == api

    for text <- [~s({"OPENAI_API_KEY":null,"tokens":{}}), "{nope", "3", ""] do
      auth.(text)
      assert {text, told.()} == {text, chatgpt}
    end

    System.put_env("CODEX_API_KEY", "sk-env")
    assert told.() == api
    System.put_env("CODEX_API_KEY", " ")
    assert told.() == chatgpt

    assert Models.default_model("api") == "both"
    assert Models.default_model(:chatgpt) == "chat"
    assert [%{model: "both", is_default: true}] = Models.list_visible()
  end

  test "without a CLI, all are empty", %{tmp_dir: dir} do
    System.put_env("CODEX_PATH", Path.join(dir, "none"))

    capture_log(fn ->
      assert Models.list() == []
      assert Models.list_visible(:chatgpt) == []
      assert Models.default_model() == nil
      assert Models.default_reasoning_effort() == nil
      assert Models.default_reasoning_effort("gpt-5.5") == nil
      assert Models.supported_reasoning_efforts("gpt-5.5") == []
      refute Models.tool_enabled?("gpt-5.5")
    end)

    System.put_env("CODEX_HOME", Path.join(dir, "none"))
    capture_log(fn -> assert Models.list() == [] end)
  end

  test "making options neither asks nor reads anything", %{tmp_dir: dir} do
    assert {:ok, %{model: nil, reasoning_effort: nil}} = Codex.Options.new()
    assert {:ok, %{model: "no such"}} = Codex.Options.new(model: "no such", reasoning: "turbo")
    assert runs(dir) == 0
  end
end
