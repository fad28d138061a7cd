defmodule Codex.CLI.SessionAttachTest do
  # A person at a terminal, whose shell runs another VM, which shows a session of the real CLI.
  use ExUnit.Case, async: true

  import Codex.TUI, only: [see: 2, enter: 2, type: 2, resize: 2]

  alias Codex.CLI.Session
  alias Codex.{Screen, TUI}
  alias Codex.Subprocess.Exit

  @moduletag :codex_cli
  @moduletag :tmp_dir

  @ready "Ask Codex to do anything"
  @root Path.expand("../../..", __DIR__)

  defp model(script \\ []), do: Codex.Test.start!(script, TUI.model_options())

  # The shell is a session, too: its program prints the settings of the terminal, runs a command,
  # and prints them again.
  defp shell(dir, model, command) do
    path = Path.join(dir, "shell.sh")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = --version ]; then echo "codex-cli 0.171.0"; exit; fi
    cd #{@root}
    terminal() { echo "$(stty -g) $(sed -n 2p /proc/$$/fdinfo/0)."; }
    echo "before $(terminal)"
    #{command}
    echo "status $?"
    echo "after $(terminal)"
    # A VM that was killed leaves stdin non-blocking for a moment.
    until read -r line && [ "$line" = end ]; do sleep 0.1; echo "later $(terminal)"; done
    """)

    File.chmod!(path, 0o755)
    options = Codex.Test.options(model)
    {:ok, codex} = Codex.Test.codex_path()
    own = %{"CODEX_HOME" => model.home, "CODEX_PATH" => codex, "MIX_ENV" => "test"}
    # Mix and Elixir need their own home.
    env = options[:env] |> Map.delete("HOME") |> Map.merge(own)
    {:ok, session} = Session.start([codex_path: path, env: env], size: {30, 90})
    %TUI{session: session, screen: Screen.new({30, 90})}
  end

  # A VM with the code of this one.
  defp elixir(script) do
    paths = for path <- :code.get_path(), to_string(path) =~ "_build", do: "-pa #{path}"
    "elixir #{Enum.join(paths, " ")} -e '#{script}'"
  end

  defp settings(tui, word) do
    case Regex.scan(~r/#{word} ([^.]*)\./, Screen.text(tui.screen)) do
      [] -> nil
      found -> found |> List.last() |> List.last() |> String.replace(~r/\s/, "")
    end
  end

  test "mix codex.tui shows the TUI, follows the window, and restores the terminal", context do
    model = model(["Hello from the model."])
    tui = shell(context.tmp_dir, model, "mix codex.tui --cwd #{model.workspace}")
    tui = see(tui, ~r/before .*?\./s)
    before = settings(tui, "before")

    tui = tui |> see(@ready) |> enter("Say hello") |> see("• Hello from the model.")
    tui = tui |> resize({20, 50}) |> see(~r/\A(.{0,50}\n?){1,20}\z/) |> see(@ready)
    tui = TUI.press(tui, <<3>>, &TUI.shows?(&1, ~r/after .*?\./s))

    assert Screen.text(tui.screen) =~ "status 0"
    assert settings(tui, "after") == before
    assert %Exit{status: 0} = tui |> type("end\n") |> TUI.ended()
  end

  test "mix codex.attach opens a thread of this VM's server, and leaves it running", context do
    model = model(["First.", "Second.", "Third."])
    opts = [cwd: model.workspace, listen: "unix://"]
    {:ok, conn} = Codex.AppServer.connect(Codex.Test.options(model), opts)
    {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
    {:ok, %{thread: thread}} = Codex.Thread.run(thread, "One")

    tui = shell(context.tmp_dir, model, "mix codex.attach #{thread.thread_id}")
    tui = tui |> see("• First.") |> see(@ready) |> enter("Two") |> see("• Second.")
    tui = TUI.press(tui, <<3>>, &TUI.shows?(&1, ~r/after .*?\./s))
    assert Screen.text(tui.screen) =~ "status 0"
    assert {:ok, _} = Session.stop(tui.session)

    assert {:ok, result} = Codex.Thread.run(thread, "Three")
    assert result.final_response.text == "Third."
    :ok = Codex.AppServer.disconnect(conn)
  end

  test "the terminal is restored if the VM is killed, and the CLI ends", context do
    model = model()

    script = """
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    {:ok, session} = Codex.CLI.Session.start([], working_directory: "#{model.workspace}")
    File.write!("#{context.tmp_dir}/pids", "\#{System.pid()} \#{Codex.CLI.Session.os_pid(session)}")
    Codex.CLI.Session.attach(session)
    """

    tui = shell(context.tmp_dir, model, elixir(script))
    tui = see(tui, ~r/before .*?\./s)
    before = settings(tui, "before")
    tui = see(tui, @ready)
    [vm, codex] = "#{context.tmp_dir}/pids" |> File.read!() |> String.split()
    {_, 0} = System.cmd("kill", ["-KILL", vm])

    # The shell may see the end of the VM a moment before the terminal is given back.
    gone(codex)
    tui = TUI.press(tui, "x\n", &(settings(&1, "later") == before))
    assert %Exit{status: 0} = tui |> type("end\n") |> TUI.ended()
  end

  test "without a terminal, the session goes on" do
    model = model()

    script = """
    client = #{Codex.OtherVM.client(model)}
    {:ok, session} = Codex.CLI.Session.start(client, [])
    {:error, {:no_terminal, reason}} = Codex.CLI.Session.attach(session)
    true = is_binary(reason)
    {:ok, session, _outputs} = Codex.CLI.Session.next(session, 60_000)
    {:ok, _exit} = Codex.CLI.Session.stop(session)
    IO.puts("done")
    """

    assert {output, 0} = Codex.OtherVM.run(script)
    assert output =~ "done"
  end

  # Polls: processes of others send no message.
  defp gone(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, line} ->
        unless line =~ ~r/\) [ZX] / do
          Process.sleep(20)
          gone(os_pid)
        end

      {:error, _} ->
        :ok
    end
  end
end
