# Measures calls of hooks, beside a hook that is a command. See README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Hooks do
  alias Codex.Hooks.Config
  alias Codex.Options.Overrides
  alias Codex.{AppServer, Test, Thread}
  alias Codex.Test.Steps

  def run do
    {:ok, cli} = Test.codex_path()
    Bench.machine(cli: Bench.first_line(cli, ["--version"]))
    calls = Bench.setting("CALLS", 40)
    model = Test.start!([], default: &step(&1, calls))

    {:ok, conn} =
      AppServer.connect(Test.options(model), cwd: model.workspace, experimental_api: true)

    called = :counters.new(1, [])
    hooks = [hooks: [pre_tool_use: fn _event -> :counters.add(called, 1, 1) end]]
    server = [transport: {:app_server, conn}]

    measured =
      Bench.interleave(
        [
          {"no hook, exec", fn -> turn(model, []) end},
          {"a function, exec", fn -> turn(model, hooks) end},
          {"a command, exec", fn -> turn(model, command()) end},
          {"no hook, app-server", fn -> turn(model, server) end},
          {"a function, app-server", fn -> turn(model, server ++ hooks) end},
          {"a command, app-server", fn -> turn(model, server ++ command()) end}
        ],
        Bench.setting("REPETITIONS", 9)
      )

    AppServer.disconnect(conn)
    IO.puts("#{:counters.get(called, 1)} calls of the function")
    IO.puts("## A turn with #{calls} calls of a tool, one after the other\n")

    rows =
      for {name, times} <- Enum.sort(measured) do
        [kind, lane] = String.split(name, ", ")
        none = Bench.median(measured["no hook, " <> lane])
        above = (Bench.median(times) - none) / 1_000
        [lane, kind, Bench.number(Bench.median(times) / 1_000), Bench.number(above / calls)]
      end

    Bench.table(["transport", "hook", "turn, ms", "above no hook, ms a call"], rows)
  end

  # The definition that the package makes, with a command as its handler.
  defp command do
    handler = %{"type" => "command", "command" => "true", "async" => false, "timeout" => 600}
    group = Map.delete(handler, "async")
    key = "/<session-flags>/config.toml:pre_tool_use:0:0"
    {:ok, hooks} = Overrides.value([%{"hooks" => [group]}])

    {:ok, arguments} =
      Overrides.arguments([
        {["hooks", "PreToolUse"], hooks},
        {["hooks", "state", key, "trusted_hash"], Config.hash(:pre_tool_use, handler)}
      ])

    [config_overrides: arguments]
  end

  defp step(%{body: %{"input" => input}}, calls) do
    made = Enum.count(input, &(&1["type"] == "function_call"))
    if made < calls, do: Steps.tool_call("get_goal", %{}), else: Steps.message("done")
  end

  defp turn(model, options) do
    options = Test.thread_options(model) ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {us, {:ok, _result}} = :timer.tc(fn -> Thread.run(thread, "go") end)
    us
  end
end

Bench.Hooks.run()
