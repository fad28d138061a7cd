defmodule Codex.AppServer.Subscribers do
  @moduledoc false
  # Who wants to hear what. One filter for each subscriber: a second one takes the place of the first.

  alias Codex.AppServer.Message
  alias Codex.Options.Unknown

  @type filter :: %{
          methods: MapSet.t(String.t()) | nil,
          thread_id: String.t() | nil,
          as: form()
        }
  @type form :: :wire | :structs
  @type t :: %{term() => filter()}

  @doc """
  A filter from options: `:methods` (list of text), `:thread_id` (text), and `:as`, the form in which it is wanted. What is about no thread does not pass a filter with one.

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

  @doc "Whether a notification or request passes a filter."
  @spec pass?(filter(), String.t(), map()) :: boolean()
  def pass?(filter, method, params),
    do: (filter.methods == nil or method in filter.methods) and about?(filter, params)

  defp about?(%{thread_id: id}, params), do: id == nil or id == Message.thread_id(params)

  @doc "The subscribers that want it."
  @spec of(t(), String.t(), map()) :: [term()]
  def of(subscribers, method, params),
    do: for({who, filter} <- subscribers, pass?(filter, method, params), do: who)

  @doc """
  The subscribers that want to hear of the thread that parameters are about, whatever the method.
  """
  @spec about(t(), map()) :: [term()]
  def about(subscribers, params),
    do: for({who, filter} <- subscribers, about?(filter, params), do: who)

  @doc "The form that a subscriber wants."
  @spec form(t(), term()) :: form()
  def form(subscribers, who) do
    case subscribers do
      %{^who => %{as: form}} -> form
      _gone -> :wire
    end
  end
end
