defmodule Codex.AppServer.Turns do
  @moduledoc false
  # The turns that somebody follows. A follower gets everything that the server tells of the turn, then how it ended, once.
  # Items are handed on and not kept; what is kept of a turn is small and bounded.
  #
  # A turn is the id in the answer to `turn/start` or `review/start`. For a review, the server's `turn/started` names another one, whose
  # root it is, and which only an interrupt has to name (CLI 0.169): it is the id of `summary.turn` as long as the review goes on.
  #
  # Functions return messages for followers, as `{follower, thread_id, turn_id, what}`:
  #
  #   * `{:notification, method, params}`
  #   * `{:request, id, method, params, others?}` - the server asks; `others?` tells whether subscribers were asked, too
  #   * `{:answered, id}` - that has its answer, from whomever
  #   * `{:completed, summary}` - the turn ended; `summary.turn` is the server's own word
  #   * `{:lost, reason, summary}` - there will be no more of it
  #   * `:abandoned`, for the follower nil - who started it is gone, and nobody wants it

  alias Codex.AppServer.Ids

  # Notifications that are kept for a turn whose id is not known yet, items that are open at a time, and who follows one turn.
  @most_early 256
  @most_open 4096
  @most_followers 64

  defstruct [:most, running: %{}, starting: %{}, orphans: []]

  @typedoc """
  What is known of a turn: the server's turn as last seen, tokens as last told, items that began and did not end (type by id),
  how many ended, the last error, and whether it will be retried.
  """
  @type summary :: %{
          turn: map() | nil,
          usage: map() | nil,
          open: %{String.t() => String.t() | nil},
          items: non_neg_integer(),
          error: map() | nil
        }
  @type what ::
          {:notification, String.t(), map()}
          | {:request, term(), String.t(), map(), others? :: boolean()}
          | {:answered, term()}
          | :abandoned
          | {:completed, summary()}
          | {:lost, term(), summary()}
  @type message :: {follower :: term(), String.t(), String.t(), what()}
  @type t :: %__MODULE__{
          most: pos_integer(),
          running: map(),
          starting: map(),
          orphans: [{String.t(), String.t()}]
        }

  @empty %{turn: nil, usage: nil, open: %{}, items: 0, error: nil}

  @spec new(pos_integer()) :: t()
  def new(most), do: %__MODULE__{most: most}

  @doc """
  Somebody wants to follow the turn that the request `ref` starts in a thread. What comes before its id is kept. A turn that is `own?` is
  not to go on without them.
  """
  @spec starting(t(), term(), term(), String.t(), boolean()) :: t()
  def starting(turns, ref, follower, thread_id, own? \\ false) do
    start = %{follower: follower, thread_id: thread_id, own?: own?, early: [], count: 0}
    put_in(turns.starting[ref], start)
  end

  @doc "A turn of this thread that somebody has for their own: its id, `:starting`, or nil."
  @spec owned_in(t(), String.t()) :: String.t() | :starting | nil
  def owned_in(turns, thread_id) do
    Enum.find_value(turns.running, fn {{thread, turn}, run} ->
      if thread == thread_id and run.owner != nil, do: turn
    end) ||
      Enum.find_value(turns.starting, fn {_ref, start} ->
        if start.thread_id == thread_id and start.own?, do: :starting
      end)
  end

  @doc """
  Somebody is gone: as `forget/2`, and what was their own is told as abandoned. The server refuses to interrupt a turn before it has told
  of its beginning (0.169), so that of such a one is told then.
  """
  @spec gone(t(), term()) :: {[message()], t()}
  def gone(turns, owner) do
    {begun, not_begun} =
      for({key, %{owner: ^owner} = run} <- Enum.sort(turns.running), do: {key, run})
      |> Enum.split_with(fn {_key, run} -> run.summary.turn != nil end)

    turns = forget(turns, owner)
    turns = Enum.reduce(not_begun, turns, fn {key, _run}, turns -> orphan(turns, key) end)

    abandoned =
      for {{thread, _turn}, %{summary: %{turn: turn}}} <- begun,
          do: {nil, thread, turn["id"], :abandoned}

    {abandoned, turns}
  end

  @doc """
  Somebody took too little of what they follow: that is lost for them, and their own turns are told
  as abandoned. A turn that is only
  starting is theirs as before.
  """
  @spec cut_off(t(), term(), term()) :: {[message()], t()}
  def cut_off(turns, who, reason) do
    followed = for {_key, run} = entry <- turns.running, who in run.followers, do: entry
    lost = Enum.filter(lost(followed, reason), &(elem(&1, 0) == who))
    {abandoned, left} = gone(turns, who)
    {lost ++ abandoned, %{left | starting: turns.starting}}
  end

  @doc "The turn of this thread that somebody follows, and what an interrupt has to name, nil before the server tells of its beginning; or nil."
  @spec running_in(t(), String.t()) :: {String.t(), String.t() | nil} | nil
  def running_in(turns, thread_id) do
    Enum.find_value(turns.running, fn {{thread, turn}, run} ->
      if thread == thread_id, do: {turn, run.summary.turn["id"]}
    end)
  end

  @doc "Nobody wants this turn: that is told when it begins. As many as may run: the oldest of more have long begun, or never will."
  @spec orphan(t(), {String.t(), String.t()}) :: t()
  def orphan(turns, key), do: %{turns | orphans: Enum.take([key | turns.orphans], turns.most)}

  @doc "The request `ref` was sent again under another name."
  @spec renamed(t(), term(), term()) :: t()
  def renamed(turns, ref, new) do
    case Map.pop(turns.starting, ref) do
      {nil, _} -> turns
      {start, starting} -> %{turns | starting: Map.put(starting, new, start)}
    end
  end

  @doc """
  The request `ref` has no answer in time. If one comes later, its turn is nobody's, where it was to
  be somebody's own.
  """
  @spec late(t(), term()) :: t()
  def late(turns, ref) do
    case Map.pop(turns.starting, ref) do
      {%{own?: true} = start, starting} when map_size(starting) < turns.most ->
        late = %{start | follower: nil, early: [], own?: false}
        %{turns | starting: Map.put(starting, ref, late)}

      {_none, starting} ->
        %{turns | starting: starting}
    end
  end

  @doc "The request `ref` has its answer: the id of its turn, or nil where there is none."
  @spec started(t(), term(), String.t() | nil) :: {[message()], t()}
  def started(turns, ref, turn_id) do
    case Map.pop(turns.starting, ref) do
      {nil, _} ->
        {[], turns}

      {_start, starting} when not is_binary(turn_id) ->
        {[], %{turns | starting: starting}}

      {%{follower: nil} = start, starting} ->
        {[], orphan(%{turns | starting: starting}, {start.thread_id, turn_id})}

      {%{early: :overflow} = start, starting} ->
        lost = {:lost, {:overflow, :notifications, @most_early}, @empty}
        {[{start.follower, start.thread_id, turn_id, lost}], %{turns | starting: starting}}

      {start, starting} ->
        early = for {^turn_id, method, params} <- Enum.reverse(start.early), do: {method, params}
        turns = %{turns | starting: starting}
        {told, turns} = follow(turns, start.follower, start.thread_id, turn_id, early)
        {told, if(start.own?, do: own(turns, start, turn_id), else: turns)}
    end
  end

  # It may be over already. What nobody can follow any more is not to go on.
  defp own(turns, start, turn_id) do
    key = {start.thread_id, turn_id}

    case turns.running do
      %{^key => %{followers: followers, owner: owner}} ->
        if start.follower in followers,
          do: put_in(turns.running[key].owner, owner || start.follower),
          else: turns

      _ when map_size(turns.running) >= turns.most ->
        orphan(turns, key)

      _ ->
        turns
    end
  end

  @doc "Somebody follows a turn by its id, from now on. What was told before (`early`) comes first."
  @spec follow(t(), term(), String.t(), String.t(), [{String.t(), map()}]) :: {[message()], t()}
  def follow(turns, follower, thread_id, turn_id, early \\ []) do
    told =
      for {method, params} <- early,
          do: {follower, thread_id, turn_id, {:notification, method, params}}

    key = {thread_id, turn_id}

    case turns.running do
      %{^key => %{followers: followers} = run} when length(followers) < @most_followers ->
        followers = Enum.uniq(followers ++ [follower])
        {told, put_in(turns.running[key], %{run | followers: followers})}

      %{^key => run} ->
        lost = {:lost, {:overflow, :followers, @most_followers}, run.summary}
        {told ++ [{follower, thread_id, turn_id, lost}], turns}

      _ ->
        summary =
          Enum.reduce(early, @empty, fn {method, params}, s -> note(s, method, params) end)

        cond do
          end_of(early) ->
            {told ++ [{follower, thread_id, turn_id, {:completed, summary}}], turns}

          map_size(turns.running) >= turns.most ->
            lost = {:lost, {:overflow, :turns, turns.most}, summary}
            {told ++ [{follower, thread_id, turn_id, lost}], turns}

          true ->
            run = %{followers: [follower], owner: nil, summary: summary}
            {told, put_in(turns.running[key], run)}
        end
    end
  end

  defp end_of(early), do: List.keymember?(early, "turn/completed", 0)

  @doc "Nobody follows on behalf of this one any more. Of a turn of theirs that is only starting, nil is told when it has its id."
  @spec forget(t(), term()) :: t()
  def forget(turns, follower) do
    running = for entry <- turns.running, left = without(entry, follower), into: %{}, do: left

    starting =
      for {ref, start} <- turns.starting, start.follower != follower or start.own?, into: %{} do
        if start.follower == follower,
          do: {ref, %{start | follower: nil, early: []}},
          else: {ref, start}
      end

    %{turns | running: running, starting: starting}
  end

  @doc "Nobody waits for the id of the turn that `follower` starts in a thread."
  @spec forget_start(t(), term(), String.t()) :: t()
  def forget_start(turns, follower, thread_id) do
    starting =
      Map.new(turns.starting, fn
        {ref, %{follower: ^follower, thread_id: ^thread_id, own?: true} = start} ->
          {ref, %{start | follower: nil, early: []}}

        other ->
          other
      end)

    %{turns | starting: starting}
  end

  @doc "This one does not follow this turn any more; others they do."
  @spec forget(t(), term(), String.t(), String.t()) :: t()
  def forget(turns, follower, thread_id, turn_id) do
    key = {thread_id, turn_id}

    case Map.pop(turns.running, key) do
      {nil, _} ->
        turns

      {run, running} ->
        left = without({key, run}, follower)
        %{turns | running: if(left, do: Map.put(running, key, run_of(left)), else: running)}
    end
  end

  defp run_of({_key, run}), do: run

  defp without({key, run}, follower) do
    owner = if run.owner != follower, do: run.owner

    case List.delete(run.followers, follower) do
      [] -> nil
      followers -> {key, %{run | followers: followers, owner: owner}}
    end
  end

  @doc "Who follows any turn, or will."
  @spec listeners(t()) :: [term()]
  def listeners(turns) do
    starting = for {_, %{follower: who}} when who != nil <- turns.starting, do: who
    Enum.flat_map(turns.running, fn {_, run} -> run.followers end) ++ starting
  end

  @doc "Who follows a turn."
  @spec followers(t(), {String.t() | nil, String.t() | nil}) :: [term()]
  def followers(turns, key) do
    case turns.running do
      %{^key => run} -> run.followers
      _ -> []
    end
  end

  @doc "One notification of the server."
  @spec told(t(), String.t(), map()) :: {[message()], t()}
  def told(turns, method, params) do
    thread_id = Ids.thread_id(params)
    turn_id = turn_id(method, params)

    cond do
      method in ["thread/closed", "thread/deleted"] ->
        gone(turns, thread_id, method)

      is_binary(thread_id) and is_binary(turn_id) ->
        told(turns, thread_id, turn_id, method, params)

      true ->
        {[], turns}
    end
  end

  defp turn_id("turn/started", %{"turn" => %{"rootTurnId" => root}}) when is_binary(root),
    do: root

  defp turn_id(_method, params), do: Ids.turn_id(params)

  defp told(turns, thread_id, turn_id, method, params) do
    turns = keep_early(turns, thread_id, turn_id, method, params)
    key = {thread_id, turn_id}
    {abandoned, turns} = begun(turns, key, method, params)
    {told, turns} = hand_on(turns, key, method, params)
    {told ++ abandoned, turns}
  end

  defp begun(%{orphans: []} = turns, _key, _method, _params), do: {[], turns}

  defp begun(turns, {thread_id, _turn_id} = key, method, params)
       when method in ["turn/started", "turn/completed"] do
    if key in turns.orphans do
      abandoned = {nil, thread_id, Ids.turn_id(params), :abandoned}
      told = if method == "turn/started", do: [abandoned], else: []
      {told, %{turns | orphans: List.delete(turns.orphans, key)}}
    else
      {[], turns}
    end
  end

  defp begun(turns, _key, _method, _params), do: {[], turns}

  defp hand_on(turns, {thread_id, turn_id} = key, method, params) do
    case turns.running do
      %{^key => run} ->
        run = %{run | summary: note(run.summary, method, params)}

        told =
          for who <- run.followers, do: {who, thread_id, turn_id, {:notification, method, params}}

        if method == "turn/completed" do
          ended =
            for who <- run.followers, do: {who, thread_id, turn_id, {:completed, run.summary}}

          {told ++ ended, %{turns | running: Map.delete(turns.running, key)}}
        else
          {told, put_in(turns.running[key], run)}
        end

      _ ->
        {[], turns}
    end
  end

  # A turn can be told of before the request that starts it is answered.
  defp keep_early(%{starting: none} = turns, _, _, _, _) when none == %{}, do: turns

  defp keep_early(turns, thread_id, turn_id, method, params) do
    starting =
      Map.new(turns.starting, fn
        {ref, %{thread_id: ^thread_id, early: early, count: count} = start} when is_list(early) ->
          early = if count < @most_early, do: [{turn_id, method, params} | early], else: :overflow
          {ref, %{start | early: early, count: count + 1}}

        other ->
          other
      end)

    %{turns | starting: starting}
  end

  defp note(summary, "turn/completed", %{"turn" => %{} = turn}), do: %{summary | turn: turn}
  defp note(summary, "turn/started", %{"turn" => %{} = turn}), do: %{summary | turn: turn}

  defp note(summary, "item/started", %{"item" => %{"id" => id} = item}) do
    if map_size(summary.open) < @most_open,
      do: put_in(summary.open[id], item["type"]),
      else: summary
  end

  defp note(summary, "item/completed", %{"item" => %{"id" => id}}),
    do: %{summary | open: Map.delete(summary.open, id), items: summary.items + 1}

  defp note(summary, "thread/tokenUsage/updated", %{"tokenUsage" => usage}),
    do: %{summary | usage: usage}

  defp note(summary, "error", params),
    do: %{summary | error: Map.take(params, ["error", "willRetry"])}

  defp note(summary, _method, _params), do: summary

  # A thread that is no longer there ends its turns without a word.
  defp gone(turns, thread_id, reason) do
    {gone, running} = Enum.split_with(turns.running, fn {{id, _}, _} -> id == thread_id end)
    {lost(gone, reason), %{turns | running: Map.new(running)}}
  end

  @doc "The server is gone: what there was of every turn."
  @spec down(t(), term()) :: {[message()], t()}
  def down(turns, reason), do: {lost(turns.running, reason), new(turns.most)}

  defp lost(running, reason) do
    for {{thread_id, turn_id}, run} <- Enum.sort(running),
        who <- run.followers,
        do: {who, thread_id, turn_id, {:lost, reason, run.summary}}
  end
end
