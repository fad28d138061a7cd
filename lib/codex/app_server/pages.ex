defmodule Codex.AppServer.Pages do
  @moduledoc false
  # Methods that answer with a page of a list and a cursor for the next one, as one lazy stream.

  alias Codex.AppServer.Connection
  alias Codex.{Error, Protocol}
  alias Codex.Options.Schema

  @doc "Streams the elements of all pages. Invalid options raise at once, failures when it is read."
  @spec stream(GenServer.server(), String.t(), term(), map()) :: Enumerable.t()
  def stream(conn, method, options, ids) do
    with {:error, reason} <- Connection.check(conn), do: raise(error(reason))
    options = Map.merge(pairs!(options), ids)

    case Protocol.params(method, options) do
      {:ok, params, experimental} ->
        Stream.resource(fn -> params end, &page(&1, conn, method, experimental), fn _ -> :ok end)

      {:error, reason} ->
        raise error(reason)
    end
  end

  defp pairs!(options) do
    case Schema.pairs(options) do
      {:ok, pairs} -> Map.new(pairs)
      {:error, error} -> raise error(error)
    end
  end

  defp page(:done, _conn, _method, _experimental), do: {:halt, :done}

  defp page(params, conn, method, experimental) do
    case Connection.request(conn, method, params, experimental: experimental) do
      {:ok, %{"data" => data} = page} when is_list(data) -> {data, next(params, page)}
      {:ok, _other} -> raise error("the answer to #{method} has no data")
      {:error, reason} -> raise error(reason)
    end
  end

  # A server that names the same cursor again would never come to an end.
  defp next(params, %{"nextCursor" => cursor}) when is_binary(cursor) do
    if params["cursor"] == cursor, do: :done, else: Map.put(params, "cursor", cursor)
  end

  defp next(_params, _page), do: :done

  defp error(reason), do: Error.normalize(reason)
end
