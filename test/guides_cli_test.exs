defmodule Codex.GuidesCLITest do
  # Runs the code of `guides/cli.md` with the CLI. Its daemon is a part of the machine.
  use ExUnit.Case, async: false

  @moduletag :codex_cli
  @moduletag :cli_pin

  @guide File.read!(Path.expand("../guides/cli.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  test "the code of the guide runs" do
    # The path of a socket has at most 103 bytes, so the home is not below the build directory.
    model = Codex.Test.start!([], dir: System.tmp_dir!())
    offline = Map.new(~w(HTTPS_PROXY HTTP_PROXY), &{&1, "http://127.0.0.1:9"})
    opts = Keyword.update!(Codex.Test.options(model), :env, &Map.merge(&1, offline))
    opts = opts ++ [cwd: model.workspace]
    rules = Path.join(model.workspace, "my.rules")

    {_value, variables} = @blocks |> Enum.join("\n") |> Code.eval_string(opts: opts, rules: rules)
    assert variables[:experimental] != []
    assert variables[:result].exit_status == 1

    updater = Path.join(model.home, "app-server-daemon/daemon-updater.pid")
    [_, pid] = Regex.run(~r/"pid":(\d+)/, File.read!(updater))
    {_, 0} = System.cmd("kill", [pid])
    assert Codex.Stub.eventually(fn -> Codex.Stub.running(model.home) == [] end)
  end
end
