defmodule Codex.CLI.Session do
  @moduledoc """
  An interactive session of the CLI, its TUI, in a pseudo-terminal.

      {:ok, session} = Codex.CLI.Session.start([], working_directory: "/srv/app")
      {:ok, exit} = Codex.CLI.Session.attach(session)

  `attach/2` shows the session on the terminal of this VM: `mix codex.tui` does that. Everything
  else is for programs that show a session elsewhere, such as a terminal in a web page: a session
  is a value as `Codex.Subprocess` is. The process that started it owns it, receives messages,
  passes them to `stream/2` and gets the bytes for the screen; `write/2` types.

      def handle_info(message, socket) do
        case Codex.CLI.Session.stream(socket.assigns.session, message) do
          {:ok, session, outputs} -> {:noreply, show(assign(socket, :session, session), outputs)}
          {:error, _session, error} -> {:stop, error, socket}
          :unknown -> {:noreply, socket}
        end
      end

  `guides/terminal.md` has a whole one, with Phoenix LiveView and xterm.js.

    * The bytes are those of a terminal, unchanged in both directions. The TUI asks the terminal
      questions (the position of the cursor, its kind) and waits for the answers: whatever shows the
      session answers them.
    * Output comes under credit. Without grants the TUI waits; nothing is dropped.
    * The session ends with its owner, with `stop/2`, and if the VM is killed: the terminal is
      closed, then SIGTERM and SIGKILL follow. No process of it remains, in any process group or
      session. A running command of the agent ends, too; the thread can be resumed.
    * A prompt is typed, as it would stand in the arguments otherwise, which all users of the
      machine can read. The TUI takes text and Enter that come at once for pasted text, so Enter
      (`"\\r"`) goes in a write of its own, a moment later.

  ## Options

  The first argument has the options of a client, as `Codex.start_thread/2` takes them.
  #{Codex.CLI.Session.Options.docs()}

  ## Errors

  `start/2`, `resume/3` and `fork/3` return:

    * `Codex.OptionError` - an invalid option
    * `{:unsupported_option, option, :interactive}` - the TUI has no such option
    * the reasons of `t:Codex.Reason.command/0`
    * `{:not_started, error}` - a `Codex.Subprocess.Error`
  """

  alias Codex.CLI.Program
  alias Codex.CLI.Session.{Options, Terminal}
  alias Codex.Exec.{Argv, Files}
  alias Codex.{OptionError, Subprocess, Telemetry}

  # The TUI ends immediately when its terminal is closed.
  @ladder [{:close_stdin, 1_000}, {:signal, :term, 500}]

  # The first version with `--no-daemon`. Earlier ones have no shared server.
  @daemons "0.160.1"

  @enforce_keys [:sub, :credit, :telemetry]
  defstruct @enforce_keys

  @typedoc "A running or ended session. The fields are private."
  @opaque t :: %__MODULE__{sub: Subprocess.t(), credit: :auto | :manual, telemetry: term()}

  @typedoc "Bytes for the screen, or the end of the session, which comes last."
  @type output :: {:data, binary()} | {:exit, Subprocess.Exit.t()}

  @typedoc "A thread: its id or name, the newest, or that which the user picks in the TUI."
  @type thread :: String.t() | :last | :pick

  @typedoc "Why a session did not start. See the list above."
  @type reason ::
          Codex.Reason.command() | {:not_started, Subprocess.Error.t()}

  @doc """
  Starts a session with a new thread, which begins with the first prompt. The caller owns it.

  Returns `{:ok, session}` or `{:error, reason}`.
  """
  @spec start(Codex.Options.t() | map() | keyword(), map() | keyword()) ::
          {:ok, t()} | {:error, reason()}
  def start(client \\ [], opts \\ []), do: open([], [], client, opts)

  @doc """
  Starts a session on a recorded thread: `"<id or name>"`, `:last` for the newest of the working
  directory, or `:pick` for a list in the TUI.

  With the option `remote`, the thread is one of a running app-server: see `guides/terminal.md`.
  Returns what `start/2` does. A thread that does not exist is an error on the screen, and exit
  status 1.
  """
  @spec resume(thread(), Codex.Options.t() | map() | keyword(), map() | keyword()) ::
          {:ok, t()} | {:error, reason()}
  def resume(thread, client \\ [], opts \\ []), do: on_thread("resume", thread, client, opts)

  @doc "Starts a session on a copy of a recorded thread. Arguments and results as `resume/3`."
  @spec fork(thread(), Codex.Options.t() | map() | keyword(), map() | keyword()) ::
          {:ok, t()} | {:error, reason()}
  def fork(thread, client \\ [], opts \\ []), do: on_thread("fork", thread, client, opts)

  defp on_thread(word, :last, client, opts), do: open([word, "--last"], [], client, opts)
  defp on_thread(word, :pick, client, opts), do: open([word], [], client, opts)

  # Neither an id nor a name can be taken for a flag.
  defp on_thread(word, thread, client, opts) when is_binary(thread) and thread != "",
    do: open([word], ["--", thread], client, opts)

  defp on_thread(_word, thread, _client, _opts),
    do: OptionError.wrong!(:thread, thread, "the id or name of a thread, :last or :pick")

  defp open(words, last, client, opts) do
    with {:ok, own, settings} <- Options.new(client, opts),
         {:ok, args} <- Argv.interactive(settings, words, last),
         {argv, files} = args |> put_own(alone(own, settings), words) |> Files.name() do
      Program.warn_once(hd(argv))

      case Subprocess.open(argv, options(args, own, files)) do
        {:ok, sub} ->
          telemetry = emit_start(settings.telemetry_prefix, words, sub)
          {:ok, %__MODULE__{sub: sub, credit: own.credit, telemetry: telemetry}}

        {:error, error} ->
          {:error, {:not_started, error}}
      end
    end
  end

  # A remote server is used in any case, and the CLI refuses the flag beside it.
  defp alone(own, %{remote: remote}), do: %{own | daemon: own.daemon or remote != nil}

  defp put_own(%{argv: [program | rest]}, own, words) do
    {given, rest} = Enum.split(rest, length(words))
    [program | given] ++ flags(own, program, words) ++ rest
  end

  defp flags(own, program, words) do
    for {flag, true} <- [
          {"--no-alt-screen", not own.alt_screen},
          {"--no-daemon", not own.daemon and daemons?(program)},
          {"--all", own.all and words != []},
          {"--include-non-interactive", own.include_non_interactive and words != []}
        ],
        do: flag
  end

  defp daemons?(program) do
    case Program.known_version(program) do
      {:ok, version} -> Version.compare(version, @daemons) != :lt
      _unknown -> true
    end
  end

  defp options(args, own, files) do
    [
      terminal: own.size,
      window: own.window,
      env: Map.put_new(args.env, "TERM", own.term),
      clear_env: args.clear_env,
      cwd: args.settings.working_directory,
      files: files,
      ladder: @ladder
    ]
  end

  @doc """
  Types bytes: characters, keys as a terminal sends them (`"\\r"` Enter, `<<3>>` Ctrl-C, `"\\e[A"`
  the arrow up), and answers to questions of the TUI.

  Never blocks. Errors: a `Codex.Subprocess.Error` with the reason `:exited` or `:launcher_died`.
  """
  @spec write(t(), iodata()) :: {:ok, t()} | {:error, t(), Subprocess.Error.t()}
  def write(%__MODULE__{} = session, data), do: put(session, Subprocess.write(session.sub, data))

  @doc """
  Changes the size of the terminal. The TUI draws its screen anew.

  Raises `ArgumentError` for an invalid size. Has no effect after the exit.
  """
  @spec resize(t(), {rows :: pos_integer(), cols :: pos_integer()}) ::
          {:ok, t()} | {:error, t(), Subprocess.Error.t()}
  def resize(%__MODULE__{} = session, size),
    do: put(session, Subprocess.resize(session.sub, size))

  @doc "Allows so many more bytes of output; for `credit: :manual`."
  @spec grant(t(), non_neg_integer()) :: {:ok, t()} | {:error, t(), Subprocess.Error.t()}
  def grant(%__MODULE__{} = session, bytes),
    do: put(session, Subprocess.grant(session.sub, bytes))

  defp put(session, {:ok, sub}), do: {:ok, %{session | sub: sub}}
  defp put(session, {:error, sub, error}), do: {:error, %{session | sub: sub}, error}

  @doc """
  Handles a message that the owner received.

    * `{:ok, session, outputs}` - a message of this session. `outputs` is a list in order, and may
      be empty: `{:data, bytes}`, at most 64 KB, and `{:exit, exit}`, which comes last
    * `{:error, session, error}` - the session is lost, and sends nothing more. `error` is a
      `Codex.Subprocess.Error`
    * `:unknown` - another message
  """
  @spec stream(t(), term()) ::
          {:ok, t(), [output()]} | {:error, t(), Subprocess.Error.t()} | :unknown
  def stream(%__MODULE__{} = session, message),
    do: result(session, Subprocess.stream(session.sub, message))

  @doc """
  Waits for the next message of this session and handles it as `stream/2` does. Returns `:timeout`
  after so many milliseconds. Other messages stay in the mailbox.
  """
  @spec next(t(), timeout()) ::
          {:ok, t(), [output()]} | {:error, t(), Subprocess.Error.t()} | :timeout
  def next(%__MODULE__{} = session, timeout \\ :infinity),
    do: result(session, Subprocess.next(session.sub, timeout))

  defp result(session, {:ok, sub, outputs}) do
    session = granted(%{session | sub: sub}, outputs)
    outputs = Enum.flat_map(outputs, &output/1)
    {:ok, emit_stop(session, outputs[:exit]), outputs}
  end

  defp result(session, {:error, sub, error}), do: {:error, %{session | sub: sub}, error}
  defp result(_session, other), do: other

  defp output({:stdout, bytes}), do: [{:data, bytes}]
  defp output({:exit, exit}), do: [{:exit, exit}]
  defp output(_other), do: []

  defp granted(%{credit: :manual} = session, _outputs), do: session

  defp granted(session, outputs) do
    bytes = for {:stdout, bytes} <- outputs, reduce: 0, do: (sum -> sum + byte_size(bytes))

    case Subprocess.grant(session.sub, bytes) do
      {:ok, sub} -> %{session | sub: sub}
      # Its last words are in the mailbox.
      {:error, sub, _error} -> %{session | sub: sub}
    end
  end

  @doc """
  Ends the session: closes its terminal, then sends SIGTERM and SIGKILL, to all of its processes.
  Waits for that.

  Returns `{:ok, exit}`, also if it had ended before, or `{:error, error}`. The value cannot be used
  again. To let the TUI end by itself, type `<<3>>` twice, or `/quit`.
  """
  @spec stop(t()) :: {:ok, Subprocess.Exit.t()} | {:error, Subprocess.Error.t()}
  def stop(%__MODULE__{} = session) do
    with {:ok, exit} <- Subprocess.stop(session.sub) do
      _ = emit_stop(session, exit)
      {:ok, exit}
    end
  end

  @doc "Returns the process id of the CLI."
  @spec os_pid(t()) :: pos_integer()
  def os_pid(%__MODULE__{sub: sub}), do: Subprocess.os_pid(sub)

  @doc """
  Shows the session on the terminal of this VM until it ends, and returns `{:ok, exit}`.

  The terminal is in raw mode meanwhile: every key goes to the TUI. Its size follows the window. It
  gets its former settings back in any case, also if the VM is killed. The caller must own the
  session. The first key after the end may be lost: the VM was reading it.

  Returns `{:error, {:no_terminal, reason}}`, and leaves the session running, if the VM has no
  terminal, or has an IEx shell on it (`reason` is a text); or `{:error, error}` with a
  `Codex.Subprocess.Error` if the session is lost.
  """
  @spec attach(t()) ::
          {:ok, Subprocess.Exit.t()} | {:error, {:no_terminal, String.t()} | Subprocess.Error.t()}
  def attach(%__MODULE__{} = session) do
    with {:ok, terminal} <- Terminal.open() do
      try do
        show(session, terminal)
      after
        Terminal.close(terminal)
      end
    end
  end

  defp show(session, terminal) do
    receive do
      message ->
        case Terminal.stream(terminal, message) do
          {:keys, keys} -> session |> write(keys) |> shown(terminal)
          {:size, size} -> session |> resize(size) |> shown(terminal)
          :closed -> stop(session)
          :unknown -> session |> stream(message) |> shown(session, terminal)
        end
    end
  end

  # The exit is in the mailbox.
  defp shown({:error, session, _error}, terminal), do: show(session, terminal)
  defp shown({:ok, session}, terminal), do: show(session, terminal)

  defp shown(:unknown, session, terminal), do: show(session, terminal)
  defp shown({:error, _session, error}, _before, _terminal), do: {:error, error}

  defp shown({:ok, session, outputs}, _before, terminal) do
    for {:data, bytes} <- outputs, do: Terminal.write(terminal, bytes)

    case outputs[:exit] do
      nil ->
        show(session, terminal)

      exit ->
        :ok = Terminal.leave(terminal)
        {:ok, exit}
    end
  end

  ## Telemetry

  defp emit_start(prefix, words, sub) do
    command = List.first(words) || "start"
    meta = %{originator: :sdk, command: command, os_pid: Subprocess.os_pid(sub)}
    Telemetry.execute(prefix ++ [:tui, :start], %{system_time: System.system_time()}, meta)
    {prefix, meta, System.monotonic_time()}
  end

  # Once: the exit may be asked for again.
  defp emit_stop(%{telemetry: started} = session, exit) when nil in [started, exit], do: session

  defp emit_stop(%{telemetry: {prefix, meta, began}} = session, exit) do
    meta = Map.merge(meta, %{exit_status: exit.status, signal: exit.signal})
    measurements = Map.put(Telemetry.spent(began), :system_time, System.system_time())
    Telemetry.execute(prefix ++ [:tui, :stop], measurements, meta)
    %{session | telemetry: nil}
  end

  defimpl Inspect do
    def inspect(session, opts),
      do:
        Inspect.Algebra.concat([
          "#Codex.CLI.Session<",
          Inspect.Algebra.to_doc(session.sub, opts),
          ">"
        ])
  end
end
