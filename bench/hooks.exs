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
    model = Test.start!([], default: &step/1)

    {:ok, conn} =
      AppServer.connect(Test.options(model), cwd: model.workspace, experimental_api: true)

    hooks = [
      {"no hook", []},
      {"a function", [hooks: [pre_tool_use: fn _event -> :allow end]]},
      {"a command", command()}
    ]

    variants =
      for {lane, transport} <- [exec: [], app_server: [transport: {:app_server, conn}]],
          {hook, options} <- hooks,
          n <- [0, calls],
          do: {{lane, hook, n}, fn -> turn(model, transport ++ options, n) end}

    measured = Bench.interleave(variants, Bench.setting("REPETITIONS", 9))
    AppServer.disconnect(conn)
    IO.puts("## Turns with #{calls} calls of a tool, and with none\n")

    call = fn lane, hook ->
      (at(measured, lane, hook, calls) - at(measured, lane, hook, 0)) / calls
    end

    rows =
      for lane <- [:exec, :app_server], {hook, _options} <- hooks do
        start = at(measured, lane, hook, 0) - at(measured, lane, "no hook", 0)
        above = call.(lane, hook) - call.(lane, "no hook")
        [lane, hook, Bench.number(start), Bench.number(above)]
      end

    Bench.table(
      ["transport", "hook", "ms above no hook, a turn", "ms above no hook, a call"],
      rows
    )
  end

  defp at(measured, lane, hook, n), do: Bench.median(measured[{lane, hook, n}]) / 1_000

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

  # The last prompt is the number of calls.
  defp step(%{body: %{"input" => input}}) do
    made = Enum.count(input, &(&1["type"] == "function_call"))
    prompts = for %{"role" => "user", "content" => [%{"text" => text}]} <- input, do: text

    if made < prompts |> List.last() |> String.to_integer(),
      do: Steps.tool_call("get_goal", %{}),
      else: Steps.message("done")
  end

  defp turn(model, options, calls) do
    options = Test.thread_options(model) ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {us, {:ok, _result}} = :timer.tc(fn -> Thread.run(thread, "#{calls}") end)
    us
  end
end

Bench.Hooks.run()
