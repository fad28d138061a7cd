defmodule Codex.Sessions.Listing do
  @moduledoc false
  # Pages of sessions, and the session that a text names.

  alias Codex.OptionError
  alias Codex.Sessions.{Filter, Page, Record, Session, Store}

  @doc "Returns a page of the sessions that match. Reads no more threads than it needs."
  @spec page(Store.t(), map(), map()) :: Page.t()
  def page(store, filter, opts) do
    ids = Enum.filter(rest(store, opts.after), &Filter.may_match?(filter, store.threads[&1]))
    {found, problems} = take(store, ids, filter, opts.limit)
    {sessions, more} = Enum.split(found, opts.limit)

    general =
      if opts.after == nil, do: Enum.filter(store.problems, &(&1.session == nil)), else: []

    next = if more != [], do: List.last(sessions).id
    %Page{sessions: sessions, next: next, problems: general ++ problems}
  end

  # One session more than the page has, to know whether another page follows.
  defp take(store, ids, filter, limit) do
    left_out = Enum.group_by(store.problems, & &1.session)

    {sessions, problems, _count} =
      store
      |> Record.stream(ids)
      |> Enum.reduce_while({[], [], 0}, fn record, {sessions, problems, count} ->
        session = Record.session(record, store)

        cond do
          not Filter.match?(filter, session) ->
            {:cont, {sessions, problems, count}}

          count == limit ->
            {:halt, {[session | sessions], problems, count}}

          true ->
            found = Map.get(left_out, session.id, []) ++ Record.problems(record, store)
            {:cont, {[session | sessions], [found | problems], count + 1}}
        end
      end)

    {Enum.reverse(sessions), problems |> Enum.reverse() |> Enum.concat()}
  end

  defp rest(store, nil), do: store.order

  # A session that was deleted meanwhile still has its place: ids are sorted by time and id.
  defp rest(store, id) do
    case Enum.drop_while(store.order, &(&1 != id)) do
      [_id | rest] -> rest
      [] -> Enum.drop_while(store.order, &(&1 >= id))
    end
  end

  @doc "Returns the id of the session that a session or text names."
  @spec id(Store.t(), Session.t() | String.t()) ::
          {:ok, String.t()}
          | {:error,
             {:session_not_found, String.t()}
             | {:ambiguous_session, String.t(), [String.t()]}
             | OptionError.t()}
  def id(store, %Session{id: id}), do: id(store, id)

  def id(store, text) when is_binary(text) and text != "" do
    named = for {id, ^text} <- store.names, is_map_key(store.threads, id), do: id
    begins = fn -> Enum.filter(store.order, &String.starts_with?(&1, String.downcase(text))) end

    cond do
      is_map_key(store.threads, text) -> {:ok, text}
      named != [] -> only(named, text)
      true -> only(begins.(), text)
    end
  end

  def id(_store, other),
    do:
      {:error,
       OptionError.argument(:session, other, "a session, or its id, name or beginning of its id")}

  defp only([id], _text), do: {:ok, id}
  defp only([], text), do: {:error, {:session_not_found, text}}
  defp only(ids, text), do: {:error, {:ambiguous_session, text, Enum.sort(ids)}}
end
