defmodule Codex.Thread.Server.Loop do
  @moduledoc false
  # The process of a thread server. It owns the thread and the log of its entries; a process of its
  # own runs each turn (`Codex.Thread.Server.Worker`). No call waits for the CLI.
  use GenServer

  alias Codex.{Approvals, Error, Events, OptionError, Thread}
  alias Codex.JSONRPC.Reports
  alias Codex.Thread.Server.{Followers, Log, Worker}
  alias Codex.Turn.{Cancellation, Result}

  # How often a turn that is just beginning is interrupted again.
  @again_ms 20
  # The time that a running turn has for its end when the server stops.
  @grace_ms 5_000

  @enforce_keys [:thread, :opts, :log, :touched]
  defstruct [
    :thread,
    :opts,
    :log,
    :touched,
    :run,
    queue: [],
    followers: %{},
    asked: %{},
    steering: %{}
  ]

  @doc "Starts the process, linked to the caller."
  @spec start_link(map()) :: GenServer.on_start()
  def start_link(opts) do
    named = if opts.name, do: [name: opts.name], else: []
    # As a function: reports of a crash show the arguments.
    GenServer.start_link(__MODULE__, fn -> opts end, named)
  end

  @impl true
  def init(opts) do
    opts = opts.()
    Process.flag(:trap_exit, true)
    log = Log.new(opts.buffer_events, opts.buffer_bytes, System.os_time(:microsecond))
    thread = asking(opts.thread, opts.approvals)
    opts = Map.take(opts, [:state, :queue, :idle_ms])
    data = %__MODULE__{thread: thread, opts: opts, log: log, touched: now()}
    data = if thread.thread_id, do: put(data, {:resumed, thread.thread_id}), else: data
    :ok = arm(data)
    {:ok, data, :hibernate}
  end

  defp asking(thread, :thread), do: thread

  defp asking(thread, :followers) do
    server = self()
    ask = fn question -> GenServer.call(server, {:ask, question}, :infinity) end
    # An app-server asks more than approvals.
    handler = if thread.transport != :exec, do: ask
    opts = %{thread.thread_opts | approval_policy: ask, request_handler: handler}
    %{thread | thread_opts: opts}
  end

  ## Calls

  @impl true
  # A handler of the turn that runs; it ends with its request.
  def handle_call({:ask, question}, {pid, _tag} = from, data) do
    id = 18 |> :crypto.strong_rand_bytes() |> Base.url_encode64()
    asked = %{from: from, monitor: Process.monitor(pid), question: question}
    data = put_in(data.asked[id], asked)
    {:noreply, put(data, {:asked, id, question})}
  end

  def handle_call(request, from, data), do: request(request, from, %{data | touched: now()})

  defp request({:run, input, opts, wait?}, from, data) do
    run = %{ref: make_ref(), from: if(wait?, do: from), input: input, opts: opts}

    cond do
      data.run == nil -> accepted(run, from, begin(run, data))
      length(data.queue) < data.opts.queue -> accepted(run, from, enqueue(run, data))
      true -> {:reply, {:error, {:turn_running, data.thread.thread_id, data.run.ref}}, data}
    end
  end

  defp request({:steer, _input}, _from, %{run: nil} = data), do: {:reply, no_turn(data), data}

  defp request({:steer, input}, from, data) do
    thread = data.thread
    steer = fn -> exit({:shutdown, Thread.steer(thread, input)}) end
    {_pid, monitor} = Process.spawn(steer, [:link, :monitor])
    {:noreply, put_in(data.steering[monitor], {from, data.run.ref, input})}
  end

  defp request({:interrupt, nil}, _from, %{run: nil} = data), do: {:reply, no_turn(data), data}
  defp request({:interrupt, nil}, _from, data), do: {:reply, :ok, interrupt(data)}

  defp request({:interrupt, ref}, _from, %{run: %{ref: ref}} = data),
    do: {:reply, :ok, interrupt(data)}

  defp request({:interrupt, ref}, _from, data) do
    case Enum.split_with(data.queue, &(&1.ref == ref)) do
      {[], _queue} -> {:reply, no_turn(data), data}
      {[run], queue} -> {:reply, :ok, dropped(run, %{data | queue: queue})}
    end
  end

  defp request({:answer, id, answer}, _from, data) do
    with {:ok, asked} <- Map.fetch(data.asked, id),
         :ok <- decision(asked.question, answer) do
      GenServer.reply(asked.from, answer)
      {:reply, :ok, closed(id, shown(asked.question, answer), data)}
    else
      :error -> {:reply, {:error, {:request_closed, id}}, data}
      {:error, error} -> {:reply, {:error, error}, data}
    end
  end

  defp request({:follow, pid, ref, from}, to, data) do
    GenServer.reply(to, :ok)
    next = from(from, data.log)
    {:noreply, %{data | followers: Followers.add(data.followers, pid, ref, next, data.log)}}
  end

  defp request({:unfollow, ref}, _from, data),
    do: {:reply, :ok, %{data | followers: Followers.remove(data.followers, ref)}}

  defp request(:status, _from, data), do: {:reply, {:ok, status(data)}, data}
  defp request(:stop, _from, data), do: {:stop, :normal, :ok, data}

  defp from(:start, log), do: log.first
  defp from(:now, log), do: log.next
  defp from(offset, log), do: min(offset, log.next)

  defp no_turn(%{thread: %{thread_id: nil}}), do: {:error, :missing_thread_id}
  defp no_turn(%{thread: %{thread_id: id}}), do: {:error, {:no_turn, id}}

  # The text that a user typed is for the turn alone.
  defp shown(%_request{}, _answer), do: :given
  defp shown(_event, decision), do: decision

  # Requests other than approvals have answers of their own kinds.
  defp decision(%_request{}, _answer), do: :ok
  defp decision(_event, answer) when answer in [:allow, :cancel], do: :ok
  defp decision(_event, {:deny, _reason}), do: :ok
  defp decision(_event, {:rewrite, input}) when is_map(input) or is_binary(input), do: :ok

  defp decision(_event, answer) do
    if match?({:allow, _}, answer) and Approvals.options?(elem(answer, 1)),
      do: :ok,
      else: {:error, OptionError.argument(:answer, answer, "a decision of Codex.Approvals")}
  end

  defp status(data) do
    %{
      thread_id: data.thread.thread_id,
      run: data.run && data.run.ref,
      queued: Enum.map(data.queue, & &1.ref),
      first: data.log.first,
      next: data.log.next,
      bytes: data.log.bytes,
      followers: map_size(data.followers),
      asked: Map.new(data.asked, fn {id, %{question: question}} -> {id, question} end)
    }
  end

  @impl true
  def handle_cast({:ack, ref}, data),
    do: {:noreply, deliver(ref, :reads, data)}

  def handle_cast(_other, data), do: {:noreply, data}

  ## Messages

  @impl true
  def handle_info({ref, :event, pid, reply, event}, %{run: %{ref: ref}} = data),
    do: {:noreply, event(event, pid, reply, data)}

  def handle_info({ref, :done, result}, %{run: %{ref: ref}} = data),
    do: {:noreply, result |> done(data) |> next(), :hibernate}

  def handle_info({:DOWN, monitor, _, _, reason}, %{run: %{monitor: monitor}} = data),
    do: {:noreply, reason |> crashed() |> done(data) |> next(), :hibernate}

  def handle_info({:DOWN, monitor, :process, _pid, reason}, data) do
    {steering, calls} = Map.pop(data.steering, monitor)

    if steering,
      do: {:noreply, steered(steering, reason, %{data | steering: calls})},
      else: {:noreply, gone(monitor, data)}
  end

  def handle_info({:interrupt, ref}, %{run: %{ref: ref}} = data), do: {:noreply, again(data)}
  def handle_info({:again, ref}, data), do: {:noreply, deliver(ref, :busy, data)}

  def handle_info(:idle, data) do
    left = if idle?(data), do: data.touched + data.opts.idle_ms - now(), else: data.opts.idle_ms

    if left <= 0 do
      {:stop, {:shutdown, :idle}, data}
    else
      _ = Process.send_after(self(), :idle, left)
      {:noreply, data}
    end
  end

  def handle_info(_other, data), do: {:noreply, data}

  defp idle?(data), do: data.run == nil

  defp arm(%{opts: %{idle_ms: :infinity}}), do: :ok

  defp arm(%{opts: %{idle_ms: ms}}) do
    _ = Process.send_after(self(), :idle, ms)
    :ok
  end

  ## Turns

  defp accepted(%{from: nil} = run, _from, data), do: {:reply, {:ok, run.ref}, data}
  defp accepted(_run, _from, data), do: {:noreply, data}

  defp begin(run, data) do
    {pid, monitor} = Worker.start(data.thread, run, data.opts.state)
    running = %{ref: run.ref, from: run.from, pid: pid, monitor: monitor, interrupted?: false}
    put(%{data | run: running}, {:began, run.ref, run.input})
  end

  defp enqueue(run, data), do: %{data | queue: data.queue ++ [run]}

  defp next(%{queue: [run | queue]} = data), do: begin(run, %{data | queue: queue})
  defp next(data), do: %{data | touched: now()}

  defp event(event, pid, reply, data) do
    send(pid, reply)

    case event do
      %Events.ThreadStarted{thread_id: id} -> put_in(data.thread.thread_id, id)
      _other -> data
    end
    |> put({:event, event})
  end

  defp done(result, %{run: run} = data) do
    Process.demonitor(run.monitor, [:flush])
    if run.from, do: GenServer.reply(run.from, result)

    put(
      %{data | run: nil, thread: thread(result, data.thread)},
      {:ended, run.ref, outcome(result)}
    )
  end

  defp thread({:ok, %{thread: thread}}, _before), do: thread
  defp thread({:error, {_tag, %Error{result: %Result{thread: thread}}}}, _before), do: thread
  defp thread({:error, _reason}, before), do: before

  defp outcome({:ok, _result}), do: :ok

  # The result, with all events of the turn, is for the caller of the run.
  defp outcome({:error, reason}),
    do: {:error, %{Error.normalize(reason) | result: nil, event: nil}}

  defp crashed(reason) do
    words = if is_atom(reason), do: inspect(reason), else: "it crashed"
    message = "the process of the turn ended before the turn did: #{words}"
    {:error, {:exec_failed, Error.new(:crashed, message)}}
  end

  defp interrupt(%{run: %{interrupted?: true}} = data), do: data
  defp interrupt(data), do: again(put_in(data.run.interrupted?, true))

  # A turn that has just begun cannot be found yet.
  defp again(data) do
    _ = Cancellation.stop(data.run.pid)
    _ = Process.send_after(self(), {:interrupt, data.run.ref}, @again_ms)
    data
  end

  defp dropped(run, data) do
    error = Error.new(:interrupted, "the turn was interrupted before it began")
    if run.from, do: GenServer.reply(run.from, {:error, {:exec_failed, error}})
    put(data, {:ended, run.ref, {:error, error}})
  end

  defp steered({from, run, input}, {:shutdown, result}, data) do
    GenServer.reply(from, result)
    if result == :ok, do: put(data, {:steered, run, input}), else: data
  end

  defp steered({from, _run, _input}, _crash, data) do
    GenServer.reply(from, {:error, :crashed})
    data
  end

  ## Entries

  # Followers that wait get the entry before the log may drop it.
  defp put(data, entry) do
    log = Log.put(data.log, entry)
    %{data | followers: Followers.deliver(data.followers, log), log: Log.trim(log)}
  end

  defp deliver(ref, state, data),
    do: %{data | followers: Followers.next(data.followers, ref, state, data.log)}

  # A follower, or a handler whose request has another answer, or none in time.
  defp gone(monitor, data) do
    case Enum.find(data.asked, fn {_id, asked} -> asked.monitor == monitor end) do
      {id, _asked} ->
        closed(id, :closed, data)

      nil ->
        ref = Followers.find(data.followers, monitor)
        %{data | followers: Followers.remove(data.followers, ref)}
    end
  end

  defp closed(id, answer, data) do
    {asked, open} = Map.pop!(data.asked, id)
    Process.demonitor(asked.monitor, [:flush])
    put(%{data | asked: open}, {:answered, id, answer})
  end

  ## The end

  @impl true
  def terminate(_reason, data) do
    waiting = data.queue
    data = Enum.reduce(waiting, %{data | queue: []}, &dropped/2)
    data = stop(data, now() + @grace_ms)
    Followers.finish(data.followers, data.log)
  end

  defp stop(%{run: nil} = data, _deadline), do: data

  defp stop(%{run: %{ref: ref, pid: pid, monitor: monitor}} = data, deadline) do
    _ = Cancellation.stop(pid)
    if now() >= deadline, do: Process.exit(pid, :kill)

    receive do
      {^ref, :event, ^pid, reply, event} -> event |> event(pid, reply, data) |> stop(deadline)
      {^ref, :done, result} -> done(result, data)
      {:DOWN, ^monitor, _, _, reason} -> reason |> crashed() |> done(data)
    after
      @again_ms -> stop(data, deadline)
    end
  end

  # GenServer has this callback since Elixir 1.17, OTP since 25.
  if Version.match?(System.version(), ">= 1.17.0"), do: @impl(true)

  def format_status(status), do: Reports.status(status, &summary/1)

  defp summary(%__MODULE__{} = data),
    do: Map.take(status(data), [:thread_id, :queued, :followers])

  defp summary(_other), do: :invalid

  defp now, do: System.monotonic_time(:millisecond)
end
