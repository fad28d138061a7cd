defmodule Codex.MCP.Cache do
  @moduledoc false
  # Complete lists of a server, unfiltered, by method. A list is valid for its `ttlMs`; without one,
  # in the legacy era, until the server says that it changed. Definitions of tools stay known.

  defstruct generation: 0, lists: %{}, tools: %{}

  @type t :: %__MODULE__{}

  @changes %{
    "notifications/tools/list_changed" => ["tools/list"],
    "notifications/prompts/list_changed" => ["prompts/list"],
    "notifications/resources/list_changed" => ["resources/list", "resources/templates/list"]
  }

  @doc "Returns a valid list, or the generation to store one with."
  @spec fetch(t(), String.t(), integer()) :: {:ok, [map()]} | {:stale, non_neg_integer()}
  def fetch(cache, method, now) do
    case cache.lists do
      %{^method => {items, until}} when until > now -> {:ok, items}
      _none -> {:stale, cache.generation}
    end
  end

  @doc "Returns until when a list is valid. `ttl` is its `ttlMs`, or nil."
  @spec until(term(), :legacy | :modern, integer()) :: integer() | :infinity
  def until(ttl, _era, now) when is_integer(ttl), do: now + ttl
  def until(_none, :legacy, _now), do: :infinity
  def until(_none, :modern, now), do: now

  @doc "Stores a list, unless lists have changed since its generation."
  @spec store(t(), String.t(), [map()], integer() | :infinity, non_neg_integer()) :: t()
  def store(cache, method, items, until, generation) do
    cache =
      if method == "tools/list",
        do: %{cache | tools: Map.new(items, &{&1["name"], &1})},
        else: cache

    if generation == cache.generation,
      do: put_in(cache.lists[method], {items, until}),
      else: cache
  end

  @doc "Drops lists that a notification says have changed."
  @spec changed(t(), String.t()) :: t()
  def changed(cache, notification) do
    case @changes[notification] do
      nil ->
        cache

      methods ->
        %{cache | lists: Map.drop(cache.lists, methods), generation: cache.generation + 1}
    end
  end
end
