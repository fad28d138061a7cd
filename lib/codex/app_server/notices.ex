defmodule Codex.AppServer.Notices do
  @moduledoc false
  # Keeps warnings of the server that belong to no turn: of its configuration, or of a thread.
  # Results of turns of the connection include them in `warnings`. Bounded.

  alias Codex.AppServer.Ids
  alias Codex.Turn.Warnings

  # The limits of notices of the server or of one thread, and of threads with notices.
  @most 32
  @most_threads 256

  # The fields that a warning is made of, and their limits.
  @fields ~w(summary details path message name status error threadId)
  @longest 4_096

  defstruct server: [], threads: %{}

  @type notice :: {method :: String.t(), params :: map()}
  @type t :: %__MODULE__{server: [notice()], threads: %{String.t() => [notice()]}}

  @spec new() :: t()
  def new, do: %__MODULE__{}

  @doc "Adds a notification of the server."
  @spec note(t(), String.t(), map()) :: t()
  def note(notices, method, %{"threadId" => id})
      when method in ["thread/closed", "thread/deleted"],
      do: %{notices | threads: Map.delete(notices.threads, id)}

  # An MCP server may be started again.
  def note(notices, "mcpServer/startupStatus/updated" = method, %{"name" => name} = params) do
    notices = update(notices, params, &Enum.reject(&1, fn old -> of_server?(old, name) end))
    if params["status"] == "failed", do: put(notices, method, params), else: notices
  end

  def note(notices, method, params) do
    if Warnings.notice?(method), do: put(notices, method, params), else: notices
  end

  defp of_server?({"mcpServer/startupStatus/updated", %{"name" => name}}, name), do: true
  defp of_server?(_notice, _name), do: false

  defp put(notices, method, params),
    do: update(notices, params, &add(&1, {method, small(params)}))

  defp update(notices, params, fun) do
    case {Ids.thread_id(params), Ids.turn_id(params)} do
      {nil, _} -> %{notices | server: fun.(notices.server)}
      {id, nil} -> %{notices | threads: update_thread(notices.threads, id, fun)}
      # Readers of a turn get its warnings themselves.
      _ -> notices
    end
  end

  defp update_thread(threads, id, fun) do
    case fun.(Map.get(threads, id, [])) do
      [] ->
        Map.delete(threads, id)

      list when map_size(threads) < @most_threads or is_map_key(threads, id) ->
        Map.put(threads, id, list)

      _too_many ->
        threads
    end
  end

  defp add(old, notice) do
    if notice in old or length(old) >= @most, do: old, else: old ++ [notice]
  end

  defp small(params) do
    for {name, value} <- Map.take(params, @fields),
        is_binary(value),
        into: %{},
        do: {name, String.slice(value, 0, @longest)}
  end

  @doc "Returns the notices for a turn of this thread."
  @spec of(t(), String.t()) :: [notice()]
  def of(notices, thread_id), do: notices.server ++ Map.get(notices.threads, thread_id, [])
end
