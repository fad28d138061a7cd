defmodule Codex.Hooks.VMTest do
  # A VM that is killed inside of a hook.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{OtherVM, Test}

  @moduletag :codex_cli

  for transport <- [:exec, :app_server] do
    test "#{transport}: nothing is left, and the CLI does not go on as if it were allowed" do
      model = Test.start!([shell("echo hi > made"), "Done."])
      transport = unquote(transport)

      port =
        OtherVM.start("""
        client = #{OtherVM.client(model)}
        transport =
          if #{inspect(transport)} == :exec do
            :exec
          else
            {:ok, conn} = Codex.AppServer.connect(client, cwd: #{inspect(model.workspace)})
            {:app_server, conn}
          end

        hook = fn _event -> IO.puts("held") && Process.sleep(:infinity) end
        options = #{inspect(Test.thread_options(model))}
        options = options ++ [transport: transport, sandbox: :danger_full_access]
        {:ok, thread} = Codex.start_thread(client, options ++ [hooks: [pre_tool_use: hook]])
        Codex.Thread.run(thread, "go")
        """)

      assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 30_000
      assert_receive {^port, {:data, {:eol, "held"}}}, 30_000
      assert running(model) != []
      {_, 0} = System.cmd("kill", ["-KILL", pid])
      assert Enum.any?(1..600, fn _ -> running(model) == [] or (Process.sleep(50) && false) end)
      refute File.exists?(Path.join(model.workspace, "made"))
      assert length(Test.requests(model)) == 1
    end
  end

  # OS processes with the home of this model.
  defp running(model) do
    for path <- Path.wildcard("/proc/[0-9]*/environ"),
        {:ok, env} <- [File.read(path)],
        env =~ "CODEX_HOME=#{model.home}\0",
        do: path
  end
end
