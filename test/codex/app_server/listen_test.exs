defmodule Codex.AppServer.ListenTest do
  # A server of a connection that listens, and the real TUI as its other client.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  import Codex.TUI, only: [see: 2, enter: 2, press: 3, quit: 1]

  alias Codex.{AppServer, Thread, TUI}
  alias Codex.CLI.Session
  alias Codex.Subprocess.Exit

  @moduletag :codex_cli

  @ready "Ask Codex to do anything"
  @escalated [sandbox_permissions: "require_escalated", justification: "May I?"]

  defp connect!(model, opts \\ []) do
    url = "unix://" <> Path.join(model.workspace, "codex.sock")
    opts = Keyword.merge([cwd: model.workspace, listen: url], opts)
    {:ok, conn} = AppServer.connect(Codex.Test.options(model), opts)
    {conn, url}
  end

  defp thread!(model, conn, opts \\ []) do
    opts = [working_directory: model.workspace, transport: {:app_server, conn}] ++ opts
    {:ok, thread} = Codex.start_thread([], opts)
    {:ok, result} = Thread.run(thread, "First")
    result.thread
  end

  defp model(rules \\ []),
    do: Codex.Test.start!([], TUI.model_options(default: "An answer.", rules: rules))

  defp attach(model, url, thread),
    do: TUI.start!(model, [remote: url], {:resume, thread.thread_id})

  test "the TUI and the application see each turn, and the end of the TUI harms nothing" do
    model =
      model([
        [contains: "From the TUI", step: "To the TUI."],
        [contains: "From the app", step: "To the app."]
      ])

    {conn, url} = connect!(model)
    thread = thread!(model, conn)
    :ok = AppServer.subscribe(conn, thread_id: thread.thread_id)

    tui = model |> attach(url, thread) |> see("• An answer.") |> see(@ready)
    tui = tui |> enter("From the TUI") |> see("• To the TUI.")
    assert_receive {:codex_notification, "turn/completed", _}, 30_000

    {:ok, result} = Thread.run(thread, "From the app")
    assert result.final_response.text == "To the app."
    tui = see(tui, "• To the app.")

    assert %Exit{status: 0} = quit(tui)
    assert AppServer.alive?(conn)
    {:ok, result} = Thread.run(result.thread, "Again")
    assert result.final_response.text != nil

    tui = model |> attach(url, thread) |> see("• To the app.")
    {:ok, %Exit{}} = Session.stop(tui.session)
    assert {:ok, _} = Thread.run(result.thread, "And again")
    :ok = AppServer.disconnect(conn)
  end

  test "an approval is the application's if its thread has a policy" do
    model = model([[contains: "Touch", times: 1, step: shell("touch made", @escalated)]])
    {conn, url} = connect!(model)
    test = self()

    allow = fn _event, _context ->
      send(test, :decided)
      :allow
    end

    thread = thread!(model, conn, ask_for_approval: :on_request, approval_policy: allow)
    tui = model |> attach(url, thread) |> see(@ready)
    assert {:ok, _result} = Thread.run(thread, "Touch")
    assert_received :decided
    see(tui, "Touch")
    assert File.exists?(Path.join(model.workspace, "made"))
    {:ok, _} = Session.stop(tui.session)
    :ok = AppServer.disconnect(conn)
  end

  test "an approval is the TUI's if the thread has no policy and a subscriber leaves it" do
    model = model([[contains: "Touch", times: 1, step: shell("touch made", @escalated)]])
    {conn, url} = connect!(model)
    thread = thread!(model, conn, ask_for_approval: :on_request)
    :ok = AppServer.subscribe(conn, thread_id: thread.thread_id)
    tui = model |> attach(url, thread) |> see(@ready)
    turn = Task.async(fn -> Thread.run(thread, "Touch") end)
    made = Path.join(model.workspace, "made")
    tui = tui |> see("May I?") |> press("y", fn _tui -> File.exists?(made) end)
    assert {:ok, _result} = Task.await(turn, 60_000)
    {:ok, _} = Session.stop(tui.session)
    :ok = AppServer.disconnect(conn)
  end

  test "the socket of the home is that of unix://" do
    model = model()
    {conn, _url} = connect!(model, listen: "unix://")
    thread = thread!(model, conn)
    {:ok, other} = AppServer.connect_remote("unix://", codex_home: model.home)
    assert {:ok, %{"thread" => _}} = AppServer.thread_read(other, thread_id: thread.thread_id)
    :ok = AppServer.disconnect(other)
    :ok = AppServer.disconnect(conn)
  end

  test "a server that ends is reported with its exit, and started again at its socket" do
    model = model()
    {conn, url} = connect!(model, reconnect: true)
    :ok = AppServer.subscribe(conn)
    [os_pid] = servers(url)
    {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
    assert_receive {:codex_connection, ^conn, {:down, {:app_server_down, info}}}, 30_000
    assert %{signal: :kill, stderr: _} = info
    assert_receive {:codex_connection, ^conn, :up}, 30_000
    assert {:ok, _} = AppServer.thread_list(conn)
    :ok = AppServer.disconnect(conn)
    assert servers(url) == []
  end

  test "a server that cannot listen is an error with its words" do
    model = model()

    listen = [listen: "unix:///no/such/dir/codex.sock"]
    down = AppServer.connect(Codex.Test.options(model), listen)
    assert {:error, {:app_server_down, info}} = down
    assert %{exit_status: 1} = info
    assert info.stderr =~ "No such file or directory"

    for listen <- ["ws://127.0.0.1:1", "/tmp/x", "unix://" <> String.duplicate("x", 200), 1] do
      assert {:error, %Codex.OptionError{path: [:listen]}} = AppServer.connect([], listen: listen)
    end
  end

  # The processes of the CLI with this address among their arguments.
  defp servers(url) do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        {:ok, line} <- [File.read("/proc/#{entry}/cmdline")],
        url in String.split(line, <<0>>),
        do: entry
  end
end
