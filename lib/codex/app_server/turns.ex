defmodule Codex.AppServer.Turns do
  @moduledoc false
  # The turns that somebody follows. A follower gets everything that the server tells of the turn, then how it ended, once.
  # Items are handed on and not kept; what is kept of a turn is small and bounded.
  #
  # A turn is the id in the answer to `turn/start` or `review/start`. The server's `turn/started` names another one for a
  # review, of which it tells nothing else (CLI 0.169), so that notification alone makes no turn.
  #
  # Functions return messages for followers, as `{follower, thread_id, turn_id, what}`:
  #
  #   * `{:notification, method, params}`
  #   * `{:completed, summary}` - the turn ended; `summary.turn` is the server's own word
  #   * `{:lost, reason, summary}` - there will be no more of it

  alias Codex.AppServer.Message

  # Notifications that are kept for a turn whose id is not known yet, items that are open at a time, and who follows one turn.
  @most_early 256
  @most_open 4096
  @most_followers 64

  defstruct [:most, running: %{}, starting: %{}]

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
          | {:completed, summary()}
          | {:lost, term(), summary()}
  @type message :: {follower :: term(), String.t(), String.t(), what()}
  @type t :: %__MODULE__{most: pos_integer(), running: map(), starting: map()}

  @empty %{turn: nil, usage: nil, open: %{}, items: 0, error: nil}

  @spec new(pos_integer()) :: t()
  def new(most), do: %__MODULE__{most: most}

  @doc "Somebody wants to follow the turn that the request `ref` starts in a thread. What comes before its id is kept."
  @spec starting(t(), term(), term(), String.t()) :: t()
  def starting(turns, ref, follower, thread_id),
    do:
      put_in(turns.starting[ref], %{follower: follower, thread_id: thread_id, early: [], count: 0})

  @doc "The request `ref` was sent again under another name."
  @spec renamed(t(), term(), term()) :: t()
  def renamed(turns, ref, new) do
    case Map.pop(turns.starting, ref) do
      {nil, _} -> turns
      {start, starting} -> %{turns | starting: Map.put(starting, new, start)}
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

      {%{early: :overflow} = start, starting} ->
        lost = {:lost, {:overflow, :notifications, @most_early}, @empty}
        {[{start.follower, start.thread_id, turn_id, lost}], %{turns | starting: starting}}

      {start, starting} ->
        early = for {^turn_id, method, params} <- Enum.reverse(start.early), do: {method, params}
        follow(%{turns | starting: starting}, start.follower, start.thread_id, turn_id, early)
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
            run = %{followers: [follower], summary: summary}
            {told, put_in(turns.running[key], run)}
        end
    end
  end

  defp end_of(early), do: List.keymember?(early, "turn/completed", 0)

  @doc "Nobody follows on behalf of this one any more."
  @spec forget(t(), term()) :: t()
  def forget(turns, follower) do
    running =
      for {key, run} <- turns.running,
          followers = List.delete(run.followers, follower),
          followers != [],
          into: %{},
          do: {key, %{run | followers: followers}}

    starting = Map.reject(turns.starting, fn {_, start} -> start.follower == follower end)
    %{turns | running: running, starting: starting}
  end

  @doc "Who follows a turn."
  @spec followers(t(), String.t() | nil, String.t() | nil) :: [term()]
  def followers(turns, thread_id, turn_id) do
    case turns.running do
      %{{^thread_id, ^turn_id} => run} -> run.followers
      _ -> []
    end
  end

  @doc "One notification of the server."
  @spec told(t(), String.t(), map()) :: {[message()], t()}
  def told(turns, method, params) do
    thread_id = Message.thread_id(params)
    turn_id = Message.turn_id(params)

    cond do
      method in ["thread/closed", "thread/deleted"] ->
        gone(turns, thread_id, method)

      is_binary(thread_id) and is_binary(turn_id) ->
        told(turns, thread_id, turn_id, method, params)

      true ->
        {[], turns}
    end
  end

  defp told(turns, thread_id, turn_id, method, params) do
    turns = keep_early(turns, thread_id, turn_id, method, params)
    key = {thread_id, turn_id}

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

  defp note(summary, "turn/completed", %{"turn" => turn}), do: %{summary | turn: turn}
  defp note(summary, "turn/started", %{"turn" => turn}), do: %{summary | turn: turn}

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
