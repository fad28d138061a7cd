defmodule Codex.Terminal.Tty do
  @moduledoc false
  # The terminal of this VM: whether stdin and stdout are one, its width, and Ctrl-C as a message.
  #
  # The VM answers SIGINT with a menu of its own, and no flag of a running VM changes that.
  # `watch/1` makes Ctrl-C a character that ends a line, so that the terminal sends no signal. A
  # shell with the stdio of the VM sets the mode, and restores it at the end of its input: when the
  # VM stops the watch, ends or is killed.

  @wait 10_000

  @type t :: %{stdin: boolean(), stdout: boolean(), columns: pos_integer() | nil}

  @probe """
  [ -t 0 ] && a=1 || a=0
  [ -t 1 ] && b=1 || b=0
  set -- $(stty size 2>/dev/null <&1 || stty size 2>/dev/null)
  echo "$a $b ${2:-0}" >&4
  """

  @doc "Returns which of stdin and stdout are terminals, and the width of the terminal."
  @spec probe() :: t()
  def probe do
    case first_line(shell(@probe, [])) do
      {port, line} ->
        close(port)
        [stdin, stdout, columns] = line |> String.split() |> Enum.map(&String.to_integer/1)
        columns = if columns > 0, do: columns
        %{stdin: stdin == 1, stdout: stdout == 1, columns: columns}

      :none ->
        %{stdin: false, stdout: false, columns: nil}
    end
  end

  # A background job must neither change the terminal nor read from it.
  @watch """
  foreground() {
    if [ -r "/proc/$1/stat" ]; then
      set -- $(sed 's/^.*) //' "/proc/$1/stat"); [ "$3" = "$6" ]
    else
      set -- $(ps -o pgid= -o tpgid= -p "$1"); [ "$1" = "$2" ]
    fi
  }
  if [ -t 0 ]; then exec 5<&0; from=stdin
  elif [ -t 1 ]; then exec 5<&1; from=terminal
  else echo none >&4; exit 0; fi
  if ! foreground "$1"; then echo none >&4; exit 0; fi
  trap '' INT QUIT TSTP TTOU TTIN
  old=$(stty -g <&5) || exit 0
  trap 'stty "$old" <&5' EXIT
  trap 'exit 0' TERM HUP
  stty intr undef eol ^C <&5
  echo "$from" >&4
  if [ "$from" = terminal ]; then cat <&5 >&4 & reader=$!; fi
  cat <&3 >/dev/null
  [ -z "${reader:-}" ] || kill "$reader"
  """

  @doc """
  Makes Ctrl-C a message. The caller gets `{:terminal, :interrupt}` for each. With `lines: true`, it
  also gets `{:terminal, {:line, text}}` and `{:terminal, :eof}` for the lines of stdin, be it a
  terminal or not. Returns a watch for `unwatch/1`.
  """
  @spec watch(keyword()) :: pid()
  def watch(opts \\ []) do
    owner = self()
    lines? = opts[:lines] == true
    ref = make_ref()

    pid =
      spawn_link(fn ->
        _ = Process.monitor(owner)
        port = shell(@watch, [System.pid()])
        from = with {_port, from} <- first_line(port), do: from
        send(owner, {ref, :watching})
        reader = if from == "stdin" or lines?, do: spawn_link(fn -> read(owner, "") end)
        _ = forward(port, owner)
        end_reader(reader)
      end)

    receive do
      {^ref, :watching} -> pid
    after
      @wait -> pid
    end
  end

  # It waits for the next character.
  defp end_reader(nil), do: :ok

  defp end_reader(reader) do
    true = Process.unlink(reader)
    Process.exit(reader, :kill)
  end

  @doc "Restores the terminal."
  @spec unwatch(pid()) :: :ok
  def unwatch(watch) do
    ref = Process.monitor(watch)
    send(watch, :unwatch)

    receive do
      {:DOWN, ^ref, _, _, _reason} -> :ok
    after
      @wait ->
        true = Process.exit(watch, :kill)
        :ok
    end
  end

  # Typed bytes that stdin does not get.
  defp forward(port, owner) do
    receive do
      :unwatch ->
        restore(port)

      {:DOWN, _, :process, ^owner, _} ->
        restore(port)

      {^port, {:data, bytes}} ->
        for <<3 <- bytes>>, do: send(owner, {:terminal, :interrupt})
        forward(port, owner)

      {^port, {:exit_status, _}} ->
        wait(owner)
    end
  end

  defp wait(owner) do
    receive do
      :unwatch -> :ok
      {:DOWN, _, :process, ^owner, _} -> :ok
    end
  end

  # The shell restores the mode when its input ends, and cannot report it over a closed port: its
  # process is awaited.
  defp restore(port) do
    os_pid = with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid
    close(port)
    if os_pid, do: gone(os_pid, 200)
  end

  defp gone(_os_pid, 0), do: :ok

  defp gone(os_pid, tries) do
    case System.cmd("kill", ["-0", "#{os_pid}"], stderr_to_stdout: true) do
      {_, 0} ->
        Process.sleep(10)
        gone(os_pid, tries - 1)

      _gone ->
        :ok
    end
  end

  # One character at a time: the terminal sends a line when it is complete, or Ctrl-C was typed.
  defp read(owner, line) do
    case IO.getn(:stdio, "", 1) do
      <<3>> ->
        send(owner, {:terminal, :interrupt})
        read(owner, "")

      "\n" ->
        send(owner, {:terminal, {:line, line}})
        read(owner, "")

      text when is_binary(text) ->
        read(owner, line <> text)

      _end ->
        if line != "", do: send(owner, {:terminal, {:line, line}})
        send(owner, {:terminal, :eof})
    end
  end

  # The shell has the stdio of the VM, its own pipes are 3 and 4.
  defp shell(script, args) do
    options = [:binary, :nouse_stdio, :exit_status, args: ["-c", script, "sh" | args]]
    Port.open({:spawn_executable, "/bin/sh"}, options)
  end

  defp first_line(port) do
    receive do
      {^port, {:data, bytes}} -> {port, bytes |> String.split("\n") |> hd()}
      {^port, {:exit_status, _}} -> :none
    after
      @wait -> :none
    end
  end

  defp close(port) do
    if Port.info(port), do: Port.close(port)
    flush(port)
  rescue
    _closed in ArgumentError -> flush(port)
  end

  defp flush(port) do
    receive do
      {^port, _message} -> flush(port)
    after
      0 -> :ok
    end
  end
end
