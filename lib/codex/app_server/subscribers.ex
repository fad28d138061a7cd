defmodule Codex.AppServer.Subscribers do
  @moduledoc false
  # The filters of subscribers, one for each: a second subscription replaces the first.

  alias Codex.AppServer.Ids
  alias Codex.Options.Unknown

  @type filter :: %{
          methods: MapSet.t(String.t()) | nil,
          thread_id: String.t() | nil,
          as: form()
        }
  @type form :: :wire | :structs
  @type t :: %{term() => filter()}

  @doc """
  Makes a filter from the options `:methods` (list of strings), `:thread_id` (string) and `:as`, the
  form of the messages. A filter with a thread rejects messages about no thread.

      iex> {:ok, filter} = Codex.AppServer.Subscribers.filter(thread_id: "t")
      iex> Codex.AppServer.Subscribers.pass?(filter, "turn/started", %{"threadId" => "t"})
      true
      iex> Codex.AppServer.Subscribers.filter(thread: "t")
      {:error, {:unknown_option, :thread, :thread_id}}
  """
  @spec filter(term()) ::
          {:ok, filter()}
          | {:error,
             Unknown.reason()
             | {:invalid_option, atom(), term(), String.t()}
             | {:invalid_options, term()}}
  def filter(options) do
    case Codex.Options.Cast.pairs(options || []) do
      {:ok, pairs} -> filter(pairs, %{methods: nil, thread_id: nil, as: :wire})
      :error -> {:error, {:invalid_options, Codex.Options.Keywords.redacted(options)}}
    end
  end

  defp filter([], filter), do: {:ok, filter}

  defp filter([{key, value} | pairs], filter) do
    case {key, value} do
      {:methods, nil} ->
        filter(pairs, filter)

      {:methods, methods} ->
        if is_list(methods) and not List.improper?(methods) and Enum.all?(methods, &is_binary/1),
          do: filter(pairs, %{filter | methods: MapSet.new(methods)}),
          else: {:error, {:invalid_option, :methods, methods, "a list of strings"}}

      {:thread_id, id} when is_binary(id) or id == nil ->
        filter(pairs, %{filter | thread_id: id})

      {:thread_id, id} ->
        {:error, {:invalid_option, :thread_id, id, "a string"}}

      {:as, nil} ->
        filter(pairs, filter)

      {:as, form} when form in [:wire, :structs] ->
        filter(pairs, %{filter | as: form})

      {:as, form} ->
        {:error, {:invalid_option, :as, form, ":wire or :structs"}}

      {key, _} ->
        {:error, Unknown.reason(key, Unknown.subscription())}
    end
  end

  @doc "Returns whether a notification or request passes a filter."
  @spec pass?(filter(), String.t(), map()) :: boolean()
  def pass?(filter, method, params),
    do: (filter.methods == nil or method in filter.methods) and about?(filter, params)

  @doc "Returns whether parameters are about the thread of a filter, whatever the method."
  @spec about?(filter(), map()) :: boolean()
  def about?(%{thread_id: id}, params), do: id == nil or id == Ids.thread_id(params)
end
