defmodule Codex.MCP.Lists do
  @moduledoc false
  # Lists of a server, page by page, and filters of tools.

  alias Codex.MCP.Caller
  alias Codex.OptionError
  alias Codex.Options.Schema

  @most_pages 1_000
  # The longest name of a tool for the model, and the part of a longer one that stays readable.
  @longest 64
  @head 24

  @keys %{
    "tools/list" => "tools",
    "resources/list" => "resources",
    "resources/templates/list" => "resourceTemplates",
    "prompts/list" => "prompts"
  }

  @doc "Returns the member of an answer that has the items."
  @spec key(String.t()) :: String.t()
  def key(method), do: @keys[method]

  @doc "Fetches one page."
  @spec page(GenServer.server(), String.t(), String.t() | nil, timeout()) ::
          {:ok, map()} | {:error, term()}
  def page(conn, method, cursor, timeout) do
    params = if cursor, do: %{"cursor" => cursor}, else: %{}

    with {:ok, result} <- Caller.request(conn, method, params, timeout_ms: timeout) do
      if is_map(result) and is_list(result[@keys[method]]),
        do: {:ok, result},
        else: {:error, invalid(method)}
    end
  end

  defp invalid("tools/list"), do: :invalid_tools_response
  defp invalid(method), do: {:invalid_list, method}

  @doc "Returns all items of a list: from the cache, or from the server within `timeout` ms."
  @spec all(GenServer.server(), String.t(), boolean(), timeout()) ::
          {:ok, [map()]} | {:error, term()}
  def all(conn, method, cache?, timeout) do
    until = if timeout == :infinity, do: :infinity, else: now() + timeout

    with {:ok, cached} <- Caller.call(conn, {:cached, method}) do
      case cached do
        {:ok, items} when cache? -> {:ok, items}
        {:ok, _items} -> pages(conn, method, nil, until, {[], 0, nil}, nil)
        {:stale, generation} -> pages(conn, method, nil, until, {[], 0, nil}, generation)
      end
    end
  end

  defp pages(_conn, _method, _cursor, _until, {_items, @most_pages, _ttl}, _generation),
    do: {:error, {:overflow, :pages, @most_pages}}

  defp pages(conn, method, cursor, until, {items, count, ttl}, generation) do
    left = if until == :infinity, do: :infinity, else: max(until - now(), 1)

    with {:ok, result} <- page(conn, method, cursor, left) do
      items = [result[@keys[method]] | items]
      ttl = shortest(ttl, result["ttlMs"])

      case result["nextCursor"] do
        next when is_binary(next) ->
          pages(conn, method, next, until, {items, count + 1, ttl}, generation)

        _last ->
          items = items |> Enum.reverse() |> Enum.concat()
          Caller.call(conn, {:store, method, items, ttl, generation})
      end
    end
  end

  defp shortest(nil, ttl) when is_integer(ttl) and ttl >= 0, do: ttl
  defp shortest(ttl, other) when is_integer(other) and other >= 0, do: min(ttl, other)
  defp shortest(ttl, _other), do: ttl

  @streams %{
    tools: "tools/list",
    resources: "resources/list",
    resource_templates: "resources/templates/list",
    prompts: "prompts/list"
  }

  @stream Schema.new([
            {:max_items, :positive, "more items raise an error", default: 100_000},
            {:timeout_ms, :timeout, "the limit of each page", default: 30_000}
          ])

  @doc "Returns the options of a stream as a Markdown list."
  @spec stream_docs() :: String.t()
  def stream_docs, do: Schema.docs(@stream)

  @doc "Returns a stream of items that fetches pages as they are needed, and raises `Codex.Error`."
  @spec stream(GenServer.server(), atom(), keyword()) :: Enumerable.t()
  def stream(conn, kind, opts) do
    %{timeout_ms: timeout, max_items: most} = Schema.validate!(@stream, opts)

    if not is_map_key(@streams, kind),
      do: OptionError.wrong!(:kind, kind, "one of #{inspect(Map.keys(@streams))}")

    method = @streams[kind]

    fn -> {:first, 0} end
    |> Stream.resource(&next(&1, conn, method, timeout), fn _state -> :ok end)
    |> Stream.with_index()
    |> Stream.map(fn {item, index} ->
      if index >= most, do: raise(Codex.Error.normalize({:overflow, :items, most})), else: item
    end)
  end

  defp next(:last, _conn, _method, _timeout), do: {:halt, :last}

  defp next({_cursor, @most_pages}, _conn, _method, _timeout),
    do: raise(Codex.Error.normalize({:overflow, :pages, @most_pages}))

  defp next({cursor, count}, conn, method, timeout) do
    case page(conn, method, if(cursor != :first, do: cursor), timeout) do
      {:ok, %{"nextCursor" => next} = result} when is_binary(next) ->
        {result[@keys[method]], {next, count + 1}}

      {:ok, result} ->
        {result[@keys[method]], :last}

      {:error, reason} ->
        raise Codex.Error.normalize(reason)
    end
  end

  @doc "Returns whether the configuration of a server allows a tool."
  @spec allowed?(map(), String.t()) :: boolean()
  def allowed?(about, name),
    do:
      (about.enabled_tools == nil or name in about.enabled_tools) and
        name not in about.disabled_tools

  @doc "Filters tools, and adds qualified names."
  @spec select([map()], map(), map()) :: [map()]
  def select(tools, about, opts) do
    tools =
      Enum.filter(tools, fn %{"name" => name} = tool ->
        allowed?(about, name) and (opts.allow == nil or name in opts.allow) and
          name not in (opts.deny || []) and (opts.filter == nil or opts.filter.(tool))
      end)

    if opts.qualify?, do: qualified(tools, about.server_name), else: tools
  end

  defp qualified(tools, nil), do: tools

  defp qualified(tools, server) do
    tools
    |> Enum.map(
      &Map.merge(&1, %{"qualified_name" => qualify(server, &1["name"]), "server_name" => server})
    )
    |> Enum.uniq_by(& &1["qualified_name"])
  end

  @doc "Returns the name of a tool for the model, at most 64 characters long."
  @spec qualify(String.t(), String.t()) :: String.t()
  def qualify(server, tool) do
    name = "mcp__#{server}__#{tool}"

    if String.length(name) <= @longest do
      name
    else
      hash = :sha |> :crypto.hash(name) |> Base.encode16(case: :lower)
      String.slice(name, 0, @head) <> hash
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
