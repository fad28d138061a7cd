defmodule Mix.Tasks.Codex.AccountTest do
  # The tasks about features and the login run as processes of the operating system, with the real
  # CLI.
  use ExUnit.Case, async: true

  import Codex.PseudoTerminal, only: [env: 1, mix: 2, mix: 3]
  alias Codex.Test

  @moduletag :codex_cli
  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    model = Test.start!([])
    %{env: Map.merge(env(model), %{"CODEX_API_KEY" => nil}), stderr: Path.join(dir, "stderr")}
  end

  test "lists, enables and disables features", %{env: env, stderr: stderr} do
    assert {out, 0} = mix(["codex.features", "--json"], env)

    features =
      for line <- String.split(out, "\n", trim: true) do
        {:ok, feature} = Codex.JSON.decode(line)
        feature
      end

    assert %{"stage" => stage, "enabled" => true} = find(features, "shell_tool")
    assert is_binary(stage)

    assert {words, 0} = mix(["codex.features", "disable", "shell_tool"], env)
    assert words =~ "shell_tool"
    assert {table, 0} = mix(["codex.features"], env)
    assert table =~ ~r/^feature +stage +enabled$/m
    assert table =~ ~r/^shell_tool +\S.* false$/m
    assert {_words, 0} = mix(["codex.features", "enable", "shell_tool"], env)

    assert {"", 1} = mix(["codex.features", "enable", "nonsense"], env, stderr: stderr)
    assert File.read!(stderr) =~ "Unknown feature flag: nonsense"
    refute File.read!(stderr) =~ "backtrace"
    assert {"", 2} = mix(["codex.features", "enable"], env)
  end

  defp find(features, name), do: Enum.find(features, &(&1["name"] == name))

  test "logs in with a key, shows the status, and logs out", %{env: env, stderr: stderr} do
    key = "sk-test-0123456789abcdefghij"
    assert {out, 0} = mix(["codex.login", "--with-api-key"], env, input: key <> "\n")
    assert out =~ "API key"
    refute out =~ key
    assert {out, _ready} = mix(["codex.status"], env)
    assert out =~ "login: api_key"
    refute out =~ key
    assert {json, _ready} = mix(["codex.status", "--json"], env)
    assert {:ok, %{"login" => "api_key", "ready" => ready}} = Codex.JSON.decode(json)
    assert is_boolean(ready)

    assert {"Logged out.\n", 0} = mix(["codex.logout"], env)
    assert {"There was no login.\n", 0} = mix(["codex.logout"], env)
    assert {"", 1} = mix(["codex.login", "--with-api-key"], env, stderr: stderr)
    assert File.read!(stderr) =~ "empty"
    assert {"", 2} = mix(["codex.login", "--with-api-key", "--device-auth"], env)
  end
end
