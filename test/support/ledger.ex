defmodule Codex.Sessions.Ledger do
  @moduledoc """
  The truth about the threads of a home that is in use: which turns have begun, and which have
  ended. An agent keeps it; snapshots of it bound the right answers of a reader.
  """

  @doc "Starts an empty ledger."
  def start_link,
    do: Agent.start_link(fn -> %{threads: %{}, pending: 0, counts: %{}} end)

  @doc "Returns the ledger as it is."
  def get(ledger), do: Agent.get(ledger, & &1)

  @doc "Runs a function that makes a thread, whose id is not known before its end."
  def pending(ledger, fun) do
    Agent.update(ledger, &Map.update!(&1, :pending, fn count -> count + 1 end))
    result = fun.()
    Agent.update(ledger, &Map.update!(&1, :pending, fn count -> count - 1 end))
    result
  end

  @doc "Adds a thread whose turns with these prompts have ended."
  def add(ledger, id, prompts) do
    thread = %{prompts: prompts, ended: length(prompts), resting: false}
    Agent.update(ledger, &put_in(&1.threads[id], thread))
  end

  @doc "Runs a function that runs a turn. A turn that fails was never written."
  def turn(ledger, id, prompt, fun) do
    update(ledger, id, &%{&1 | prompts: &1.prompts ++ [prompt]})

    case fun.() do
      {:ok, result} ->
        update(ledger, id, &%{&1 | ended: &1.ended + 1})
        {:ok, result}

      error ->
        update(ledger, id, &%{&1 | prompts: &1.prompts -- [prompt]})
        error
    end
  end

  @doc "Marks a thread that gets no more turns."
  def rest(ledger, id), do: update(ledger, id, &%{&1 | resting: true})

  @doc "Counts an event."
  def count(ledger, what) do
    count = fn counts -> Map.update(counts, what, 1, &(&1 + 1)) end
    Agent.update(ledger, &Map.update!(&1, :counts, count))
  end

  defp update(ledger, id, fun),
    do: Agent.update(ledger, fn all -> update_in(all.threads[id], fun) end)

  @doc "Returns the id of a random thread, and whether it rests."
  def random(ledger) do
    {id, thread} = Enum.random(get(ledger).threads)
    {id, thread.resting}
  end

  @doc "Returns the number of turns of a thread that have ended."
  def turns(ledger, id), do: least(get(ledger), id)

  @doc "Runs a function. Returns its result between the snapshots before and after it."
  def around(ledger, fun) do
    before = get(ledger)
    result = fun.()
    {before, result, get(ledger)}
  end

  # --- Snapshots ----------------------------------------------------------------------------------

  @doc "Returns the ids of threads."
  def ids(all), do: Map.keys(all.threads)

  @doc "Returns the ids of threads in which a turn has ended."
  def written(all), do: for({id, %{ended: ended}} <- all.threads, ended > 0, do: id)

  @doc "Returns the prompts of a thread, the last ones of turns that have begun."
  def prompts(all, id), do: all.threads[id].prompts

  @doc "Returns whether a thread gets no more turns."
  def resting?(all, id), do: match?(%{resting: true}, all.threads[id])

  @doc "Returns the number of turns that have ended, of a thread or of all."
  def least(all, id), do: if(thread = all.threads[id], do: thread.ended, else: 0)
  def least(all), do: all.threads |> Map.keys() |> Enum.map(&least(all, &1)) |> Enum.sum()

  @doc "Returns the number of turns that have begun. An unknown thread can have one."
  def most(all, id) do
    case all.threads[id] do
      nil -> min(all.pending, 1)
      thread -> length(thread.prompts)
    end
  end

  def most(all),
    do: all.pending + (all.threads |> Map.keys() |> Enum.map(&most(all, &1)) |> Enum.sum())
end
