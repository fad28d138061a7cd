defmodule Codex.Exec.Run do
  @moduledoc false
  # One run of the CLI as the state of a stream, in the process that reads it: the child, the decoder, and what is
  # still missing to its end. That is the turn's terminal event and the exit; end of output alone means nothing, because
  # a grandchild may hold it open, and the exit alone means that the turn was lost.

  alias Codex.{
    CLI,
    Clocks,
    Error,
    Events,
    JSONL,
    RateLimit,
    Subprocess,
    Text
  }

  alias Codex.Clocks.Limits
  alias Codex.Error.Redact
  alias Codex.Exec.{Args, Files, Loss, McpLog}
  alias Codex.Telemetry
  alias Codex.Telemetry.{Debug, Span}
  alias Codex.Turn.{Cancellation, Extras, Running}

  # SIGINT makes Codex end its commands, also those in sessions of their own; SIGTERM leaves some of them behind, for the
  # launcher to find. Together below two seconds.
  @ladder [{:signal, :int, 1_000}, {:signal, :term, 500}]

  # How long a reader waits for the end of the CLI, and how long one whose turn has ended may take
  # to close its session before it is stopped.
  @grace 700
  @linger 1_000

  # Credit beyond a pipe's own 64 KiB: enough to keep child and launcher busy while events are handled. Half of it costs a
  # fifth of the speed where processors are few, more of it gains nothing (bench/pipe).
  @window 512 * 1024

  @failing [Events.Error, Events.TurnFailed]
  @telling [Events.ThreadStarted, Events.TurnCompleted, Events.Unknown] ++ @failing

  @ends [Events.TurnCompleted, Events.TurnFailed]

  # Output that was no event, kept for the error message.
  @stray_limit 16 * 1024

  @enforce_keys [:sub, :decoder, :args, :clocks, :call]
  defstruct [
    :sub,
    :decoder,
    :args,
    :clocks,
    :call,
    :own,
    :extras,
    :exit_deadline,
    to_grant: 0,
    silence_option: :timeout_ms,
    late: nil,
    ended?: false,
    exit: nil,
    started?: false,
    failing: 0,
    event: nil,
    secrets: nil,
    stray: "",
    stopped?: false,
    began: nil,
    started_at: 0,
    mcp_log: nil,
    debug: nil,
    unheard: []
  ]

  @typedoc """
  The call that a run is part of, where there may be several: since when it goes on, in ms of the monotonic clock, and the flag
  that tells that it was cancelled.
  """
  @type call :: Codex.Retry.Attempts.call()

  @doc "Starts the CLI, hands it the prompt and closes its stdin."
  def start(args, default_timeout, call \\ nil)

  def start(args, default_timeout, nil) do
    own = Cancellation.begin(args.tokens, args.about)
    call = own |> Map.take([:cancelled, :cancel, :ref]) |> Map.put(:since, now())

    try do
      %{start(args, default_timeout, call) | own: own}
    rescue
      error ->
        Cancellation.finish(own)
        reraise error, __STACKTRACE__
    end
  end

  def start(args, default_timeout, call) do
    CLI.warn_once(hd(args.argv))
    {args, mcp_log} = McpLog.ask(args)
    # Before there is a child: what cannot be had must not leave one.
    decoder =
      args.settings
      |> Map.take([:max_line_bytes, :max_line_nodes])
      |> Enum.reject(&match?({_, nil}, &1))
      |> JSONL.new()

    {argv, files} = Files.name(args.argv)

    opts = [
      env: args.env,
      clear_env: args.clear_env,
      ladder: @ladder,
      window: @window,
      files: files
    ]

    started_at = System.system_time(:millisecond)
    clocks = clocks(args.settings, default_timeout, call)

    opts = [input: args.stdin] ++ opts ++ start_timeout(args.settings)

    case Subprocess.open(argv, opts) do
      {:ok, sub} ->
        :ok = Cancellation.started(call, sub)
        debug = Debug.new("exec #{Subprocess.os_pid(sub)}", fn -> Args.secrets(args) end)
        more = [clear_env: args.clear_env, stdin_bytes: IO.iodata_length(args.stdin)]
        :ok = Debug.started(debug, argv, args.env, more)

        %__MODULE__{
          sub: sub,
          began: tell_start(args.telemetry, sub),
          decoder: decoder,
          args: args,
          clocks: clocks,
          silence_option: Limits.silence_option(args.settings, default_timeout),
          call: call,
          extras: Extras.new(args.settings.keep),
          started_at: started_at,
          mcp_log: mcp_log,
          debug: debug
        }

      {:error, error} ->
        raise Error.normalize(Loss.not_started(error, args.settings.start_timeout_ms))
    end
  end

  @doc "The same, as a value."
  @spec try_start(Args.t(), timeout(), call()) ::
          {:ok, %__MODULE__{}} | {:error, Error.t()}
  def try_start(args, default_timeout, call) do
    {:ok, start(args, default_timeout, call)}
  rescue
    error in Error -> {:error, error}
  end

  defp start_timeout(%{start_timeout_ms: ms}) when is_integer(ms), do: [start_timeout: ms]
  defp start_timeout(_settings), do: []

  defp clocks(settings, default, call),
    do: Clocks.new(Limits.of(settings, default), now(), call.since)

  @doc "The next events, as `Stream.resource/3` wants them."
  def next(%{exit: nil} = run) do
    asked_at = now()
    run = grant(%{run | clocks: Clocks.resume(run.clocks, asked_at)})

    with due when due != :over <- patience(run, asked_at) do
      case Clocks.look(due, run.late) do
        {:wait, ms, late} -> wait(%{run | late: late}, ms)
        {:expired, name, limit} -> fail(run, expired(run, name, limit))
      end
    else
      :over -> out_of_time(run)
    end
  end

  def next(%{ended?: true, extras: nil} = run), do: {:halt, run}
  def next(%{ended?: true} = run), do: {extras(run), %{run | extras: nil}}
  def next(run), do: fail(run, cut_short(run))

  defp wait(run, ms) do
    case Subprocess.next(run.sub, ms, run.call.cancel) do
      {:ok, sub, outputs} -> outputs(outputs, %{run | sub: sub}, now())
      {:error, sub, error} -> fail(%{run | sub: sub}, Loss.lost(error))
      :timeout -> out_of_time(run)
      {_cancel, :cancelled} -> cancelled(run)
    end
  end

  # The turn has ended, and there is nothing to cancel.
  defp cancelled(%{ended?: true} = run), do: {:halt, stop(run)}

  defp cancelled(run) do
    run = stop(run)
    fail(run, if(run.exit, do: cut_short(run), else: Loss.cancelled()))
  end

  # An acknowledgement of what we wrote says nothing of the turn.
  defp outputs([], run, _now), do: {[], pause(run)}

  defp outputs(outputs, run, now) do
    {events, run} =
      case outputs do
        [output] -> output(output, run)
        outputs -> Enum.flat_map_reduce(outputs, run, &output/2)
      end

    {events, run} = warn(events, run)
    clocks = run.clocks |> Clocks.heard(now) |> Clocks.saw(events, now)
    {events, pause(%{run | clocks: clocks})}
  end

  # The log comes on a pipe of its own: its warnings stand after the start of the thread and before
  # the end of the turn, as those of the CLI do.
  defp warn(events, %{unheard: [_ | _], started?: true} = run) do
    run = know_secrets(run)
    {before, rest} = Enum.split_while(events, &(&1.__struct__ not in @ends))
    {before ++ Redact.redact(run.unheard, run.secrets) ++ rest, %{run | unheard: []}}
  end

  defp warn(events, run), do: {events, run}

  # Until the reader asks for more.
  defp pause(run), do: %{run | clocks: Clocks.pause(run.clocks, now())}

  @doc "The same, but a run that is lost ends with `{:failed, exception}`: its reader keeps what came before."
  def next_or_failure(:failed), do: {:halt, :failed}

  def next_or_failure(run) do
    next(run)
  rescue
    error in Error -> {[{:failed, error} | extras(run)], :failed}
  end

  defp extras(run) do
    stderr = fn -> Redact.redact(words(run), Args.secrets(run.args)) end
    Extras.elements(run.extras, stderr)
  end

  # What was handed out has been consumed when more is asked for.
  defp grant(%{to_grant: 0} = run), do: run

  defp grant(%{to_grant: bytes} = run) do
    case Subprocess.grant(run.sub, bytes) do
      {:ok, sub} -> %{run | sub: sub, to_grant: 0}
      # Its last words are in the mailbox.
      {:error, sub, _} -> %{run | sub: sub, to_grant: 0}
    end
  end

  defp output({:stdout, bytes}, run) do
    events = JSONL.feed(run.decoder, bytes)
    extras = Extras.add(run.extras, bytes)
    debug = Debug.heard(run.debug, bytes, events)
    to_grant = run.to_grant + byte_size(bytes)
    tell(%{run | extras: extras, debug: debug, to_grant: to_grant}, events)
  end

  defp output({:stderr, bytes}, run) do
    :ok = Debug.stderr(run.debug, bytes)
    {warnings, log} = McpLog.feed(run.mcp_log, bytes)
    unheard = if run.ended?, do: [], else: run.unheard ++ warnings
    {[], %{run | mcp_log: log, unheard: unheard}}
  end

  defp output({:eof, :stdout}, run) do
    {events, run} = tell(run, JSONL.finish(run.decoder))
    {events, %{run | exit_deadline: run.exit_deadline || deadline(run)}}
  end

  defp output({:eof, :stderr}, run), do: {[], run}
  defp output({:exit, exit}, run), do: {[], %{run | exit: exit}}

  # What providers say of a failure may have our own key in it.
  defp tell(%{failing: failing} = run, events) do
    case saw(run, events) do
      %{failing: ^failing} = run -> {events, run}
      run -> redacted(events, know_secrets(run))
    end
  end

  defp redacted(events, run), do: {Enum.map(events, &redact(&1, run)), run}

  # Looked up with the first failure: most runs have none, and some have thousands.
  defp know_secrets(%{secrets: nil} = run), do: %{run | secrets: Args.secrets(run.args)}
  defp know_secrets(run), do: run

  defp redact(%type{} = event, run) when type in @failing,
    do: Redact.redact(event, run.secrets)

  defp redact(event, _run), do: event

  # Most events tell the run nothing, and there are many: one look at their name.
  defp saw(run, [%{__struct__: name} = event | events]) when name in @telling,
    do: saw(see(event, run), events)

  defp saw(run, [_event | events]), do: saw(run, events)
  defp saw(run, []), do: run

  defp see(%Events.ThreadStarted{thread_id: id}, run) do
    if wrong_thread?(run, id),
      do:
        fail(run, Loss.thread_not_found(run.args.resume, "the CLI started a new thread instead")),
      else: begun(run, id)
  end

  defp see(%Events.TurnCompleted{}, run), do: ended(run)

  defp see(%Events.TurnFailed{error: error}, run) do
    :ok = RateLimit.observe(RateLimit.account(run.args.settings), Error.normalize(error))
    ended(%{run | failing: run.failing + 1})
  end

  # It ends nothing; of a turn that ends without a word, the last one says what the CLI was struggling with.
  defp see(%Events.Error{} = event, run) do
    run = know_secrets(run)
    %{run | failing: run.failing + 1, event: redact(event, run)}
  end

  defp see(%Events.Unknown{raw: raw, error: {_, _}}, run)
       when byte_size(run.stray) < @stray_limit,
       do: %{
         run
         | stray: run.stray <> binary_part(raw, 0, min(byte_size(raw), @stray_limit)) <> "\n"
       }

  defp see(_event, run), do: run

  defp begun(run, id) do
    :ok = Running.begun(run.call.ref, id)
    %{run | started?: true}
  end

  defp ended(run), do: %{run | ended?: true, exit_deadline: run.exit_deadline || deadline(run)}

  # The CLI starts a new thread where it knows no thread of this name. An id must come back as it is; of a name we know
  # only that its thread is older than this run, and ids are UUIDs with a time (version 7).
  defp wrong_thread?(%{args: %{resume: resume}}, _id) when resume in [nil, :last], do: false
  # A fork is a thread of its own; the CLI refuses one of a thread that it does not know.
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

  ## Waiting

  defp patience(%{exit_deadline: nil, clocks: clocks}, now), do: Clocks.due(clocks, now)
  # A program that keeps printing is no reason to wait for it longer.
  defp patience(%{exit_deadline: deadline, clocks: clocks}, now) do
    case min(deadline - now, Clocks.left(clocks, now)) do
      left when left <= 0 -> :over
      left -> {:wait, left}
    end
  end

  defp deadline(run), do: now() + run.args.settings.exit_timeout_ms

  # The turn has ended: what the CLI does then is not worth an error.
  defp out_of_time(%{ended?: true} = run) do
    {:halt, stop(run)}
  end

  defp out_of_time(%{exit_deadline: nil} = run) do
    case Clocks.due(run.clocks, now()) do
      {:expired, clock, limit} -> fail(run, expired(run, clock, limit))
      {:wait, ms} -> wait(run, ms)
    end
  end

  defp out_of_time(run) do
    if Clocks.left(run.clocks, now()) <= 0,
      do: fail(run, expired(run, :total, run.clocks.total)),
      else: fail(run, Loss.lives_on())
  end

  defp expired(run, name, limit),
    do: Limits.error(run.clocks, name, limit, run.silence_option)

  defp now, do: System.monotonic_time(:millisecond)

  ## Ending

  # Raised here, so that the error has what stderr said; `Stream.resource/3` calls `stop/1` with the state before.
  defp fail(run, error) do
    run = stop(run)
    error = %{error | stderr: words(run), stderr_truncated?: dropped(run) > 0, event: run.event}
    raise error |> Redact.redact(Args.secrets(run.args)) |> Error.normalize()
  end

  defp cut_short(run) do
    Loss.cut_short(%{
      exit: run.exit,
      said: words(run),
      event: run.event,
      started?: run.started?,
      cancelled?: Cancellation.cancelled?(run.call),
      resume: run.args.resume
    })
  end

  # The tail may begin inside of a character, and a program may print anything.
  defp words(run),
    do:
      (McpLog.strip(Subprocess.stderr(run.sub), run.mcp_log) <> run.stray)
      |> String.trim_trailing()
      |> Text.utf8()

  defp dropped(%{exit: %{stderr_dropped: n}}), do: n
  defp dropped(_run), do: 0

  # Until the CLI has exited. It may be closing its session.
  defp linger(%{exit: exit} = run, _deadline) when exit != nil, do: run

  defp linger(run, deadline) do
    run = grant(run)

    case Subprocess.next(run.sub, max(deadline - now(), 0)) do
      {:ok, sub, outputs} ->
        bytes = for {:stdout, bytes} <- outputs, reduce: 0, do: (sum -> sum + byte_size(bytes))

        exit =
          Enum.find_value(outputs, fn output -> match?({:exit, _}, output) && elem(output, 1) end)

        linger(%{run | sub: sub, to_grant: bytes, exit: exit}, deadline)

      {:error, sub, _error} ->
        %{run | sub: sub}

      :timeout ->
        run
    end
  end

  @doc """
  Stops the CLI if it still runs, and waits for its end for a moment. What takes longer, a process
  of
  its own goes on with.
  """
  def stop(:failed), do: :failed
  def stop(%{stopped?: true} = run), do: run

  def stop(run) do
    # After an error, the stream stops the state that it had before.
    run = if Subprocess.handed_over?(run.sub), do: run, else: stop_now(run)
    :ok = Cancellation.ended(run.call)
    if run.own, do: Cancellation.finish(run.own)
    %{run | stopped?: true}
  end

  defp stop_now(run) do
    run = stop_child(run, now() + @grace)
    tell_stop(run)
    :ok = Debug.ended(run.debug, run.exit)
    run
  end

  # Its turn is over: it gets the time that it has for its exit, or a moment, before it is stopped.
  defp stop_child(%{ended?: true, exit: nil} = run, deadline) do
    case linger(run, min(deadline, run.exit_deadline)) do
      %{exit: nil} = run when deadline < run.exit_deadline ->
        _ = Subprocess.hand_over(run.sub, &stop_behind(%{run | sub: &1}))
        run

      run ->
        stop_child(%{run | ended?: false}, deadline)
    end
  end

  defp stop_child(%{exit: nil} = run, deadline) do
    case Subprocess.stop_soon(run.sub,
           grace: max(deadline - now(), 0)
         ) do
      {:behind, _pid} -> run
      result -> exited(run, result)
    end
  end

  defp stop_child(run, _deadline), do: run

  defp stop_behind(run) do
    run = linger(run, min(now() + @linger, run.exit_deadline))
    if run.exit, do: run, else: exited(run, Subprocess.stop(run.sub))
  end

  defp exited(run, {:ok, exit}), do: %{run | exit: exit}
  defp exited(run, {:error, _}), do: run

  # --- Telemetry ----------------------------------------------------------------------------------------------------

  defp tell_start(nil, _sub), do: nil

  defp tell_start({prefix, meta}, sub) do
    meta = Map.put(meta, :os_pid, Subprocess.os_pid(sub))
    Telemetry.execute(prefix ++ [:process, :start], %{system_time: System.system_time()}, meta)
    System.monotonic_time()
  end

  defp tell_stop(%{args: %{telemetry: nil}}), do: :ok

  defp tell_stop(%{args: %{telemetry: {prefix, meta}}} = run) do
    exit = run.exit || %{status: nil, signal: nil, stderr_dropped: 0}

    meta =
      Map.merge(meta, %{
        os_pid: Subprocess.os_pid(run.sub),
        exit_status: exit.status,
        signal: exit.signal,
        dropped_stderr_bytes: exit.stderr_dropped
      })

    measurements = Map.put(Span.spent(run.began), :system_time, System.system_time())
    Telemetry.execute(prefix ++ [:process, :stop], measurements, meta)
  end
end
