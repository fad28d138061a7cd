defmodule Codex.Turn.Attempt do
  @moduledoc false
  # One attempt of a turn over a transport. Keeps the timeouts, redacts failures, and makes the
  # error of an attempt that fails: then its last elements are `{:failed, error}` and, if the option
  # `keep` asks for something, `{:extras, map}`.

  alias Codex.{Error, Events, RateLimit, Redaction}
  alias Codex.Error.Redact
  alias Codex.Turn.{Cancellation, Extras, Failure, Job, Running, Tee, Timeouts, Transport}

  @enforce_keys [:transport, :job, :call, :timeouts]
  defstruct [
    :transport,
    :job,
    :call,
    :timeouts,
    :run,
    :late,
    :secrets,
    :event,
    :redaction,
    :tee,
    ended?: false,
    closed?: false
  ]

  @type t :: %__MODULE__{}
  @type element :: Transport.event() | {:failed, Error.t()} | {:extras | :masked, map()}

  # Events that concern the attempt itself. Most do not.
  @noted [Events.ThreadStarted, Events.TurnCompleted, Events.TurnFailed, Events.Error]

  @doc """
  Begins an attempt of a call over a `transport`. `since` is when the call began, `default_silence`
  the limit of a call that blocks, in ms.
  """
  @spec open(Job.t(), Transport.how(), map()) :: {[element()], t()}
  def open(job, how, %{call: call, since: since, telemetry: telemetry} = opts) do
    timeouts = Timeouts.of(job.settings, opts.default_silence, now(), since)
    transport = opts.transport

    attempt = %__MODULE__{
      transport: transport,
      job: job,
      call: call,
      timeouts: timeouts,
      redaction: Redaction.new(job.settings.redact),
      tee: opts.tee
    }

    left = fn -> Timeouts.check(timeouts, now()) end

    case transport.open(job, how, %{
           call: call,
           telemetry: telemetry,
           left: left,
           spent: opts.spent,
           tee: opts.tee
         }) do
      {:ok, events, run} -> received(:ok, events, %{attempt | run: run})
      {:failed, cause, run} -> fail(%{attempt | run: run}, cause)
    end
  end

  @doc "Returns the next elements, perhaps none; `:halt` after the last."
  @spec next(t()) :: {[element()], t()} | :halt
  def next(%{closed?: true}), do: :halt

  def next(attempt) do
    now = now()
    timeouts = Timeouts.resume(attempt.timeouts, now)

    case Timeouts.check(timeouts, now, attempt.late) do
      {:wait, ms, late} ->
        wait(%{attempt | timeouts: timeouts, late: late}, ms)

      {:expired, name, ms} when name in [:silence, :stall] and attempt.run.hooks != nil ->
        idle(%{attempt | timeouts: timeouts}, name, ms, now)

      # The turn has ended: the exit of its process is not worth an error.
      {:expired, _name, _ms} when attempt.ended? ->
        done(attempt)

      {:expired, name, ms} ->
        fail(attempt, {:timeout, name, ms})
    end
  end

  # While a hook of the host decides, the CLI is not to blame for silence.
  defp idle(attempt, name, ms, now) do
    if Codex.Hooks.Set.busy?(attempt.run.hooks, ms),
      do: wait(%{attempt | timeouts: Timeouts.restart(attempt.timeouts, now), late: nil}, ms),
      else: if(attempt.ended?, do: done(attempt), else: fail(attempt, {:timeout, name, ms}))
  end

  defp wait(attempt, ms) do
    case attempt.transport.next(attempt.run, ms) do
      {:failed, cause, run} -> fail(%{attempt | run: run}, cause)
      {status, events, run} -> received(status, events, %{attempt | run: run})
      {:timeout, run} -> {[], %{attempt | run: run, late: 0}}
      {:none, run} -> {[], pause(%{attempt | run: run}, now())}
      {:done, run} -> done(%{attempt | run: run})
      {:cancelled, run} when attempt.ended? -> done(%{attempt | run: run})
      {:cancelled, run} -> fail(%{attempt | run: run}, :cancelled)
    end
  end

  defp received(status, events, attempt) do
    now = now()
    {events, attempt} = observe(events, attempt)
    :ok = tee(events, attempt)
    timeouts = Timeouts.observe(attempt.timeouts, events, now)

    timeouts =
      if status == :waiting,
        do: Timeouts.suspend(timeouts),
        else: Timeouts.restart(timeouts, now)

    {events, redaction} = Redaction.elements(events, attempt.redaction)
    {events, pause(%{attempt | timeouts: timeouts, redaction: redaction}, now)}
  end

  # Until the reader asks for more.
  defp pause(attempt, now), do: %{attempt | timeouts: Timeouts.pause(attempt.timeouts, now)}

  defp observe(events, attempt) do
    if noted?(events),
      do: Enum.map_reduce(events, attempt, &note/2),
      else: {events, attempt}
  end

  defp noted?([%type{} | _events]) when type in @noted, do: true
  defp noted?([_event | events]), do: noted?(events)
  defp noted?([]), do: false

  defp note(%Events.ThreadStarted{thread_id: id} = event, attempt) do
    :ok = Running.begun(attempt.call.ref, id)
    _ = Job.notify(attempt.job, {:thread, id})
    {event, attempt}
  end

  defp note(%Events.TurnCompleted{} = event, attempt), do: {event, %{attempt | ended?: true}}

  # A provider may repeat our own key in the words of a failure.
  defp note(%Events.TurnFailed{} = event, attempt) do
    account = attempt.transport.account(attempt.job)
    :ok = RateLimit.observe(account, Error.normalize(event.error))
    redact(event, %{attempt | ended?: true})
  end

  # Not an end, but the reason if the turn ends without an error.
  defp note(%Events.Error{} = event, attempt) do
    {event, attempt} = redact(event, attempt)
    {event, %{attempt | event: event}}
  end

  defp note(event, attempt), do: {event, attempt}

  defp redact(term, attempt) do
    attempt = know_secrets(attempt)
    {Redact.redact(term, attempt.secrets), attempt}
  end

  # Looked up with the first failure: most turns have none, and some have thousands.
  defp know_secrets(%{secrets: nil} = attempt),
    do: %{attempt | secrets: attempt.transport.secrets(attempt.job)}

  defp know_secrets(attempt), do: attempt

  ## The end

  defp done(attempt) do
    attempt = close(attempt)
    {elements, redaction} = Redaction.elements(extras(attempt), attempt.redaction)
    attempt = %{attempt | redaction: redaction}
    {elements ++ masked(attempt), attempt}
  end

  defp fail(attempt, cause) do
    attempt = attempt |> close() |> know_secrets()
    {ending, events} = if attempt.run, do: attempt.transport.ending(attempt.run), else: {%{}, []}
    # A process that was cancelled may exit before the call hears of it.
    cause =
      if cause == :exited and Cancellation.cancelled?(attempt.call), do: :cancelled, else: cause

    error = cause |> error(ending, attempt) |> Redact.redact(attempt.secrets)
    events = Redact.redact(events, attempt.secrets)
    :ok = tee(events, attempt)
    :ok = tee_failure(error, attempt)

    {elements, redaction} =
      Redaction.elements(events ++ [{:failed, error} | extras(attempt)], attempt.redaction)

    attempt = %{attempt | redaction: redaction}
    {elements ++ masked(attempt), attempt}
  end

  # The writer masks by itself.
  defp tee(_events, %{tee: nil}), do: :ok
  defp tee(events, %{tee: tee}), do: Tee.terms(tee, :events, Enum.filter(events, &is_struct/1))

  defp tee_failure(error, %{tee: tee}) do
    facts = %{"kind" => Atom.to_string(error.kind), "message" => error.message}
    Tee.terms(tee, :events, [Map.put(facts, "type", "codex_sdk.failed")])
  end

  defp masked(%{redaction: nil}), do: []
  defp masked(attempt), do: [{:masked, %{events: attempt.redaction.masked}}]

  defp error({:timeout, name, ms}, ending, attempt),
    do: Failure.timeout(name, ms, attempt.timeouts, ending, attempt.event)

  defp error(cause, ending, attempt), do: Failure.error(cause, ending, attempt.event)

  defp extras(%{run: nil}), do: []

  defp extras(attempt) do
    Extras.elements(attempt.run.extras, fn ->
      attempt.run |> attempt.transport.stderr() |> redact(attempt) |> elem(0)
    end)
  end

  @doc "Ends the attempt, if it still runs."
  @spec close(t()) :: t()
  def close(%{closed?: true} = attempt), do: attempt
  def close(%{run: nil} = attempt), do: %{attempt | closed?: true}

  def close(attempt),
    do: %{attempt | run: attempt.transport.close(attempt.run), closed?: true}

  defp now, do: System.monotonic_time(:millisecond)
end
