defmodule Codex.Exec.Turn do
  @moduledoc false
  # A turn as one process of `codex exec --json`. The turn is over after its last event and the exit
  # of the process. The end of the output alone means nothing, because a grandchild may hold the
  # pipe, and an exit alone means that the turn was lost.

  @behaviour Codex.Turn.Transport

  alias Codex.{
    Auth,
    Bridge,
    Events,
    Home,
    Items,
    JSONL,
    RateLimit,
    Review,
    Subprocess,
    Telemetry,
    Text
  }

  alias Codex.Auth.Rules
  alias Codex.CLI.Program
  alias Codex.Error.Redact
  alias Codex.Exec.{Argv, Files, HookLog, McpLog}
  alias Codex.Hooks.{Budget, Set}
  alias Codex.Telemetry.Debug
  alias Codex.Turn.{Cancellation, Extras, Job}

  # SIGINT makes Codex end its commands, also those in sessions of their own; SIGTERM leaves some
  # of them behind, for the launcher to find. Together below two seconds.
  @ladder [{:signal, :int, 1_000}, {:signal, :term, 500}]

  # How long a reader waits for the end of the CLI, and how long one whose turn has ended may take
  # to close its session before it is stopped.
  @grace 700
  @linger 1_000

  # A CLI that ends its turn may end the connection of its hooks before the end of the turn is read.
  @last_words 50

  # Credit beyond a pipe's own 64 KiB: enough to keep child and launcher busy while events are
  # handled. Half of it costs a fifth of the speed on machines with few processors, more of it gains
  # nothing (bench/pipe).
  @window 512 * 1024

  # Events that change the state of the run.
  @noted [Events.ThreadStarted, Events.TurnCompleted, Events.TurnFailed, Events.Unknown]
  @ends [Events.TurnCompleted, Events.TurnFailed]

  # Output that was no event, kept for the error message.
  @stray_limit 16 * 1024

  @enforce_keys [:sub, :decoder, :args, :kind, :call, :extras, :started_at]
  defstruct [
    :sub,
    :decoder,
    :args,
    :kind,
    :call,
    :extras,
    :started_at,
    :exit_deadline,
    :exit,
    :bridge,
    :hooks,
    :verdict,
    :lost_at,
    :mcp_log,
    :debug,
    :telemetry,
    hook_log: %HookLog{},
    to_grant: 0,
    ended?: false,
    started?: false,
    wrong_thread?: false,
    stray: "",
    warnings: []
  ]

  @impl true
  def unsupported, do: [:steer, :interrupt, :review_of_thread]

  @impl true
  def prepare(job) do
    with {:ok, args} <- Argv.build(job),
         :ok <- exists(job.task, job.settings.working_directory),
         mentions = Rules.mentions(Argv.home_surroundings(args)),
         :ok <- if(mentions.rules?, do: Auth.allow(Argv.surroundings(args)), else: :ok),
         do: {:ok, %{job | plan: %{args | mcp_servers?: mentions.mcp_servers?}}}
  end

  defp exists({:review, target}, directory), do: Review.Target.exists(target, directory)
  defp exists(_run, _directory), do: :ok

  @impl true
  def account(job), do: RateLimit.account(job.settings)

  @impl true
  def secrets(job), do: Argv.secrets(job.plan)

  @impl true
  def home(job) do
    case Home.resolve(env: Argv.home_surroundings(job.plan)[:env]) do
      {:ok, home} -> home
      {:error, _reason} -> nil
    end
  end

  ## Opening

  @impl true
  def open(job, how, context) do
    case args(how, job) do
      {:ok, args} -> hooks(args, job, context)
      {:error, reason} -> {:failed, {:next_attempt, reason}, nil}
    end
  end

  defp hooks(%{hooks: nil} = args, job, context), do: bridge(args, job, context)

  defp hooks(args, job, context) do
    set = Set.begin(args.hooks, context.call.cancel, context.spent)
    home = fn -> home(%{job | plan: args}) end

    case Budget.begin(set, job.settings.budget, job.thread, home) do
      :ok -> bridge(%{args | hooks: set}, job, context)
      {:error, reason} -> {:failed, reason, nil}
    end
  end

  defp bridge(%{bridge: nil} = args, job, context), do: start(args, nil, job, context)

  defp bridge(%{hooks: set} = args, job, context) do
    ended = if set, do: fn how -> if how == :lost, do: Set.tell(set, :lost) end

    with {:ok, services} <- Argv.services(args, set, job.thread),
         {:ok, bridge} <- Bridge.open(services, ended) do
      with {:failed, _cause, _run} = failed <-
             args |> Argv.put_bridge(bridge) |> start(bridge, job, context) do
        :ok = Bridge.close(bridge)
        failed
      end
    else
      {:error, reason} -> {:failed, reason, nil}
    end
  end

  defp args(:first, job), do: {:ok, job.plan}

  defp args({:resume, id, prompt}, job), do: job |> Job.resume(id, prompt) |> Argv.build()

  # Another thread may be the newest by now.
  defp args({:repeat, id}, %{thread: %{resume: :last}} = job) when is_binary(id),
    do: job |> Job.repeat(id) |> Argv.build()

  defp args({:repeat, _id}, job), do: {:ok, job.plan}

  defp start(args, bridge, job, context) do
    Program.warn_once(hd(args.argv))
    {args, mcp_log} = McpLog.ask(args)
    decoder = args.settings |> Map.take([:max_line_bytes, :max_line_nodes]) |> decoder()
    {argv, files} = Files.name(args.argv)
    started_at = System.system_time(:millisecond)

    case Subprocess.open(argv, options(args, files)) do
      {:ok, sub} ->
        :ok = Cancellation.started(context.call, sub)
        debug = Debug.new("exec #{Subprocess.os_pid(sub)}", fn -> Argv.secrets(args) end)
        more = [clear_env: args.clear_env, stdin_bytes: IO.iodata_length(args.stdin)]
        :ok = Debug.started(debug, argv, args.env, more)

        {:ok, [],
         %__MODULE__{
           sub: sub,
           decoder: decoder,
           args: args,
           kind: elem(job.task, 0),
           bridge: bridge,
           hooks: args.hooks,
           call: context.call,
           extras: Extras.new(args.settings.keep, context.tee, fn -> Argv.secrets(args) end),
           started_at: started_at,
           mcp_log: mcp_log,
           debug: debug,
           telemetry: emit_start(context.telemetry, sub)
         }}

      {:error, error} ->
        {:failed, {:not_started, error, args.settings.start_timeout_ms}, nil}
    end
  end

  defp decoder(limits), do: limits |> Enum.reject(&match?({_, nil}, &1)) |> JSONL.new()

  defp options(args, files) do
    start = for ms <- List.wrap(args.settings.start_timeout_ms), do: {:start_timeout, ms}
    own = [input: args.stdin, env: args.env, clear_env: args.clear_env, files: files]
    own ++ [ladder: @ladder, window: @window] ++ start
  end

  ## Waiting

  @impl true
  def next(%{exit: nil, ended?: false, lost_at: at} = run, ms) when at != nil do
    # The CLI goes on without hooks.
    case at - now() do
      left when left > 0 -> run |> grant() |> wait(min(left, ms))
      _over -> {:failed, {:blocked, :lost}, run}
    end
  end

  def next(%{exit: nil} = run, ms) do
    case patience(run, ms) do
      ms when ms > 0 or run.exit_deadline == nil -> run |> grant() |> wait(ms)
      # The turn has ended, so a CLI that is still running is no error.
      _over when run.verdict != nil -> {:failed, run.verdict, run}
      _over when run.ended? -> {:done, run}
      _over -> {:failed, :still_running, run}
    end
  end

  def next(%{verdict: verdict} = run, _ms) when verdict != nil, do: {:failed, verdict, run}
  def next(%{ended?: true} = run, _ms), do: {:done, run}
  def next(run, _ms), do: {:failed, :exited, run}

  defp patience(%{exit_deadline: nil}, ms), do: ms
  # A program that keeps printing does not extend the deadline.
  defp patience(%{exit_deadline: deadline}, ms), do: min(deadline - now(), ms)

  # Bytes that were returned have been consumed when the caller wants more.
  defp grant(%{to_grant: 0} = run), do: run

  defp grant(%{to_grant: bytes} = run) do
    case Subprocess.grant(run.sub, bytes) do
      {:ok, sub} -> %{run | sub: sub, to_grant: 0}
      # Its last words are in the mailbox.
      {:error, sub, _} -> %{run | sub: sub, to_grant: 0}
    end
  end

  defp wait(run, ms) do
    case Subprocess.next(run.sub, ms, run.call.cancel) do
      # An acknowledgement of our stdin.
      {:ok, sub, []} -> {:none, %{run | sub: sub}}
      {:ok, sub, outputs} -> outputs(outputs, %{run | sub: sub})
      {:error, sub, error} -> {:failed, {:lost, error}, %{run | sub: sub}}
      :timeout -> {:timeout, run}
      {_cancel, :cancelled} -> {:cancelled, run}
      {_cancel, {:hook, ref, message}} -> hook(message, ref, run)
    end
  end

  # What hooks of this attempt decided.
  defp hook(message, ref, %{hooks: %{ref: ref}} = run) do
    case message do
      {:blocked, item} -> blocked(item, run)
      {:check, _from, _text} = check -> {status(run), [check], run}
      {:masked, count} -> {status(run), [{:masked, %{outputs: count}}], run}
      {:verdict, cause} -> {:none, %{run | verdict: run.verdict || cause}}
      {:stop, cause} -> {:failed, cause, run}
      :lost -> {:none, %{run | lost_at: now() + @last_words}}
    end
  end

  defp hook(_message, _of_an_earlier_attempt, run), do: {:none, run}

  defp blocked(item, run) do
    log = if item.event == :pre_tool_use, do: HookLog.own(run.hook_log, item.reason)
    {status(run), [%Events.ItemCompleted{item: item}], %{run | hook_log: log || run.hook_log}}
  end

  defp outputs(outputs, run) do
    {events, run} =
      case outputs do
        [output] -> output(output, run)
        outputs -> Enum.flat_map_reduce(outputs, run, &output/2)
      end

    cond do
      run.wrong_thread? -> {:failed, wrong_thread(run), run}
      unhooked?(run, events) -> {:failed, {:blocked, :not_run}, run}
      run.warnings != [] and run.started? -> warn(events, run)
      true -> {status(run), events, run}
    end
  end

  # The prompt comes to the hooks before the model can do anything.
  defp unhooked?(%{hooks: nil}, _events), do: false

  defp unhooked?(%{hooks: set}, events) do
    not Set.called?(set) and Enum.any?(events, &work?/1)
  end

  defp work?(%type{}) when type == Events.TurnCompleted, do: true

  defp work?(%{item: %type{}}), do: type not in [Items.Error, Items.HookBlocked]
  defp work?(_event), do: false

  # From the end of the turn or of the output on, only the exit is missing.
  defp status(%{exit_deadline: nil}), do: :ok
  defp status(_run), do: :waiting

  # The log has its own pipe. Its warnings are put after the start of the thread and before the end
  # of the turn, like those of the CLI.
  defp warn(events, run) do
    {before, rest} = Enum.split_while(events, &(&1.__struct__ not in @ends))
    warnings = Redact.redact(run.warnings, Argv.secrets(run.args))
    {status(run), before ++ warnings ++ rest, %{run | warnings: []}}
  end

  defp output({:stdout, bytes}, run) do
    events = run.decoder |> JSONL.feed(bytes) |> of_kind(run.kind)
    extras = Extras.add(run.extras, bytes)
    debug = Debug.received(run.debug, bytes, events)
    to_grant = run.to_grant + byte_size(bytes)
    {events, note(events, %{run | extras: extras, debug: debug, to_grant: to_grant})}
  end

  defp output({:stderr, bytes}, run) do
    :ok = Extras.stderr(run.extras, bytes)
    :ok = Debug.stderr(run.debug, bytes)
    {warnings, log} = McpLog.feed(run.mcp_log, bytes)
    warnings = if run.ended?, do: [], else: run.warnings ++ warnings
    {refused, hook_log} = HookLog.feed(run.hook_log, bytes)
    events = for item <- refused, not run.ended?, do: %Events.ItemCompleted{item: item}
    {events, %{run | mcp_log: log, warnings: warnings, hook_log: hook_log}}
  end

  defp output({:eof, :stdout}, run) do
    events = run.decoder |> JSONL.finish() |> of_kind(run.kind)
    {events, events |> note(run) |> await_exit()}
  end

  defp output({:eof, :stderr}, run), do: {[], run}
  defp output({:exit, exit}, run), do: {[], %{run | exit: exit}}

  # The CLI does not count tokens of a review, and reports zeros.
  defp of_kind(events, :run), do: events
  defp of_kind(events, :review), do: Enum.map(events, &uncounted/1)

  defp uncounted(%Events.TurnCompleted{usage: %{} = usage} = event),
    do: if(Enum.all?(usage, &match?({_, 0}, &1)), do: %{event | usage: nil}, else: event)

  defp uncounted(event), do: event

  # Most events do not matter here, and there are many, so only their names are checked.
  defp note([%name{} = event | events], run) when name in @noted,
    do: note(events, note_one(event, run))

  defp note([_event | events], run), do: note(events, run)
  defp note([], run), do: run

  defp note_one(%Events.ThreadStarted{thread_id: id}, run),
    do: %{run | started?: true, wrong_thread?: wrong_thread?(run, id)}

  defp note_one(%type{}, run) when type in @ends, do: await_exit(%{run | ended?: true})

  defp note_one(%Events.Unknown{raw: raw, error: {_, _}}, run)
       when byte_size(run.stray) < @stray_limit do
    line = binary_part(raw, 0, min(byte_size(raw), @stray_limit))
    %{run | stray: run.stray <> line <> "\n"}
  end

  defp note_one(_event, run), do: run

  defp await_exit(run) do
    deadline = now() + run.args.settings.exit_timeout_ms
    %{run | exit_deadline: run.exit_deadline || deadline}
  end

  ## The thread

  defp wrong_thread(run),
    do: {:thread_not_found, run.args.resume, "the CLI started a new thread instead"}

  # The CLI starts a new thread if it knows no thread of this name. An id must come back as it is;
  # of a name we know only that its thread is older than this run, and ids are UUIDs with a time
  # (version 7).
  defp wrong_thread?(%{args: %{resume: resume}}, _id) when resume in [nil, :last], do: false
  # A fork is another thread; the CLI refuses to fork a thread that it does not know.
  defp wrong_thread?(%{args: %{resume: {:fork, _}}}, _id), do: false
  defp wrong_thread?(%{args: %{resume: id}}, id), do: false
  defp wrong_thread?(_run, id) when not is_binary(id), do: true

  defp wrong_thread?(%{args: %{resume: resume}, started_at: started_at}, id) do
    if resume =~ ~r/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
      do: String.downcase(resume) != String.downcase(id),
      else: uuid_time(id) >= started_at
  end

  defp uuid_time(<<high::binary-8, ?-, low::binary-4, ?-, ?7, _::binary>>) do
    case Integer.parse(high <> low, 16) do
      {ms, ""} -> ms
      _ -> 0
    end
  end

  defp uuid_time(_id), do: 0

  ## Ending

  @impl true
  def ending(run) do
    dropped = if run.exit, do: run.exit.stderr_dropped, else: 0

    {%{
       exit: run.exit,
       stderr: stderr(run),
       stderr_truncated?: dropped > 0,
       started?: run.started?,
       resume: run.args.resume
     }, []}
  end

  # The tail may begin inside of a character, and a program may print anything.
  @impl true
  def stderr(run) do
    log = McpLog.strip(Subprocess.stderr(run.sub), run.mcp_log)
    (log <> run.stray) |> String.trim_trailing() |> Text.utf8()
  end

  @impl true
  def close(run) do
    # If the CLI takes longer to stop, another process owns it by now.
    run = stop(run, now() + @grace)
    :ok = Bridge.close(run.bridge)
    emit_stop(run)
    :ok = Debug.ended(run.debug, run.exit)
    :ok = Cancellation.ended(run.call)
    run
  end

  # Its turn is over: it gets the time that it has for its exit, or a moment, before it is stopped.
  defp stop(%{ended?: true, exit: nil} = run, deadline) do
    case linger(run, min(deadline, run.exit_deadline)) do
      %{exit: nil} = run when deadline < run.exit_deadline ->
        _ = Subprocess.hand_over(run.sub, &stop_behind(%{run | sub: &1}))
        run

      run ->
        stop(%{run | ended?: false}, deadline)
    end
  end

  defp stop(%{exit: nil} = run, deadline) do
    case Subprocess.stop_soon(run.sub, grace: max(deadline - now(), 0)) do
      {:behind, _pid} -> run
      result -> exited(run, result)
    end
  end

  defp stop(run, _deadline), do: run

  defp stop_behind(run) do
    run = linger(run, min(now() + @linger, run.exit_deadline))
    if run.exit, do: run, else: exited(run, Subprocess.stop(run.sub))
  end

  defp exited(run, {:ok, exit}), do: %{run | exit: exit}
  defp exited(run, {:error, _}), do: run

  # Until the CLI has exited. It may be closing its session.
  defp linger(%{exit: exit} = run, _deadline) when exit != nil, do: run

  defp linger(run, deadline) do
    run = grant(run)

    case Subprocess.next(run.sub, max(deadline - now(), 0)) do
      {:ok, sub, outputs} ->
        bytes = for {:stdout, bytes} <- outputs, reduce: 0, do: (sum -> sum + byte_size(bytes))
        exit = Enum.find_value(outputs, &exit_of/1)
        for {:stderr, bytes} <- outputs, do: :ok = Extras.stderr(run.extras, bytes)
        linger(%{run | sub: sub, to_grant: bytes, exit: exit}, deadline)

      {:error, sub, _error} ->
        %{run | sub: sub}

      :timeout ->
        run
    end
  end

  defp exit_of({:exit, exit}), do: exit
  defp exit_of(_output), do: nil

  defp now, do: System.monotonic_time(:millisecond)

  ## Telemetry

  defp emit_start(nil, _sub), do: nil

  defp emit_start({prefix, meta}, sub) do
    meta = Map.put(meta, :os_pid, Subprocess.os_pid(sub))
    Telemetry.execute(prefix ++ [:process, :start], %{system_time: System.system_time()}, meta)
    {prefix, meta, System.monotonic_time()}
  end

  defp emit_stop(%{telemetry: nil}), do: :ok

  defp emit_stop(%{telemetry: {prefix, meta, began}} = run) do
    exit = run.exit || %{status: nil, signal: nil, stderr_dropped: 0}

    meta =
      Map.merge(meta, %{
        exit_status: exit.status,
        signal: exit.signal,
        dropped_stderr_bytes: exit.stderr_dropped
      })

    measurements = Map.put(Telemetry.spent(began), :system_time, System.system_time())
    Telemetry.execute(prefix ++ [:process, :stop], measurements, meta)
  end
end
