defmodule Codex.Hooks.PoolTest do
  # Hooks of threads over a pool of app-servers.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Pool, Test, Thread}

  @moduletag :codex_cli

  test "turns of a thread have its hooks, whichever server has it" do
    model = Test.start!([shell("echo hi > a"), "One.", shell("echo hi > b"), "Two."])
    pool = start_supervised!({Pool, client: Test.options(model), server: [cwd: model.workspace]})
    deny = [pre_tool_use: fn _event -> {:deny, "no"} end]
    options = [transport: {:pool, pool}, sandbox: :danger_full_access, hooks: deny]
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)
    assert {:ok, %{blocked: 1, thread: thread}} = Thread.run(thread, "go")
    assert {:ok, %{blocked: 1}} = Thread.run(thread, "again")
    refute File.exists?(Path.join(model.workspace, "a"))
    refute File.exists?(Path.join(model.workspace, "b"))
  end
end
