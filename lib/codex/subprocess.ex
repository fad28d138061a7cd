defmodule Codex.Subprocess do
  @moduledoc """
  A child process as a value, like a connection of Mint.

  The process that calls `open/2` owns the child: it receives messages, passes them to `stream/2`
  and gets outputs. There is no process in between, so a stream can hold a child, and a server can
  hold several.

      {:ok, sub} = Codex.Subprocess.open(["cat"])
      {:ok, sub} = Codex.Subprocess.write(sub, "hello")
      {:ok, sub} = Codex.Subprocess.close_stdin(sub)

      receive do
        message ->
          case Codex.Subprocess.stream(sub, message) do
            # [{:stdout, "hello"}], later {:eof, _} and {:exit, _}
            {:ok, sub, outputs} -> outputs
            # The child has failed.
            {:error, sub, error} -> error
            # Another message.
            :unknown -> message
          end
      end

  ## What to rely on

    * **Credit.** The launcher sends at most `:window` bytes of stdout, and as many more as
      `grant/2` allows. Without grants the child's own pipe fills up and the child waits; nothing is
      dropped. The mailbox never holds more than a few hundred messages, however small the pieces
      are.
    * **stderr** never blocks the child. Its newest bytes are kept, older bytes are dropped and
      counted.
    * **stdin** is sent as fast as the child reads it. Further bytes wait in the value
      (`pending/1`). Closing stdin leaves stdout open. Writing to a child that has closed its stdin
      or died is no error.
    * **The end.** `{:exit, exit}` is the last output. All of stdout and stderr and both `{:eof, _}`
      come before it, and all descendants of the child have ended (see `:descendants`): a grandchild
      that holds stdout open cannot block the reader.
    * **No leftovers.** When the owner dies, the port is closed or the whole VM is killed, the child
      is ended with the same `:ladder` as by `stop/2`. The child runs in its own session. On Linux
      its descendants are found in every session, on macOS while the process tree still shows them.

  ## Terminals

  With `terminal: {rows, cols}` the child runs in a pseudo-terminal of that size, which is its
  controlling terminal, and its stdin, stdout and stderr. Bytes pass unchanged in both directions,
  under the same credit. `resize/2` changes the size.

    * All output comes as `{:stdout, bytes}`; `{:eof, :stderr}` comes at the start.
    * Control characters act as typed: until the child turns that off, `<<3>>` (Ctrl-C) is SIGINT
      for its foreground processes.
    * `close_stdin/1` and the end of `:input` type Ctrl-D.
    * The step `{:close_stdin, ms}` of the ladder closes the terminal. Its session gets SIGHUP.

  ## Use

  Each value is used once: continue with the value that was returned last. Only the process that
  opened the child may use it.

  ## Errors

  Functions return `{:error, %Codex.Subprocess.Error{}}`, with the value in the middle if it can
  still be used. `Codex.Subprocess.Error` lists the reasons. Misuse raises `ArgumentError`.

  If the launcher is killed, the owner gets `:launcher_died` or `:terminated`. On Linux all
  processes of the launcher are ended. On macOS the child runs until it sees the end of its stdin,
  and an owner that writes in the same instant may get an exit signal `:epipe` from the VM.
  """

  alias Codex.Subprocess.{Error, Exit, Frame, Launcher, Launchers, Options, Signal}

  @typedoc "A running or ended child. The fields are private."
  @opaque t :: %__MODULE__{
            port: port,
            os_pid: pos_integer,
            program: String.t(),
            state: :running | {:exited, Exit.t()} | {:failed, Error.t()},
            stop_after: non_neg_integer,
            stdin: :open | :closing | :closed,
            stdin_credit: non_neg_integer,
            pending: :queue.queue(binary),
            pending_bytes: non_neg_integer,
            stderr: binary,
            stderr_limit: non_neg_integer,
            stderr_taken: non_neg_integer,
            seen: non_neg_integer,
            terminal?: boolean
          }

  @typedoc "A signal by its name."
  @type signal_name ::
          :hup
          | :int
          | :quit
          | :ill
          | :trap
          | :abrt
          | :bus
          | :fpe
          | :kill
          | :usr1
          | :segv
          | :usr2
          | :pipe
          | :alrm
          | :term
          | :cont
          | :stop
          | :tstp
          | :winch

  @typedoc "Output of the child, the end of a stream, or the end of the child."
  @type output ::
          {:stdout, binary}
          | {:stderr, binary}
          | {:eof, :stdout | :stderr}
          | {:exit, Exit.t()}

  @enforce_keys [:port, :os_pid, :program, :stop_after, :stderr_limit]
  defstruct @enforce_keys ++
              [
                state: :running,
                stdin: :open,
                stdin_credit: 0,
                pending: :queue.new(),
                pending_bytes: 0,
                stderr: "",
                stderr_taken: 0,
                seen: 0,
                terminal?: false
              ]

  # Half of the launcher's window, because one grant for each frame would double the messages.
  @stderr_ack 32 * 1024
  # A quarter of the frames that the launcher leaves in the mailbox.
  @seen_ack 64
  # The launcher waits 2 s after SIGKILL; the rest is for a busy machine.
  @stop_margin 5_000

  @doc """
  Starts a program and returns when it runs.

  `argv` is the program and its arguments. A program without a slash is looked up on the `PATH` of
  the child's environment.

  Options (keyword list or map):

  #{Options.docs()}

  Returns `{:ok, sub}`, or `{:error, error}` with a reason of the first list of
  `Codex.Subprocess.Error`. Raises `Codex.OptionError` for invalid options. Blocks for at
  most `:start_timeout`.
  """
  @spec open([String.t(), ...], keyword | map) :: {:ok, t} | {:error, Error.t()}
  def open(argv, opts \\ []) do
    start = Options.new!(argv, opts)
    {first, rest} = split_input(start.input)
    ends? = start.input != nil and rest == ""

    with {:ok, frame} <- Frame.start(%{start | input: first}, ends?),
         {:ok, port, os_pid} <- start_child(frame, start.start_timeout) do
      sub = %__MODULE__{
        port: port,
        os_pid: os_pid,
        program: Path.basename(hd(argv)),
        stop_after: stop_after(start),
        stdin_credit: Frame.stdin_window() - byte_size(first),
        stderr_limit: start.stderr_limit,
        terminal?: start.terminal != nil
      }

      {:ok, input(sub, start.input, rest)}
    end
  end

  # START carries as many bytes as the launcher accepts without credit.
  defp split_input(nil), do: {"", ""}

  defp split_input(input) do
    bytes = IO.iodata_to_binary(input)
    :erlang.split_binary(bytes, min(byte_size(bytes), Frame.stdin_window()))
  end

  defp input(sub, nil, ""), do: sub
  defp input(sub, _input, ""), do: %{sub | stdin: :closed}

  defp input(sub, _input, rest) do
    pending = :queue.in(rest, sub.pending)
    %{sub | stdin: :closing, pending: pending, pending_bytes: byte_size(rest)}
  end

  @doc """
  Queues bytes for the child's stdin and sends as many as the launcher accepts; `stream/2` sends the
  rest.

  Never blocks. Errors: `:stdin_closed` after `close_stdin/1`, `:exited`, `:launcher_died`.
  """
  @spec write(t, iodata) :: {:ok, t} | {:error, t, Error.t()}
  def write(%__MODULE__{state: :running, stdin: :open} = sub, data) do
    case IO.iodata_to_binary(data) do
      "" ->
        {:ok, sub}

      bytes ->
        pending = :queue.in(bytes, sub.pending)

        send_pending(%{
          sub
          | pending: pending,
            pending_bytes: sub.pending_bytes + byte_size(bytes)
        })
    end
  end

  def write(%__MODULE__{state: :running} = sub, _data),
    do: {:error, sub, %Error{reason: :stdin_closed}}

  def write(%__MODULE__{state: {:exited, _}} = sub, _data),
    do: {:error, sub, %Error{reason: :exited}}

  def write(%__MODULE__{state: {:failed, error}} = sub, _data), do: {:error, sub, error}

  @doc """
  Closes the child's stdin after all written bytes have been sent. stdout and stderr stay open.

  Has no effect the second time, or after the exit. Error: `:launcher_died`.
  """
  @spec close_stdin(t) :: {:ok, t} | {:error, t, Error.t()}
  def close_stdin(%__MODULE__{state: :running, stdin: :open} = sub),
    do: send_pending(%{sub | stdin: :closing})

  def close_stdin(%__MODULE__{} = sub), do: unless_failed(sub)

  @doc """
  Allows the child to send `bytes` more of stdout, usually the number that the caller has just
  consumed.

  Has no effect after the exit. Error: `:launcher_died`.
  """
  @spec grant(t, non_neg_integer) :: {:ok, t} | {:error, t, Error.t()}
  def grant(%__MODULE__{state: :running} = sub, bytes) when bytes in 1..0x7FFFFFFFFFFFFFFF,
    do: command(sub, Frame.credit(:stdout, bytes))

  def grant(%__MODULE__{} = sub, bytes) when is_integer(bytes) and bytes >= 0,
    do: unless_failed(sub)

  @doc """
  Sends a signal, by name (`:int`, `:term`, …) or number, to the child's process group.

  Processes that the child moved to other groups do not get it. Has no effect after the exit. Raises
  `ArgumentError` for an unknown name. Error: `:launcher_died`.
  """
  @spec signal(t, signal_name | 1..64) :: {:ok, t} | {:error, t, Error.t()}
  def signal(%__MODULE__{} = sub, signal) do
    number = Signal.number!(signal)

    if sub.state == :running,
      do: command(sub, Frame.signal(number)),
      else: unless_failed(sub)
  end

  @doc """
  Changes the size of the child's terminal, as `{rows, cols}`. Its foreground processes get
  SIGWINCH.

  Has no effect after the exit. Raises `ArgumentError` for an invalid size, and for a child without
  a terminal. Error: `:launcher_died`.
  """
  @spec resize(t, {rows :: pos_integer, cols :: pos_integer}) :: {:ok, t} | {:error, t, Error.t()}
  def resize(%__MODULE__{} = sub, size) do
    unless sub.terminal?,
      do: raise(ArgumentError, "expected a child with a terminal: start it with :terminal")

    unless Options.window?(size),
      do: raise(ArgumentError, "expected {rows, cols} from 1 to 65535, got: #{inspect(size)}")

    if sub.state == :running,
      do: command(sub, Frame.window(size)),
      else: unless_failed(sub)
  end

  @doc """
  Ends the child with its ladder, discards its further output, and waits until it has ended.

  Afterwards the mailbox has no message of the child, and the value cannot be used again. Takes at
  most the grace periods of the ladder; a child that ends at once takes no time.

  Options: `:timeout` in milliseconds (default: the grace periods of the ladder and 5 seconds).

  Returns `{:ok, exit}`, also if the child had exited before, or `{:error, error}` with the reason
  `:stop_timeout` or a reason of `stream/2`.
  """
  @spec stop(t, timeout: timeout) :: {:ok, Exit.t()} | {:error, Error.t()}
  def stop(sub, opts \\ [])
  def stop(%__MODULE__{state: {:exited, exit}}, _opts), do: {:ok, exit}
  def stop(%__MODULE__{state: {:failed, error}}, _opts), do: {:error, error}

  def stop(%__MODULE__{} = sub, opts) do
    case Options.stop!(opts).timeout || sub.stop_after do
      :infinity -> stop_until(sub, :infinity)
      ms -> stop_until(sub, now() + ms)
    end
  end

  @doc """
  Ends the child like `stop/2`, but returns soon: if the child takes longer, a process under the
  SDK's supervisor takes it over.

  Options:

    * `:grace` - the time to wait for the end of the child, in milliseconds (default 700)
    * `:finally` - a function that is called with the result of `stop/2` after the child has ended,
      by the caller or by the process that took it over

  Returns the result of `stop/2`, or `{:behind, pid}`. The value cannot be used again.
  """
  @spec stop_soon(t, grace: non_neg_integer, finally: (stopped -> term)) ::
          stopped | {:behind, pid}
  def stop_soon(sub, opts \\ [])

  def stop_soon(%__MODULE__{state: :running} = sub, opts) do
    opts = Options.stop_soon!(opts)
    finally = opts.finally || (&Function.identity/1)

    case await_stop(sub, now() + opts.grace) do
      {:late, sub} ->
        if Process.whereis(Codex.TaskSupervisor),
          do: {:behind, hand_over(sub, &finally.(stop(&1)))},
          # Without the application, the launcher ends the child alone.
          else: stopped(stop(sub, timeout: 0), finally)

      result ->
        stopped(result, finally)
    end
  end

  def stop_soon(%__MODULE__{} = sub, opts),
    do: stopped(stop(sub), Options.stop_soon!(opts).finally || (&Function.identity/1))

  @doc "Returns whether another process owns the child now: see `hand_over/2`."
  @spec handed_over?(t) :: boolean
  def handed_over?(%__MODULE__{port: port}) do
    case Port.info(port, :connected) do
      {:connected, owner} -> owner != self()
      nil -> false
    end
  end

  defp stopped(result, finally) do
    _ = finally.(result)
    result
  end

  @typedoc "The result of `stop/2`."
  @type stopped :: {:ok, Exit.t()} | {:error, Error.t()}

  @doc """
  Hands a child to a process under the SDK's supervisor, which calls `fun` with it. Returns the pid
  of that process; the caller's value cannot be used again. The child ends with that process, as
  with any owner.
  """
  @spec hand_over(t, (t -> term)) :: pid
  def hand_over(%__MODULE__{port: port} = sub, fun) do
    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        receive do
          {^port, :yours} -> fun.(sub)
        end
      end)

    connect(port, pid)
    # Unlinked first, as in close/1. Earlier messages are for the new owner.
    Process.unlink(port)
    send(pid, {port, :yours})
    forward(port, pid)
    pid
  end

  # A closed port sends nothing more.
  defp connect(port, pid) do
    Port.connect(port, pid)
  rescue
    ArgumentError -> true
  end

  defp forward(port, pid) do
    receive do
      {^port, _} = message ->
        send(pid, message)
        forward(port, pid)

      {:EXIT, ^port, _} = message ->
        send(pid, message)
        forward(port, pid)
    after
      0 -> :ok
    end
  end

  @doc "Returns the child's process id."
  @spec os_pid(t) :: pos_integer
  def os_pid(%__MODULE__{os_pid: os_pid}), do: os_pid

  @doc """
  Returns the number of written bytes that the launcher has not accepted yet. Wait before writing
  more if the number is large.
  """
  @spec pending(t) :: non_neg_integer
  def pending(%__MODULE__{pending_bytes: bytes}), do: bytes

  @doc "Returns the newest bytes of stderr from `stream/2`, at most `:stderr_limit`."
  @spec stderr(t) :: binary
  def stderr(%__MODULE__{stderr: stderr, stderr_limit: limit}), do: newest(stderr, limit)

  @doc """
  Handles a message that the owner received.

    * `{:ok, sub, outputs}` - a message of this child. `outputs` is a list in order, and may be
      empty:
      * `{:stdout, bytes}`, `{:stderr, bytes}` - at most 64 KB
      * `{:eof, :stdout}`, `{:eof, :stderr}` - the end of that stream
      * `{:exit, exit}` - the last output: a `Codex.Subprocess.Exit`
    * `{:error, sub, error}` - the child has failed and sends nothing more. Reasons:
      `:launcher_died`, `:terminated`, `:unkillable`, `:protocol`.
    * `:unknown` - another message.
  """
  @spec stream(t, term) :: {:ok, t, [output]} | {:error, t, Error.t()} | :unknown
  def stream(%__MODULE__{port: port, state: :running} = sub, {port, {:data, frame}}) do
    case Frame.parse(frame) do
      {:stdout, _} = output -> {:ok, seen(sub), [output]}
      {:stderr, bytes} = output -> {:ok, sub |> seen() |> took_stderr(bytes), [output]}
      {:eof, _} = output -> {:ok, sub, [output]}
      {:stdin_credit, bytes} -> {:ok, more_stdin(sub, bytes), []}
      {:exit, exit} = output -> {:ok, finish(sub, {:exited, exit}), [output]}
      {:error, error} -> fail(sub, error)
      {:started, _} -> fail(sub, %Error{reason: :protocol, text: "started twice"})
    end
  end

  def stream(%__MODULE__{port: port, state: :running} = sub, {port, :eof}),
    do: fail(sub, %Error{reason: :launcher_died})

  def stream(%__MODULE__{port: port, state: :running} = sub, {:EXIT, port, _reason}),
    do: fail(sub, %Error{reason: :launcher_died})

  def stream(%__MODULE__{port: port} = sub, {port, _}), do: {:ok, sub, []}
  def stream(%__MODULE__{port: port} = sub, {:EXIT, port, _}), do: {:ok, sub, []}
  def stream(%__MODULE__{}, _message), do: :unknown

  @doc """
  Waits for the next message of this child. Other messages stay in the owner's mailbox.

  Returns the result of `stream/2`, the exit again after the exit, or `:timeout` after `timeout`
  milliseconds. With a reference `ref`, a message `{ref, term}` also ends the wait, and is returned.
  """
  @spec next(t, timeout, reference) ::
          {:ok, t, [output]} | {:error, t, Error.t()} | :timeout | {reference, term}
  def next(sub, timeout, ref \\ make_ref())

  def next(%__MODULE__{state: {:exited, exit}} = sub, _timeout, _ref),
    do: {:ok, sub, [{:exit, exit}]}

  def next(%__MODULE__{state: {:failed, error}} = sub, _timeout, _ref), do: {:error, sub, error}

  def next(%__MODULE__{port: port} = sub, timeout, ref) do
    receive do
      {^port, _} = message -> stream(sub, message)
      {:EXIT, ^port, _} = message -> stream(sub, message)
      {^ref, _} = message -> message
    after
      timeout -> :timeout
    end
  end

  @doc """
  Starts the child's ladder and returns immediately. Any process may call it; the owner gets the
  outputs and the exit.

  Output that was not read yet is lost. Has no effect after the exit.
  """
  @spec request_stop(t) :: :ok
  def request_stop(%__MODULE__{port: port}) do
    _ = Launcher.send(port, Frame.stop())
    :ok
  end

  # --- Starting -----------------------------------------------------------------------------------

  defp start_child(frame, timeout) do
    case Launchers.take() do
      {:ok, port} ->
        # A launcher that was killed while it was idle reports it now.
        with {:error, %Error{reason: :launcher_died}} <- start_on(port, frame, timeout),
             do: start_anew(frame, timeout)

      :none ->
        start_anew(frame, timeout)
    end
  end

  defp start_anew(frame, timeout) do
    with {:ok, port} <- Launcher.open(), do: start_on(port, frame, timeout)
  end

  defp start_on(port, frame, timeout) do
    with true <- Launcher.send(port, frame),
         {:ok, os_pid} <- await_started(port, timeout) do
      {:ok, port, os_pid}
    else
      false -> abandon(port, %Error{reason: :launcher_died})
      error -> error
    end
  end

  defp await_started(port, timeout) do
    receive do
      {^port, {:data, frame}} ->
        case Frame.parse(frame) do
          {:started, os_pid} -> {:ok, os_pid}
          {:error, error} -> abandon(port, error)
          _ -> abandon(port, %Error{reason: :protocol, text: "expected STARTED"})
        end

      {^port, :eof} ->
        abandon(port, %Error{reason: :launcher_died})

      {:EXIT, ^port, _} ->
        abandon(port, %Error{reason: :launcher_died})
    after
      timeout -> abandon(port, %Error{reason: :start_timeout})
    end
  end

  defp abandon(port, error) do
    Launcher.close(port)
    {:error, error}
  end

  # --- Sending ------------------------------------------------------------------------------------

  # A port whose launcher has ended raises. Its last messages are still in the mailbox, so the value
  # stays unchanged and stream/2 reports the end.
  defp command(sub, frame) do
    if Launcher.send(sub.port, frame),
      do: {:ok, sub},
      else: {:error, sub, %Error{reason: :launcher_died}}
  end

  defp unless_failed(%__MODULE__{state: {:failed, error}} = sub), do: {:error, sub, error}
  defp unless_failed(%__MODULE__{} = sub), do: {:ok, sub}

  defp more_stdin(sub, bytes) do
    case send_pending(%{sub | stdin_credit: sub.stdin_credit + bytes}) do
      {:ok, sub} -> sub
      {:error, sub, _} -> sub
    end
  end

  defp send_pending(%{pending_bytes: 0, stdin: :closing} = sub) do
    with {:ok, sub} <- command(sub, Frame.stdin_eof()), do: {:ok, %{sub | stdin: :closed}}
  end

  defp send_pending(%{pending_bytes: left, stdin_credit: credit} = sub)
       when left == 0 or credit == 0,
       do: {:ok, sub}

  defp send_pending(sub) do
    {{:value, bytes}, pending} = :queue.out(sub.pending)
    size = byte_size(bytes) |> min(sub.stdin_credit) |> min(Frame.chunk())
    {now, later} = :erlang.split_binary(bytes, size)
    pending = if later == "", do: pending, else: :queue.in_r(later, pending)

    sub = %{
      sub
      | pending: pending,
        pending_bytes: sub.pending_bytes - size,
        stdin_credit: sub.stdin_credit - size
    }

    with {:ok, sub} <- command(sub, Frame.stdin(now)), do: send_pending(sub)
  end

  # --- Handling messages --------------------------------------------------------------------------

  defp seen(%{seen: seen} = sub) when seen + 1 < @seen_ack, do: %{sub | seen: seen + 1}

  defp seen(sub) do
    _ = command(sub, Frame.seen(sub.seen + 1))
    %{sub | seen: 0}
  end

  # --- stderr -------------------------------------------------------------------------------------

  defp took_stderr(sub, bytes) do
    sub = %{sub | stderr: append(sub.stderr, bytes, sub.stderr_limit)}
    taken = sub.stderr_taken + byte_size(bytes)

    if taken >= @stderr_ack do
      _ = command(sub, Frame.credit(:stderr, taken))
      %{sub | stderr_taken: 0}
    else
      %{sub | stderr_taken: taken}
    end
  end

  # Cut only at twice the limit, because cutting at every short line would copy the whole tail each
  # time.
  defp append(tail, bytes, limit) do
    tail = tail <> bytes
    if byte_size(tail) > 2 * limit, do: :binary.copy(newest(tail, limit)), else: tail
  end

  defp newest(bytes, limit) when byte_size(bytes) <= limit, do: bytes
  defp newest(bytes, limit), do: binary_part(bytes, byte_size(bytes), -limit)

  # --- Ending -------------------------------------------------------------------------------------

  defp stop_after(%{ladder: ladder, sweep_grace: sweep}) do
    graces = Enum.map(ladder, fn step -> elem(step, tuple_size(step) - 1) end)
    Enum.sum(graces) + sweep + @stop_margin
  end

  defp stop_until(sub, deadline) do
    with {:late, %{port: port}} <- await_stop(sub, deadline) do
      reason = if Port.info(port), do: :stop_timeout, else: :launcher_died
      abandon(port, %Error{reason: reason})
    end
  end

  defp await_stop(sub, deadline) do
    case command(sub, Frame.stop()) do
      {:ok, sub} -> await_exit(sub, deadline)
      # Its last messages are in the mailbox already.
      {:error, sub, _} -> await_exit(sub, now())
    end
  end

  defp await_exit(%{port: port} = sub, deadline) do
    receive do
      {^port, _} = message -> next_of_stop(stream(sub, message), deadline)
      {:EXIT, ^port, _} = message -> next_of_stop(stream(sub, message), deadline)
    after
      left(deadline) -> {:late, sub}
    end
  end

  defp next_of_stop({:ok, %{state: {:exited, exit}}, _outputs}, _deadline), do: {:ok, exit}
  defp next_of_stop({:ok, sub, _outputs}, deadline), do: await_exit(sub, deadline)
  defp next_of_stop({:error, _sub, error}, _deadline), do: {:error, error}

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(deadline - now(), 0)

  defp now, do: System.monotonic_time(:millisecond)

  defp fail(sub, error), do: {:error, finish(sub, {:failed, error}), error}

  defp finish(sub, state) do
    Launcher.close(sub.port)
    %{sub | state: state, pending: :queue.new(), pending_bytes: 0}
  end

  defimpl Inspect do
    # Neither arguments nor data, because both hold prompts and keys.
    def inspect(sub, _opts) do
      state = if is_tuple(sub.state), do: elem(sub.state, 0), else: sub.state
      "#Codex.Subprocess<#{sub.program} os_pid: #{sub.os_pid} #{state}>"
    end
  end
end
