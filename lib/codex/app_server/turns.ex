defmodule Codex.AppServer.Turns do
  @moduledoc false
  # The turns that readers follow. A turn has one reader, which gets all notifications of the turn
  # and then its end, once. The turn does not go on without its reader, and a thread has one such
  # turn at a time. Items are passed on and not kept. Pure.
  #
  # A turn is named by the id in the answer to `turn/start` or `review/start`. For a review,
  # `turn/started` names a second id, with the first one as its root. Interrupts need the second
  # id.
  #
  # The turns of sub-agents have threads of their own, and the id of the first agent's turn as their
  # root. A reader that wants them gets all notifications of these threads, too, until its turn
  # ends.
  #
  # Functions return messages for readers, as `{reader, thread_id, turn_id, what}`. The message
  # `:abandoned`, with nil as reader, is for the connection: the turn is to be interrupted.

  alias Codex.AppServer.{Ids, Request}

  # Notifications kept for a turn until its id is known.
  @most_early 256

  # Threads of sub-agents that readers get at the same time.
  @most_children 4096

  defstruct [:most, running: %{}, starting: %{}, orphans: [], children: %{}]

  @typedoc "The turn and the error that the server reported last."
  @type summary :: %{turn: map() | nil, error: map() | nil}
  @type what ::
          {:notification, String.t(), map()}
          | {:child, thread_id :: String.t(), String.t(), map()}
          | {:request, Request.t(), others? :: boolean()}
          | {:answered, token :: String.t()}
          | {:completed, summary()}
          | {:lost, term(), summary()}
          | :abandoned
  @type message :: {reader :: term(), thread_id :: String.t(), turn_id :: String.t(), what()}

  @typedoc """
    * `running` - reader and summary, by thread id and turn id
    * `starting` - turns without an id, by the id of their request. Those without a reader are
      orphaned when their id is known
    * `orphans` - turns to interrupt when they begin
    * `children` - the turn of the first agent, by the thread id of a sub-agent
  """
  @type t :: %__MODULE__{
          most: pos_integer(),
          running: map(),
          starting: map(),
          orphans: [key()],
          children: %{String.t() => key()}
        }
  @type key :: {thread_id :: String.t() | nil, turn_id :: String.t() | nil}

  @empty %{turn: nil, error: nil}

  @spec new(pos_integer()) :: t()
  def new(most), do: %__MODULE__{most: most}

  # --- Beginning --------------------------------------------------------------------------------

  @doc """
  Adds the turn that a request starts. Its notifications are kept until its id is known. With
  `children?`, the reader gets those of sub-agents, too.
  """
  @spec start(t(), request_id :: term(), reader :: term(), String.t(), boolean()) :: t()
  def start(turns, request_id, reader, thread_id, children? \\ false) do
    start = %{
      reader: reader,
      thread_id: thread_id,
      children?: children?,
      late?: false,
      early: [],
      count: 0
    }

    put_in(turns.starting[request_id], start)
  end

  @doc "Returns the followed turn of a thread: its id, `:starting`, or nil."
  @spec busy(t(), String.t() | nil) :: String.t() | :starting | nil
  def busy(turns, thread_id) do
    with nil <- Enum.find_value(turns.running, fn {{t, id}, _} -> t == thread_id && id end) do
      starting? = fn {_ref, start} -> start.thread_id == thread_id and not start.late? end
      if Enum.any?(turns.starting, starting?), do: :starting
    end
  end

  @doc """
  Returns the followed turn of a thread, with the id that an interrupt has to name, or nil before
  the server has reported its beginning.
  """
  @spec running_in(t(), String.t() | nil) :: {String.t(), String.t() | nil} | nil
  def running_in(turns, thread_id) do
    Enum.find_value(turns.running, fn {{thread, turn}, run} ->
      if thread == thread_id, do: {turn, run.summary.turn["id"]}
    end)
  end

  @doc "Renames the request of a turn that starts: it was sent again."
  @spec renamed(t(), term(), term()) :: t()
  def renamed(turns, request_id, new) do
    case Map.pop(turns.starting, request_id) do
      {nil, _} -> turns
      {start, starting} -> %{turns | starting: Map.put(starting, new, start)}
    end
  end

  @doc "Handles a request without an answer in time. The turn of a late answer has no reader."
  @spec late(t(), request_id :: term()) :: t()
  def late(turns, request_id) do
    case Map.pop(turns.starting, request_id) do
      {%{} = start, starting} when map_size(starting) < turns.most ->
        late = %{start | reader: nil, early: [], late?: true}
        %{turns | starting: Map.put(starting, request_id, late)}

      {_none, starting} ->
        %{turns | starting: starting}
    end
  end

  @doc "Handles the answer to a request, with the id of its turn, or nil without one."
  @spec started(t(), request_id :: term(), String.t() | nil) :: {[message()], t()}
  def started(turns, request_id, turn_id) do
    {start, starting} = Map.pop(turns.starting, request_id)
    turns = %{turns | starting: starting}
    key = start && {start.thread_id, turn_id}

    cond do
      start == nil or not is_binary(turn_id) -> {[], turns}
      start.reader != nil -> follow(turns, start, turn_id)
      # A late answer names the turn of another reader if it became more input to that turn.
      is_map_key(turns.running, key) -> {[], turns}
      true -> {[], orphan(turns, key)}
    end
  end

  defp follow(turns, %{early: :overflow} = start, turn_id),
    do: refuse(turns, start, turn_id, turn_id, {:overflow, :notifications, @most_early})

  defp follow(%{most: most} = turns, start, turn_id) when map_size(turns.running) >= most,
    do: refuse(turns, start, turn_id, begun_as(start.early, turn_id), {:overflow, :turns, most})

  defp follow(turns, start, turn_id) do
    key = {start.thread_id, turn_id}
    run = %{reader: start.reader, children?: start.children?, summary: @empty}
    turns = put_in(turns.running[key], run)

    Enum.flat_map_reduce(Enum.reverse(start.early), turns, fn
      {^turn_id, method, params}, turns -> pass_on(turns, key, method, params)
      _of_another_turn, turns -> {[], turns}
    end)
  end

  # `active` is the id that an interrupt has to name, nil if the turn has not begun.
  defp refuse(turns, %{thread_id: thread} = start, turn_id, active, reason) do
    lost = {start.reader, thread, turn_id, {:lost, reason, @empty}}

    if active,
      do: {[lost, {nil, thread, active, :abandoned}], turns},
      else: {[lost], orphan(turns, {thread, turn_id})}
  end

  defp begun_as(early, turn_id) do
    Enum.find_value(early, fn {id, method, params} ->
      if id == turn_id and method == "turn/started", do: Ids.turn_id(params)
    end)
  end

  # --- Notifications ----------------------------------------------------------------------------

  @doc "Handles a notification of the server."
  @spec observe(t(), String.t(), map()) :: {[message()], t()}
  def observe(turns, method, params) when method in ["thread/closed", "thread/deleted"] do
    id = Ids.thread_id(params)
    {gone, running} = Enum.split_with(turns.running, fn {{thread, _}, _} -> thread == id end)
    orphans = for {thread, _turn} = key <- turns.orphans, thread != id, do: key
    {child, turns} = child(turns, id, method, params)
    turns = %{turns | orphans: orphans, children: Map.delete(turns.children, id)}
    {child ++ lost(gone, method), running(turns, Map.new(running))}
  end

  def observe(%{running: none, starting: none, orphans: []} = turns, _method, _params)
      when none == %{},
      do: {[], turns}

  def observe(turns, method, params) do
    thread_id = Ids.thread_id(params)
    turn_id = turn_id(method, params)
    {child, turns} = child(turns, thread_id, method, params)
    {messages, turns} = own(turns, thread_id, turn_id, method, params)
    {child ++ messages, turns}
  end

  defp own(turns, thread_id, turn_id, method, params) do
    if is_binary(thread_id) and is_binary(turn_id) do
      key = {thread_id, turn_id}
      {abandoned, turns} = turns |> keep_early(key, method, params) |> begin(key, method, params)
      {messages, turns} = pass_on(turns, key, method, params)
      {messages ++ abandoned, turns}
    else
      {[], turns}
    end
  end

  defp turn_id("turn/started", %{"turn" => %{"rootTurnId" => root}}) when is_binary(root),
    do: root

  defp turn_id(_method, params), do: Ids.turn_id(params)

  # A sub-agent is known by the root of its first turn.
  defp child(
         turns,
         thread_id,
         "turn/started" = method,
         %{"turn" => %{"rootTurnId" => root}} = params
       )
       when is_binary(root) and is_binary(thread_id) do
    with false <- is_map_key(turns.children, thread_id),
         true <- map_size(turns.children) < @most_children,
         {key, _run} <- Enum.find(turns.running, &parent?(&1, thread_id, root)) do
      pass_child(put_in(turns.children[thread_id], key), thread_id, method, params)
    else
      _known_or_none -> pass_child(turns, thread_id, method, params)
    end
  end

  defp child(%{children: none} = turns, _thread_id, _method, _params) when none == %{},
    do: {[], turns}

  defp child(turns, thread_id, method, params), do: pass_child(turns, thread_id, method, params)

  defp parent?({{thread, turn}, run}, thread_id, root),
    do: run.children? and turn == root and thread != thread_id

  defp pass_child(turns, thread_id, method, params) do
    case turns.children do
      %{^thread_id => {parent, turn} = key} ->
        {[{reader(turns, key), parent, turn, {:child, thread_id, method, params}}], turns}

      _ ->
        {[], turns}
    end
  end

  # Sub-agents of turns that are not followed any more are nobody's.
  defp running(%{children: none} = turns, running) when none == %{},
    do: %{turns | running: running}

  defp running(turns, running) do
    children = for {id, key} <- turns.children, is_map_key(running, key), into: %{}, do: {id, key}
    %{turns | running: running, children: children}
  end

  # The server may report a turn before it answers the request that starts it.
  defp keep_early(%{starting: none} = turns, _, _, _) when none == %{}, do: turns

  defp keep_early(turns, {thread_id, turn_id}, method, params) do
    starting =
      Map.new(turns.starting, fn
        {ref, %{thread_id: ^thread_id, reader: reader, early: early} = start}
        when reader != nil and is_list(early) ->
          full? = start.count >= @most_early
          early = if full?, do: :overflow, else: [{turn_id, method, params} | early]
          {ref, %{start | early: early, count: start.count + 1}}

        other ->
          other
      end)

    %{turns | starting: starting}
  end

  # The server refuses to interrupt a turn before it has reported its beginning.
  defp begin(%{orphans: [_ | _]} = turns, {thread_id, _} = key, method, params)
       when method in ["turn/started", "turn/completed"] do
    if key in turns.orphans do
      abandoned = {nil, thread_id, Ids.turn_id(params), :abandoned}
      messages = if method == "turn/started", do: [abandoned], else: []
      {messages, %{turns | orphans: List.delete(turns.orphans, key)}}
    else
      {[], turns}
    end
  end

  defp begin(turns, _key, _method, _params), do: {[], turns}

  defp pass_on(turns, {thread_id, turn_id} = key, method, params) do
    case turns.running do
      %{^key => run} ->
        message = {run.reader, thread_id, turn_id, {:notification, method, params}}

        case note(run.summary, method, params) do
          {:completed, summary} ->
            completed = {run.reader, thread_id, turn_id, {:completed, summary}}
            {[message, completed], running(turns, Map.delete(turns.running, key))}

          nil ->
            {[message], turns}

          summary ->
            {[message], put_in(turns.running[key].summary, summary)}
        end

      _ ->
        {[], turns}
    end
  end

  defp note(summary, "turn/completed", params),
    do: {:completed, %{summary | turn: turn(params) || summary.turn}}

  defp note(summary, "turn/started", params), do: %{summary | turn: turn(params)}

  defp note(summary, "error", params),
    do: %{summary | error: Map.take(params, ["error", "willRetry"])}

  defp note(_summary, _method, _params), do: nil

  defp turn(%{"turn" => %{} = turn}), do: turn
  defp turn(_params), do: nil

  # --- Readers ----------------------------------------------------------------------------------

  @doc "Returns the reader of a turn, or nil."
  @spec reader(t(), key()) :: term()
  def reader(turns, key) do
    case turns.running do
      %{^key => run} -> run.reader
      _ -> nil
    end
  end

  @doc "Returns the turn whose reader gets the notifications of a sub-agent's thread, or nil."
  @spec parent(t(), String.t() | nil) :: key() | nil
  def parent(turns, thread_id), do: turns.children[thread_id]

  @doc "Returns the readers of turns that run or start."
  @spec readers(t()) :: [term()]
  def readers(turns) do
    starting = for {_, %{reader: reader}} when reader != nil <- turns.starting, do: reader
    Enum.map(turns.running, fn {_, run} -> run.reader end) ++ starting
  end

  @doc "Removes a turn from its reader."
  @spec unfollow(t(), reader :: term(), String.t(), String.t()) :: t()
  def unfollow(turns, reader, thread_id, turn_id) do
    key = {thread_id, turn_id}

    if reader(turns, key) == reader,
      do: running(turns, Map.delete(turns.running, key)),
      else: turns
  end

  @doc "Adds a turn that is interrupted when it begins. The oldest of too many never will."
  @spec orphan(t(), key()) :: t()
  def orphan(turns, key) do
    orphans = [key | List.delete(turns.orphans, key)]
    %{turns | orphans: Enum.take(orphans, turns.most)}
  end

  @doc "Removes a reader that is gone. Its turns are abandoned, now or when they begin."
  @spec remove(t(), reader :: term()) :: {[message()], t()}
  def remove(turns, reader) do
    {messages, turns} = abandon(turns, reader)
    starting = Map.new(turns.starting, fn {ref, start} -> {ref, without(start, reader)} end)
    {messages, %{turns | starting: starting}}
  end

  @doc "Removes the reader of the turn that starts in a thread."
  @spec remove_start(t(), reader :: term(), String.t()) :: t()
  def remove_start(turns, reader, thread_id) do
    starting =
      Map.new(turns.starting, fn {ref, start} ->
        {ref, if(start.thread_id == thread_id, do: without(start, reader), else: start)}
      end)

    %{turns | starting: starting}
  end

  defp without(%{reader: reader} = start, reader), do: %{start | reader: nil, early: []}
  defp without(start, _reader), do: start

  @doc "Abandons the turns of a reader that is cut off. A turn that starts stays its own."
  @spec cut_off(t(), reader :: term(), term()) :: {[message()], t()}
  def cut_off(turns, reader, reason) do
    lost = lost(Enum.filter(turns.running, fn {_, run} -> run.reader == reader end), reason)
    {abandoned, turns} = abandon(turns, reader)
    {lost ++ abandoned, turns}
  end

  defp abandon(turns, reader) do
    {own, others} = Enum.split_with(turns.running, fn {_, run} -> run.reader == reader end)

    Enum.flat_map_reduce(Enum.sort(own), running(turns, Map.new(others)), fn
      {key, %{summary: %{turn: nil}}}, turns ->
        {[], orphan(turns, key)}

      {{thread, _}, %{summary: %{turn: t}}}, turns ->
        {[{nil, thread, t["id"], :abandoned}], turns}
    end)
  end

  @doc "Ends all turns: the server is gone."
  @spec down(t(), term()) :: {[message()], t()}
  def down(turns, reason), do: {lost(turns.running, reason), new(turns.most)}

  defp lost(running, reason) do
    for {{thread_id, turn_id}, run} <- Enum.sort(running),
        do: {run.reader, thread_id, turn_id, {:lost, reason, run.summary}}
  end
end
