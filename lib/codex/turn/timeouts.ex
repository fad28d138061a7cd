defmodule Codex.Turn.Timeouts do
  @moduledoc false
  # The timeouts of one attempt, as a value. The caller says what came and when, and asks how long
  # it may wait. Times are milliseconds of one monotonic clock.
  #
  #   * `:start` - until the first event
  #   * `:silence` - since the last message of any kind
  #   * `:stall` - since the last event that is progress, while no item is open that may take its
  #     time. An `error` event, which announces a retry of the CLI, is not progress
  #   * `:total` - since the whole call began
  #
  # Users know `:silence` and `:stall` as the clock `:idle`. Time in which the reader handles events
  # does not count as idle.

  alias Codex.{Events, Items}

  # Items that are no work: they are open while the model writes, or all the time.
  @no_work [
    Items.AgentMessage,
    Items.Reasoning,
    Items.UserMessage,
    Items.TodoList,
    Items.Plan,
    Items.Error,
    Items.ReviewMode
  ]

  # Items beyond this number are not tracked.
  @max_open 1_000

  defstruct start: :infinity,
            silence: :infinity,
            stall: :infinity,
            total: :infinity,
            silence_option: :timeout_ms,
            began_at: 0,
            total_from: 0,
            received_at: 0,
            moved_at: 0,
            paused_at: nil,
            suspended?: false,
            started?: false,
            open: %{},
            opened: 0

  @type limit :: pos_integer() | :infinity
  @type name :: :start | :silence | :stall | :total
  @type t :: %__MODULE__{}

  @doc """
  Returns the timeouts of these settings, which begin now. The total counts from `since`.
  `default_silence` is the limit of silence of a call that blocks, in ms; a stream has none (nil).
  """
  @spec of(map(), timeout() | nil, integer(), integer()) :: t()
  def of(settings, default_silence, now, since) do
    {option, silence} = silence(settings, default_silence)

    limits = [
      start: settings.start_timeout_ms,
      silence: silence,
      stall: settings.idle_timeout_ms,
      total: settings.total_timeout_ms
    ]

    %{new(limits, now, since) | silence_option: option}
  end

  defp silence(%{stream_idle_timeout_ms: ms}, nil) when ms != nil,
    do: {:stream_idle_timeout_ms, ms}

  defp silence(settings, default), do: {:timeout_ms, settings.timeout_ms || default}

  @doc "Returns timeouts with these limits, in ms. A limit of nil is `:infinity`."
  @spec new([{name(), limit() | nil}], integer(), integer() | nil) :: t()
  def new(limits, now, since \\ nil) do
    limits = for {name, limit} <- limits, limit != nil, do: {name, limit}
    timeouts = %__MODULE__{began_at: now, total_from: since || now, received_at: now}
    struct!(%{timeouts | moved_at: now}, limits)
  end

  @doc "Pauses the idle timeouts until `resume/2`: the reader handles events."
  @spec pause(t(), integer()) :: t()
  def pause(timeouts, now), do: %{timeouts | paused_at: now}

  @spec resume(t(), integer()) :: t()
  def resume(%{paused_at: nil} = timeouts, _now), do: timeouts
  def resume(%{suspended?: true} = timeouts, _now), do: timeouts

  def resume(timeouts, now) do
    away = now - timeouts.paused_at

    %{
      timeouts
      | paused_at: nil,
        received_at: timeouts.received_at + away,
        moved_at: timeouts.moved_at + away
    }
  end

  @doc "Suspends all timeouts but the total, until `restart/2`."
  @spec suspend(t()) :: t()
  def suspend(timeouts), do: %{timeouts | suspended?: true}

  @doc "Ends a suspension; the idle timeouts begin anew."
  @spec restart(t(), integer()) :: t()
  def restart(%{suspended?: false} = timeouts, _now), do: timeouts

  def restart(timeouts, now),
    do: %{timeouts | suspended?: false, paused_at: nil, received_at: now, moved_at: now}

  @doc "Notes that a message came, and the events in it."
  @spec observe(t(), [Events.t()], integer()) :: t()
  def observe(timeouts, [], now), do: %{timeouts | received_at: now}

  def observe(timeouts, events, now) do
    moved_at = if Enum.any?(events, &progress?/1), do: now, else: timeouts.moved_at
    items(events, %{timeouts | received_at: now, started?: true, moved_at: moved_at})
  end

  defp progress?(%Events.Error{}), do: false
  defp progress?(_event), do: true

  defp items([%Events.ItemStarted{item: %type{} = item} | events], timeouts)
       when type not in @no_work and map_size(timeouts.open) < @max_open do
    n = timeouts.opened + 1
    items(events, %{timeouts | opened: n, open: Map.put(timeouts.open, item.id, {n, item})})
  end

  defp items([%Events.ItemCompleted{item: %{id: id}} | events], %{open: open} = timeouts)
       when open != %{},
       do: items(events, %{timeouts | open: Map.delete(open, id)})

  defp items([_event | events], timeouts), do: items(events, timeouts)
  defp items([], timeouts), do: timeouts

  @doc "Returns the open items, oldest first."
  @spec open(t()) :: [Items.t()]
  def open(timeouts) do
    timeouts.open |> Map.values() |> Enum.sort_by(&elem(&1, 0)) |> Enum.map(&elem(&1, 1))
  end

  @doc "Returns how long the next message may be waited for, or the limit that has expired."
  @spec check(t(), integer()) :: {:wait, limit() | 0} | {:expired, name(), limit()}
  def check(timeouts, now) do
    running = running(timeouts)

    case Enum.find(running, fn {_, since, limit} ->
           limit != :infinity and now - since >= limit
         end) do
      {name, _since, limit} -> {:expired, name, limit}
      nil -> {:wait, shortest(running, now)}
    end
  end

  # The total comes first: it counts whatever else happens.
  defp running(%{suspended?: true} = timeouts),
    do: [{:total, timeouts.total_from, timeouts.total}]

  defp running(timeouts) do
    start = if timeouts.started?, do: [], else: [{:start, timeouts.began_at, timeouts.start}]
    stall = if timeouts.open == %{}, do: [{:stall, timeouts.moved_at, timeouts.stall}], else: []
    idle = [{:silence, timeouts.received_at, timeouts.silence} | stall]
    [{:total, timeouts.total_from, timeouts.total} | start] ++ idle
  end

  # `:infinity` is above every number.
  defp shortest(running, now) do
    Enum.reduce(running, :infinity, fn
      {_, _, :infinity}, least -> least
      {_, since, limit}, least -> min(since + limit - now, least)
    end)
  end

  @doc """
  As `check/2`, for a reader whose mailbox may hold messages that came in time. A limit other than
  `:total` expires after these have been read; `late` is how many may still be read, nil at first.
  The new number comes with the wait.
  """
  @spec check(t(), integer(), non_neg_integer() | nil) ::
          {:wait, limit() | 0, integer() | nil} | {:expired, name(), limit()}
  def check(timeouts, now, late) do
    case check(timeouts, now) do
      {:wait, ms} -> {:wait, ms, nil}
      {:expired, name, _limit} when name != :total and late != 0 -> {:wait, 0, late(late)}
      expired -> expired
    end
  end

  defp late(nil) do
    {:message_queue_len, messages} = Process.info(self(), :message_queue_len)
    messages
  end

  defp late(messages), do: messages - 1

  @doc "Returns the option that sets a limit."
  @spec option(t(), name() | :request) :: atom()
  def option(timeouts, :silence), do: timeouts.silence_option
  def option(_timeouts, :start), do: :start_timeout_ms
  def option(_timeouts, :stall), do: :idle_timeout_ms
  def option(_timeouts, :total), do: :total_timeout_ms
  def option(_timeouts, :request), do: :request_timeout_ms
end
