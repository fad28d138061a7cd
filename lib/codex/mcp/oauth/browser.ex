defmodule Codex.MCP.OAuth.Browser do
  @moduledoc false
  # Prints an address and opens it in the browser of this machine.

  alias Codex.CLI.Command
  alias Codex.MCP.OAuth.Metadata
  alias Codex.OwnerMonitor

  @start_ms 10_000
  # The browser may be the program itself, and outlives this call.
  @script ~S("$1" "$2" </dev/null >/dev/null 2>&1 &)

  @doc """
  Prints a URL and opens it with `xdg-open` or `open`, which may be missing, or find no browser.
  """
  @spec open(String.t()) :: :ok
  def open(url) do
    IO.puts("Open this address in a browser to log in:\n#{url}")

    # The address comes from a server: never a file, and never an option of the program.
    _ =
      if Metadata.web?(url) do
        argv = ["/bin/sh", "-c", @script, "sh", program(), url]
        Command.run(argv, timeout: @start_ms, descendants: :leave)
      end

    :ok
  end

  defp program do
    case :os.type() do
      {:unix, :darwin} -> "open"
      _other -> "xdg-open"
    end
  end

  @doc """
  Runs `open.(url)` in a process of its own, which ends with the caller. The caller gets
  `{ref, result}`, or `{:DOWN, ref, …}`.
  """
  @spec start((String.t() -> term()), String.t()) :: {reference(), pid()}
  def start(open, url) do
    owner = self()
    terminal = Process.group_leader()
    key = make_ref()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        _ = OwnerMonitor.start(owner)
        # The function may print, and ask, where the caller does.
        true = Process.group_leader(self(), terminal)
        receive(do: ({^key, ref} -> send(owner, {ref, open.(url)})))
      end)

    ref = Process.monitor(pid)
    send(pid, {key, ref})
    {ref, pid}
  end

  @doc "Ends the process of `start/2`."
  @spec stop({reference(), pid()}) :: :ok
  def stop({ref, pid}) do
    Process.exit(pid, :kill)
    Process.demonitor(ref, [:flush])

    receive do
      {^ref, _result} -> :ok
    after
      0 -> :ok
    end
  end
end
