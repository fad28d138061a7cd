defmodule Codex.Clocks do
  @moduledoc false
  # The clocks of a run, as a value: it is told what happens and when, and asked when the next one runs out. It starts no
  # timer and sends nothing, so both lanes can use it. All times are milliseconds of one monotonic clock.
  #
  #   * `:start` - until the first event
  #   * `:request` - one request to the app-server, from `asked/4` to `answered/2`
  #   * `:idle` - two limits. `:silence`: nothing comes at all. `:stall`: nothing comes of the turn, while nothing is open that
  #     may take its time; an `error` event, with which the CLI announces that it tries again, is no progress
  #   * `:total` - the whole run
  #
  # While the reader is away (`pause/2`), nobody listens: that is no silence.

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

  # More things are not open at once. Others are not noted.
  @max_open 1_000

  defstruct start: :infinity,
            request: :infinity,
            silence: :infinity,
            stall: :infinity,
            total: :infinity,
            began_at: 0,
            total_from: 0,
            heard_at: 0,
            moved_at: 0,
            paused_at: nil,
            started?: false,
            requests: %{},
            open: %{},
            opened: 0

  @type limit :: pos_integer() | :infinity
  @type name :: :start | :request | :silence | :stall | :total
  @type t :: %__MODULE__{
          start: limit(),
          request: limit(),
          silence: limit(),
          stall: limit(),
          total: limit(),
          began_at: integer(),
          total_from: integer(),
          heard_at: integer(),
          moved_at: integer(),
          paused_at: integer() | nil,
          started?: boolean(),
          requests: %{term() => {integer(), term()}},
          open: %{term() => {non_neg_integer(), term()}},
          opened: non_neg_integer()
        }

  @doc """
  Clocks with these limits, in ms, that begin now; the total counts from `total_from`, where a run is one of several attempts. A
  limit of nil is none.
  """
  @spec new(keyword(limit() | nil), integer(), integer() | nil) :: t()
  def new(limits, now, total_from \\ nil) do
    limits = for {name, limit} <- limits, limit != nil, do: {name, limit}
    clocks = %__MODULE__{began_at: now, total_from: total_from || now, heard_at: now}
    struct!(%{clocks | moved_at: now}, limits)
  end

  @doc "The reader is away until `resume/2`."
  @spec pause(t(), integer()) :: t()
  def pause(clocks, now), do: %{clocks | paused_at: now}

  @spec resume(t(), integer()) :: t()
  def resume(%{paused_at: nil} = clocks, _now), do: clocks

  def resume(clocks, now) do
    away = now - clocks.paused_at

    %{
      clocks
      | paused_at: nil,
        heard_at: clocks.heard_at + away,
        moved_at: clocks.moved_at + away
    }
  end

  @doc "Silence and standstill begin anew: until now, it was not the other side that was silent."
  @spec restart(t(), integer()) :: t()
  def restart(clocks, now), do: %{clocks | paused_at: nil, heard_at: now, moved_at: now}

  @doc "Something came, whatever it is."
  @spec heard(t(), integer()) :: t()
  def heard(clocks, now), do: %{clocks | heard_at: now}

  @doc "These events came."
  @spec saw(t(), [Events.t()], integer()) :: t()
  def saw(clocks, [], _now), do: clocks

  def saw(clocks, events, now) do
    moved_at = if Enum.any?(events, &progress?/1), do: now, else: clocks.moved_at
    items(events, %{clocks | started?: true, moved_at: moved_at})
  end

  defp progress?(%Events.Error{}), do: false
  defp progress?(_event), do: true

  defp items([%Events.ItemStarted{item: %type{} = item} | events], clocks)
       when type not in @no_work,
       do: items(events, open(clocks, item.id, item))

  defp items([%Events.ItemCompleted{item: %{id: id}} | events], %{open: open} = clocks)
       when open != %{},
       do: items(events, close(clocks, id))

  defp items([_event | events], clocks), do: items(events, clocks)
  defp items([], clocks), do: clocks

  @doc "Something begins for which the turn waits: a command, a tool call, an approval."
  @spec open(t(), term(), term()) :: t()
  def open(%{open: open} = clocks, _id, _what) when map_size(open) >= @max_open, do: clocks

  def open(clocks, id, what) do
    n = clocks.opened + 1
    %{clocks | opened: n, open: Map.put(clocks.open, id, {n, what})}
  end

  @doc "It has ended. Follows `saw/3`, or is followed by it."
  @spec close(t(), term()) :: t()
  def close(clocks, id), do: %{clocks | open: Map.delete(clocks.open, id)}

  @doc "What is open, in the order in which it began."
  @spec open(t()) :: [term()]
  def open(clocks) do
    clocks.open |> Map.values() |> Enum.sort_by(&elem(&1, 0)) |> Enum.map(&elem(&1, 1))
  end

  @doc "A request was sent."
  @spec asked(t(), term(), term(), integer()) :: t()
  def asked(clocks, id, what, now),
    do: %{clocks | requests: Map.put(clocks.requests, id, {now, what})}

  @doc "It was answered, or nobody waits for it any more."
  @spec answered(t(), term()) :: t()
  def answered(clocks, id), do: %{clocks | requests: Map.delete(clocks.requests, id)}

  @doc """
  How long the next message may be waited for, or which limit has run out. The total comes first: it holds whatever else
  happens.
  """
  @spec due(t(), integer()) :: {:wait, limit() | 0} | {:expired, name(), limit()}
  def due(clocks, now) do
    running = running(clocks)

    case Enum.find(running, fn {_, since, limit} ->
           limit != :infinity and now - since >= limit
         end) do
      {name, _since, limit} -> {:expired, name, limit}
      nil -> {:wait, shortest(running, now)}
    end
  end

  @doc """
  A clock has run out, but what lies in the caller's mailbox came in time, and what comes after that did not: how many
  messages may still be taken.
  """
  @spec late(non_neg_integer() | nil) :: integer()
  def late(nil) do
    {:message_queue_len, messages} = Process.info(self(), :message_queue_len)
    messages
  end

  def late(messages), do: messages - 1

  @doc """
  What a look at the clocks comes to where the mailbox may hold what they missed: as `due/2`, but a clock other than `:total` expires only when
  the messages that were there (`late`) have been read. How many of them are left comes with the wait.
  """
  @spec look({:wait, timeout()} | {:expired, atom(), integer()}, non_neg_integer() | nil) ::
          {:wait, timeout(), integer() | nil} | {:expired, atom(), integer()}
  def look({:wait, ms}, _late), do: {:wait, ms, nil}

  def look({:expired, name, _}, late) when name != :total and late != 0,
    do: {:wait, 0, late(late)}

  def look(expired, _late), do: expired

  @doc "How much is left of the total."
  @spec left(t(), integer()) :: integer() | :infinity
  def left(%{total: :infinity}, _now), do: :infinity
  def left(clocks, now), do: clocks.total_from + clocks.total - now

  @doc "The clock of a limit, as users know it."
  @spec clock(name()) :: :start | :request | :idle | :total
  def clock(name) when name in [:silence, :stall], do: :idle
  def clock(name), do: name

  # `:infinity` is above every number.
  defp shortest(running, now) do
    Enum.reduce(running, :infinity, fn
      {_, _, :infinity}, least -> least
      {_, since, limit}, least -> min(since + limit - now, least)
    end)
  end

  defp running(clocks) do
    start = if clocks.started?, do: [], else: [{:start, clocks.began_at, clocks.start}]
    stall = if clocks.open == %{}, do: [{:stall, clocks.moved_at, clocks.stall}], else: []
    requests = for {_, {since, _}} <- clocks.requests, do: {:request, since, clocks.request}
    idle = [{:silence, clocks.heard_at, clocks.silence} | stall]
    [{:total, clocks.total_from, clocks.total} | start] ++ requests ++ idle
  end
end
