defmodule Codex.AppServer.Subscribers do
  @moduledoc false
  # The filters of subscribers, one for each: a second subscription replaces the first.

  alias Codex.AppServer.Ids
  alias Codex.Options.{Rows, Schema}

  @schema Schema.new(Rows.AppServer.subscription(), places: true)

  @type filter :: %{
          methods: MapSet.t(String.t()) | nil,
          thread_id: String.t() | nil,
          as: form()
        }
  @type form :: :wire | :structs
  @type t :: %{term() => filter()}

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc """
  Makes a filter from the options `:methods` (list of strings), `:thread_id` (string) and `:as`, the
  form of the messages. A filter with a thread rejects messages about no thread.

      iex> {:ok, filter} = Codex.AppServer.Subscribers.filter(thread_id: "t")
      iex> Codex.AppServer.Subscribers.pass?(filter, "turn/started", %{"threadId" => "t"})
      true
      iex> {:error, error} = Codex.AppServer.Subscribers.filter(thread: "t")
      iex> error.nearest
      :thread_id
  """
  @spec filter(term()) :: {:ok, filter()} | {:error, Codex.OptionError.t()}
  def filter(options) do
    with {:ok, options} <- Schema.validate(@schema, options || []),
         do: {:ok, Map.update!(options, :methods, &(&1 && MapSet.new(&1)))}
  end

  @doc "Returns whether a notification or request passes a filter."
  @spec pass?(filter(), String.t(), map()) :: boolean()
  def pass?(filter, method, params),
    do: (filter.methods == nil or method in filter.methods) and about?(filter, params)

  @doc "Returns whether parameters are about the thread of a filter, whatever the method."
  @spec about?(filter(), map()) :: boolean()
  def about?(%{thread_id: id}, params), do: id == nil or id == Ids.thread_id(params)
end
