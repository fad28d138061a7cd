defmodule Codex.Sessions.Listing do
  @moduledoc false
  # Pages of sessions, and the session that a text names.

  alias Codex.{Native, NativePool, OptionError}
  alias Codex.Sessions.{Filter, Page, Session, Store}

  @doc "Returns a page of the sessions that match. Reads few more threads than it needs."
  @spec page(Path.t(), map(), map()) ::
          {:ok, Page.t()} | {:error, {:native, String.t()} | atom()}
  def page(home, filter, %{after: id, limit: limit, index: index}) do
    wanted = Filter.native(filter)

    with {:ok, sessions, problems, more} <-
           NativePool.call(&Native.rollout_page(&1, &2, home, wanted, {id, limit}, index)) do
      next = if more, do: List.last(sessions).id
      {:ok, %Page{sessions: sessions, next: next, problems: problems}}
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
