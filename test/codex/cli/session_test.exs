defmodule Codex.CLI.SessionTest do
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  import Codex.TUI, only: [see: 2, enter: 2, type: 2, resize: 2, quit: 1]

  alias Codex.CLI.Session
  alias Codex.{Screen, TUI}
  alias Codex.Subprocess.{Error, Exit}

  @moduletag :codex_cli

  @ready "Ask Codex to do anything"

  defp model(script \\ [], opts \\ []), do: Codex.Test.start!(script, TUI.model_options(opts))

  defp ready(tui), do: see(tui, @ready)

  test "a prompt is typed, and the answer read off the screen, also in another size" do
    model = model(["Hello from the model.", "Another answer."])
    tui = model |> TUI.start!() |> ready() |> enter("Say hello") |> see("• Hello from the model.")

    tui = tui |> resize({20, 50}) |> see(~r/\A(.{0,50}\n?){1,20}\z/) |> ready()
    tui = tui |> enter("Again") |> see("• Another answer.")
    assert Enum.all?(Screen.lines(tui.screen), &(String.length(&1) <= 50))

    # An empty line and Ctrl-C ends the TUI.
    assert %Exit{status: 0} = tui |> quit()

    texts = for %{body: body} <- Codex.Test.requests(model), do: inspect(body, limit: :infinity)
    assert Enum.any?(texts, &(&1 =~ "Say hello"))
  end

  test "Ctrl-C interrupts a turn and its command; the session goes on" do
    model = model([shell("exec sleep 3607", yield_time_ms: 300_000), "Going on."])
    opts = [sandbox: :danger_full_access, ask_for_approval: :never]
    tui = model |> TUI.start!(opts) |> ready() |> enter("Sleep") |> see("Working")
    [os_pid] = eventually(fn -> pids("sleep 3607", model) end)

    tui = tui |> type(<<3>>) |> see(~r/interrupted/i)
    tui = tui |> ready() |> enter("Go on") |> see("• Going on.")
    assert {:ok, %Exit{}} = Session.stop(tui.session)
    gone([os_pid, Session.os_pid(tui.session)])
  end

  test "threads are resumed and forked, by id and as the newest" do
    model = model(["First.", "Second.", "Third.", "Fourth."])
    tui = model |> TUI.start!() |> ready() |> enter("One") |> see("• First.")
    assert %Exit{status: 0} = tui |> quit()
    {:ok, [%{id: id}]} = recorded(model)

    tui = TUI.start!(model, [], {:resume, id}) |> see("• First.") |> enter("Two")
    assert %Exit{status: 0} = tui |> see("• Second.") |> quit()
    assert {:ok, [%{id: ^id}]} = recorded(model)

    tui = TUI.start!(model, [], {:resume, :last}) |> see("• Second.") |> enter("Three")
    assert %Exit{status: 0} = tui |> see("• Third.") |> quit()

    tui = TUI.start!(model, [], {:fork, id}) |> see("• Third.") |> enter("Four")
    assert %Exit{status: 0} = tui |> see("• Fourth.") |> quit()
    assert {:ok, [_fork, _first]} = recorded(model)
  end

  test "options of `exec` reach the TUI" do
    model = model(["Done."], models: ["codex-test", "other"])
    opts = [model: "other", developer_instructions: "Answer in verse.", alt_screen: false]
    # Without the second screen, the answer may have scrolled away.
    tui = model |> TUI.start!(opts) |> ready() |> enter("Go") |> see(~r/• Done\.|Worked for/)
    {:ok, _} = Session.stop(tui.session)

    # The request for a title may have them, too.
    bodies =
      for %{body: %{"model" => "other"} = body} <- Codex.Test.requests(model),
          inspect(body, limit: :infinity) =~ "Answer in verse.",
          do: inspect(body["input"], limit: :infinity)

    assert Enum.any?(bodies, &(&1 =~ ~s("Go")))
  end

  test "options of other lists, unknown ones and invalid ones are refused" do
    for name <- [:ephemeral, :tools, :output_schema, :images, :isolation, :timeout_ms, :api_key] do
      assert {:error, {:unsupported_option, ^name, :interactive} = reason} =
               Session.start([], [{name, true}])

      assert Codex.Error.normalize(reason).message =~ inspect(name)
    end

    assert {:error, %Codex.OptionError{reason: :unknown}} = Session.start([], siez: {1, 2})
    assert {:error, %Codex.OptionError{path: [:size]}} = Session.start([], size: {0, 80})
    assert {:error, %Codex.OptionError{path: [:daemon]}} = Session.resume(:last, [], daemon: 1)

    assert {:error, {:dangerous, _}} =
             Session.start([], dangerously_bypass_approvals_and_sandbox: true)

    for thread <- [nil, "", :first, 7],
        fun <- [&Session.resume/1, &Session.fork/1],
        do: assert_raise(Codex.OptionError, ~r/:thread/, fn -> fun.(thread) end)

    assert {:error, {:codex_binary_missing, _}} = Session.start(codex_path: "/no/such/codex")
  end

  test "an app-server of the home is neither used nor started" do
    model = model()
    tui = model |> TUI.start!() |> ready()
    refute File.exists?(Path.join(model.home, "packages"))
    {:ok, _} = Session.stop(tui.session)
  end

  test "output waits for grants" do
    model = model()
    {:ok, session} = Session.start(Codex.Test.options(model), credit: :manual, window: 10)
    {session, first} = bytes(session, 10)
    session = silent(session)
    {:ok, session} = Session.grant(session, 20)
    {session, second} = bytes(session, 20)
    assert {byte_size(first), byte_size(second)} == {10, 20}
    assert {:ok, %Exit{}} = Session.stop(session)
  end

  test "after the end, writing is an error, and stopping returns the exit" do
    model = model()
    {:ok, session} = Session.start(Codex.Test.options(model), working_directory: model.workspace)
    {_, 0} = System.cmd("kill", ["-KILL", "#{Session.os_pid(session)}"])
    {session, %Exit{signal: :kill} = exit} = ended(session)
    assert {:ok, session, [{:exit, ^exit}]} = Session.next(session, 0)
    assert {:error, session, %Error{reason: :exited}} = Session.write(session, "x")
    assert {:ok, session} = Session.resize(session, {10, 10})
    assert Session.stop(session) == {:ok, exit}
    assert Session.stream(session, :other) == :unknown
    assert inspect(session) =~ ~r/^#Codex.CLI.Session<.*exited>>$/
  end

  test "the death of the owner ends the session" do
    model = model([shell("exec sleep 3608", yield_time_ms: 300_000)])
    opts = [sandbox: :danger_full_access, ask_for_approval: :never]
    test = self()

    {owner, monitor} =
      spawn_monitor(fn ->
        tui = model |> TUI.start!(opts) |> ready() |> enter("Sleep")
        send(test, {:os_pid, Session.os_pid(tui.session)})
        receive do: (:never -> tui)
      end)

    assert_receive {:os_pid, os_pid}, 90_000
    command = eventually(fn -> pids("sleep 3608", model) end)
    Process.exit(owner, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}
    gone([os_pid | command])
  end

  # --- Helpers ------------------------------------------------------------------------------------

  defp recorded(model) do
    with {:ok, page} <- Codex.Sessions.list(codex_home: model.home), do: {:ok, page.sessions}
  end

  defp bytes(session, size, seen \\ "")
  defp bytes(session, size, seen) when byte_size(seen) >= size, do: {session, seen}

  defp bytes(session, size, seen) do
    {:ok, session, outputs} = Session.next(session, 60_000)
    bytes(session, size, for({:data, bytes} <- outputs, into: seen, do: bytes))
  end

  defp silent(session) do
    case Session.next(session, 200) do
      :timeout -> session
      {:ok, session, []} -> silent(session)
    end
  end

  defp ended(session) do
    {:ok, session, outputs} = Session.next(session, 60_000)
    if exit = outputs[:exit], do: {session, exit}, else: ended(session)
  end

  # Processes with these arguments in the workspace of a model.
  defp pids(args, model) do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        {:ok, line} <- [File.read("/proc/#{entry}/cmdline")],
        String.replace(line, <<0>>, " ") |> String.trim() == args,
        {:ok, cwd} <- [File.read_link("/proc/#{entry}/cwd")],
        cwd == model.workspace,
        do: String.to_integer(entry)
  end

  # Polls: processes of others send no message.
  defp eventually(fun) do
    case fun.() do
      [] ->
        Process.sleep(20)
        eventually(fun)

      found ->
        found
    end
  end

  defp gone(os_pids) do
    if Enum.any?(os_pids, &alive?/1) do
      Process.sleep(20)
      gone(os_pids)
    end
  end

  defp alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, line} -> not (line =~ ~r/\) [ZX] /)
      {:error, _} -> false
    end
  end
end
