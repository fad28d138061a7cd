defmodule Codex.ExamplesControlTest do
  # The programs of `examples/` that limit, steer, take back and look at an agent's work.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Example, Git, OtherVM, Test, Thread}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  @server Path.expand("children/mcp_server.py", __DIR__)

  defp run(model, name, args), do: OtherVM.run(Example.program(model, name, args))
  defp lines(output), do: String.split(output, "\n", trim: true)

  defp shown(model) do
    requests = Test.requests(model)
    inspect(List.last(requests).body, limit: :infinity, printable_limit: :infinity)
  end

  describe "guarded.exs" do
    test "refuses deletions and changes of .env, and answers" do
      patch = "*** Begin Patch\n*** Add File: a/.env\n+KEY=1\n*** End Patch\n"
      model = Test.start!([shell("rm -f keep"), apply_patch(patch), "Nothing to tidy."])
      File.write!(Path.join(model.workspace, "keep"), "")

      assert {out, 0} = run(model, "guarded.exs", ["Tidy up"])
      assert ["[refused Bash: deletions" <> _, "[refused apply_patch: " <> _ | rest] = lines(out)
      assert rest == ["Nothing to tidy.", "2 calls refused"]
      assert File.exists?(Path.join(model.workspace, "keep"))
      refute File.exists?(Path.join(model.workspace, "a/.env"))
      assert shown(model) =~ "deletions are not allowed"
    end

    test "stops at the budget, and reports failures" do
      model = Test.start!([shell("true"), shell("true"), "Done."])
      assert {"guarded: " <> _, 3} = run(model, "guarded.exs", ["Work", "--tokens", "100"])
      assert length(Test.requests(model)) == 1

      assert {out, 1} = run(Test.start!([http_error(400, "no such thing")]), "guarded.exs", ["?"])
      assert out =~ "no such thing"
      assert {"usage: " <> _, 2} = run(Test.start!([]), "guarded.exs", ["a", "b"])
    end
  end

  describe "steer.exs" do
    defp asking(cmd), do: shell(cmd, sandbox_permissions: "require_escalated", justification: "?")

    # Waits for a line of the program that has this text.
    defp await(port, text) do
      receive do
        {^port, {:data, {_end, line}}} -> if line =~ text, do: line, else: await(port, text)
      after
        60_000 -> flunk("the program did not say #{inspect(text)}")
      end
    end

    test "adds lines to the running turn, and allows the named commands alone" do
      test = self()

      # The first request is held until a line was added, which makes a second one.
      held = fn _request ->
        send(test, {:held, self()})

        receive do
          :go -> "Dropped."
        after
          60_000 -> "Dropped."
        end
      end

      model = Test.start!([held, asking("touch made"), asking("touch other"), "Made."], git: true)
      args = ["Make it", "--allow", "touch made"]
      port = OtherVM.start(Example.program(model, "steer.exs", args))
      await(port, "[started]")
      assert_receive {:held, request}, 60_000
      Port.command(port, "And be quick\n")
      await(port, "[added]")
      send(request, :go)
      assert await(port, "[allowed: ") =~ "touch made"
      assert await(port, "[refused: ") =~ "touch other"
      await(port, "Made.")
      assert File.exists?(Path.join(model.workspace, "made"))
      refute File.exists?(Path.join(model.workspace, "other"))
      assert shown(model) =~ "And be quick"
      Port.close(port)
    end

    test "reports failures" do
      assert {out, 1} = run(Test.start!([http_error(400, "no such thing")]), "steer.exs", ["?"])
      assert out =~ "no such thing"
      assert {"usage: " <> _, 2} = run(Test.start!([]), "steer.exs", [])
    end
  end

  describe "changes.exs" do
    @update "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch\n"
    @again "*** Begin Patch\n*** Update File: a.txt\n@@\n-two\n+three\n*** End Patch\n"
    @add "*** Begin Patch\n*** Add File: b.txt\n+new\n*** End Patch\n"

    # A thread of two turns that changed files, and a work tree as it was before.
    setup %{tmp_dir: dir} do
      steps = [apply_patch(@update), shell("echo hi"), "Two.", apply_patch(@again)]
      model = Test.start!(steps ++ [apply_patch(@add), "Three."], git: true)
      File.write!(Path.join(model.workspace, "a.txt"), "one\n")
      Git.run!(model.workspace, ~w(add a.txt))
      Git.commit!(model.workspace)
      copy = Path.join(dir, "copy")
      {_, 0} = System.cmd("git", ["clone", "-q", model.workspace, copy])

      options = Test.thread_options(model) ++ [sandbox: :danger_full_access]
      {:ok, thread} = Codex.start_thread(Test.options(model), options)
      {:ok, result} = Thread.run(thread, "Make it two")
      {:ok, result} = Thread.run(result.thread, "Make it three")
      {:ok, model: model, copy: copy, id: result.thread.thread_id}
    end

    defp text(dir, name), do: File.read!(Path.join(dir, name))

    test "lists the changes, and makes them elsewhere", %{model: model, copy: copy, id: id} do
      assert {out, 0} = run(model, "changes.exs", [id])
      assert ["> Make it two", "update " <> _, "> Make it three", _, "add " <> b] = lines(out)
      assert b =~ "b.txt"

      assert {out, 0} = run(model, "changes.exs", [id, "--to", copy])
      assert Enum.sort(lines(out)) == ["changed a.txt", "changed b.txt"]
      assert {text(copy, "a.txt"), text(copy, "b.txt")} == {"three\n", "new\n"}
    end

    test "takes all of them back, or none", %{model: model, id: id} do
      File.write!(Path.join(model.workspace, "b.txt"), "edited\n")
      assert {"changes: " <> _, 1} = run(model, "changes.exs", [id, "--undo"])
      assert text(model.workspace, "a.txt") == "three\n"

      File.write!(Path.join(model.workspace, "b.txt"), "new\n")
      assert {out, 0} = run(model, "changes.exs", [id, "--undo"])
      assert "restored a.txt" in lines(out) and "removed b.txt" in lines(out)
      assert out =~ ~r/^not undone: .*echo hi/m
      assert text(model.workspace, "a.txt") == "one\n"
      refute File.exists?(Path.join(model.workspace, "b.txt"))
    end

    test "reports an unknown thread, and wrong arguments", %{model: model} do
      assert {"changes: " <> _, 1} = run(model, "changes.exs", ["01a1f6cd-7e5b"])
      assert {"usage: " <> _, 2} = run(model, "changes.exs", ["x", "--to", "a", "--undo"])
    end
  end

  describe "mcp_client.exs" do
    @describetag :python

    defp mcp(args), do: run(Test.start!([]), "mcp_client.exs", args)

    test "lists tools, and calls them" do
      server = "python3 '#{@server}'"
      assert {out, 0} = mcp([server])
      assert "echo" in Enum.map(lines(out), &String.trim/1)
      assert {"hello\n", 0} = mcp([server, "echo", ~s({"text": "hello"})])
    end

    test "asks the questions of the server at the terminal" do
      args = ["python3 '#{@server}'", "ask", ~s({"kind": "elicitation"})]
      port = OtherVM.start(Example.program(Test.start!([]), "mcp_client.exs", args))
      await(port, "who?")
      Port.command(port, "Bea\n")
      assert await(port, "accept") =~ "Bea"
      Port.close(port)
    end

    test "reports a tool that fails, a server that does not start, and wrong arguments" do
      assert {_out, 1} = mcp(["python3 '#{@server}'", "boom", "{}"])
      assert {out, 1} = mcp(["/no/such/server"])
      assert out =~ "mcp_client: "
      assert {out, 2} = mcp(["python3 x.py", "echo", "[]"])
      assert out =~ "no JSON object"
      assert {"usage: " <> _, 2} = mcp([])
    end
  end

  describe "features.exs" do
    defp tool?(%{body: %{"tools" => tools}}, name), do: Enum.any?(tools, &(&1["name"] == name))

    test "lists features with their states, and runs a turn with one off" do
      model = Test.start!(["A project."])
      assert {out, 0} = run(model, "features.exs", [])
      assert out =~ ~r/^apps  \w+  on$/m
      assert {out, 0} = run(model, "features.exs", ["--disable", "apps"])
      assert out =~ ~r/^apps  \w+  off$/m

      assert {"A project.\n", 0} = run(model, "features.exs", ["What is this?"])
      Test.push(model, "A project.")
      args = ["--disable", "goals", "What is this?"]
      assert {"A project.\n", 0} = run(model, "features.exs", args)

      assert [true, false] =
               for(request <- Test.requests(model), do: tool?(request, "create_goal"))
    end

    test "reports an unknown feature, and wrong arguments" do
      model = Test.start!([])
      assert {"features: " <> _, 1} = run(model, "features.exs", ["--enable", "no_such_feature"])
      assert {"usage: " <> _, 2} = run(model, "features.exs", ["a", "b"])
    end
  end

  describe "command_rules.exs" do
    test "prints the decision of the rules" do
      model = Test.start!([])

      File.write!(Path.join(model.workspace, "my.rules"), """
      prefix_rule(pattern=["git", "push"], decision="prompt")
      prefix_rule(pattern=["git", "log"], decision="allow")
      prefix_rule(pattern=["rm"], decision="forbidden")
      """)

      for {command, answer} <- [
            {~w(git push origin), {"prompt\n", 1}},
            {~w(git log), {"allow\n", 0}},
            {~w(rm -rf x), {"forbidden\n", 1}},
            {~w(ls), {"no rule\n", 1}}
          ],
          do: assert(run(model, "command_rules.exs", ["my.rules" | command]) == answer)

      assert {"command_rules: " <> _, 2} = run(model, "command_rules.exs", ["no.rules", "ls"])
      assert {"usage: " <> _, 2} = run(model, "command_rules.exs", ["my.rules"])
    end
  end
end
