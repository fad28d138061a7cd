defmodule Codex.Turn.Driver do
  @moduledoc false
  # Runs a turn over any transport, as a lazy stream in the process that reads it. Each reading of
  # the stream is one call: turns (`Codex.Turn.Stored`), a way to cancel them, one telemetry span,
  # and at the end, however it comes, everything is closed.
  #
  # A failure is an element or an exception, as the mode says:
  #
  #   * `:blocking` - for calls that wait for the end. Elements are events, `{:warnings, texts}`,
  #     `{:attempts, n}`, `{:repair, n}`, `{:extras, map}`, `{:mirror, status}`,
  #     `{:failed, error}`. Silence has a limit by default
  #   * `:elements` - likewise, for a reader that may be slow
  #   * `:events` - elements are events only: a warning is an error item, as `codex exec` has it,
  #     and a failure is raised

  alias Codex.Events.ItemCompleted
  alias Codex.Hooks.Set
  alias Codex.Items
  alias Codex.Retry.Plan
  alias Codex.Turn.{Cancellation, Job, Running, Span, Stored, Tee, Transport}

  @type mode :: :blocking | :elements | :events

  @enforce_keys [:mode, :turns, :call]
  defstruct [:mode, :turns, :call, :span, :tee, over?: false]

  # A stream waits as long as its reader does.
  @default_silence %{blocking: 3_600_000, elements: nil, events: nil}

  @doc "Checks everything about a job of a transport that can be checked before it runs."
  @spec prepare(module(), Job.t(), mode()) :: {:ok, Job.t()} | {:error, reason}
        when reason: Transport.reason() | {:unsupported_option, :on_event | :keep}
  def prepare(transport, job, mode) do
    :ok = Codex.Started.check!()

    with :ok <- check_mode(job.turn_opts, mode),
         {:ok, job} <- transport.prepare(%{job | module: transport, mode: mode}),
         :ok <- Tee.check(job.settings),
         do: {:ok, job}
  end

  @doc "Returns the stream of a job. Nothing runs before the stream is read."
  @spec stream(Job.t()) :: Enumerable.t()
  def stream(job), do: fn acc, reducer -> begin(acc, reducer, job) end

  @doc "Returns the review of a job that was read, from its events and the session file."
  @spec review(Job.t(), [Codex.Events.t()], String.t() | nil) ::
          {:ok, Codex.Review.t()} | {:error, Codex.Review.unreadable()}
  def review(job, events, thread_id),
    do: Codex.Review.of(events, thread_id, job.module.home(job))

  # An option without effect is an error.
  defp check_mode(%{on_event: fun}, mode) when fun != nil and mode != :blocking,
    do: {:error, {:unsupported_option, :on_event}}

  defp check_mode(%{keep: [_ | _]}, :events), do: {:error, {:unsupported_option, :keep}}
  defp check_mode(_turn_opts, _mode), do: :ok

  ## The turn that runs in a thread

  @doc "Checks whether the transport of a thread can do something."
  @spec check(module(), Codex.Thread.t(), atom()) :: :ok | {:error, {:unsupported, atom()}}
  def check(transport, thread, what) do
    if what in transport.unsupported(),
      do: {:error, {:unsupported, thread.transport}},
      else: :ok
  end

  @doc "Adds input to the turn that runs in a thread."
  @spec steer(module(), Codex.Thread.t(), Codex.Input.t()) ::
          :ok | {:error, Transport.running_reason()}
  def steer(transport, thread, input),
    do: with(:ok <- check(transport, thread, :steer), do: transport.steer(thread, input))

  @doc "Interrupts the turn that runs in a thread; also before the server has named the thread."
  @spec interrupt(module(), Codex.Thread.t(), boolean()) ::
          :ok | {:error, Transport.running_reason()}
  def interrupt(transport, thread, clean?) do
    if Running.thread_id(thread) == nil and Cancellation.stop({:thread, nil, thread.ref}) == :ok,
      do: :ok,
      else: transport.interrupt(thread, clean?)
  end

  ## Reading

  # Nothing begins before the reader wants an element.
  defp begin({:suspend, acc}, reducer, job), do: {:suspended, acc, &begin(&1, reducer, job)}
  defp begin({:halt, acc}, _reducer, _job), do: {:halted, acc}
  defp begin({:cont, _} = acc, reducer, job), do: deliver([], acc, start(job), reducer)

  defp start(%{mode: mode} = job) do
    account = fn -> job.module.account(job) end
    plan = Plan.new(job.settings, elem(job.task, 0), account)
    about = Running.about(job.transport, job.thread, job.task, job.settings)
    call = Cancellation.begin(job.tokens, about)
    span = Span.start(job)
    tee = Tee.open(job)

    opts = %{
      transport: job.module,
      call: call,
      since: System.monotonic_time(:millisecond),
      spent: Set.spent(),
      default_silence: @default_silence[mode],
      tee: tee,
      telemetry: Span.of(span)
    }

    turns = Stored.new(job, plan, opts)
    %__MODULE__{mode: mode, turns: turns, call: call, span: span, tee: tee}
  end

  defp deliver(elements, {:suspend, acc}, state, reducer),
    do: {:suspended, acc, &deliver(elements, &1, state, reducer)}

  defp deliver(_elements, {:halt, acc}, state, _reducer) do
    stop(state)
    {:halted, acc}
  end

  defp deliver([], {:cont, acc}, %{over?: true} = state, _reducer) do
    stop(state)
    {:done, acc}
  end

  defp deliver([], {:cont, acc}, state, reducer) do
    case guard(state, fn -> Stored.next(state.turns) end) do
      {elements, turns} ->
        deliver(elements, {:cont, acc}, %{state | turns: turns}, reducer)

      :halt ->
        elements = Tee.finish(state.tee)
        deliver(elements, {:cont, acc}, %{state | tee: nil, over?: true}, reducer)
    end
  end

  # Events that no span observes go to the reader in one guard, because there are many.
  defp deliver([%{} | _] = elements, {:cont, acc}, %{span: nil} = state, reducer) do
    {elements, acc} = guard(state, fn -> reduce(elements, acc, reducer) end)
    deliver(elements, acc, state, reducer)
  end

  defp deliver([element | elements], {:cont, acc}, state, reducer) do
    state = observe(element, state)

    case element do
      {:failed, error} when state.mode == :events ->
        stop(state)
        raise error

      {:warnings, texts} when state.mode == :events ->
        deliver(Enum.map(texts, &warning/1) ++ elements, {:cont, acc}, state, reducer)

      element when is_tuple(element) and state.mode == :events ->
        deliver(elements, {:cont, acc}, state, reducer)

      element ->
        acc = guard(state, fn -> reducer.(element, acc) end)
        deliver(elements, acc, state, reducer)
    end
  end

  defp reduce([%{} = event | elements], acc, reducer) do
    case reducer.(event, acc) do
      {:cont, acc} -> reduce(elements, acc, reducer)
      acc -> {elements, acc}
    end
  end

  defp reduce(elements, acc, _reducer), do: {elements, {:cont, acc}}

  defp warning(text), do: %ItemCompleted{item: %Items.Error{message: text}}

  defp observe(_element, %{span: nil} = state), do: state
  defp observe(element, state), do: %{state | span: Span.observe(state.span, element)}

  # Also if the reader raises, throws or exits, nothing of the turn is left.
  defp guard(state, fun) do
    fun.()
  catch
    kind, reason ->
      trace = __STACKTRACE__
      stop(state)
      :erlang.raise(kind, reason, trace)
  end

  defp stop(state) do
    _ = Stored.stop(state.turns)
    _ = Tee.finish(state.tee)
    :ok = Cancellation.finish(state.call)
    Span.finish(state.span)
  end
end
