defmodule Codex.AppServer.SearchStream do
  @moduledoc false
  # `thread/search/stream` as a lazy stream. The server sends what it finds in notifications, and
  # the whole page in its answer. A process, linked to the reader of the stream, subscribes to the
  # notifications, sends the request, and hands results over; each thread once. A reader that stops
  # early cancels the search.

  alias Codex.AppServer
  alias Codex.AppServer.Connection
  alias Codex.{Error, Protocol}

  @method "thread/search/stream"
  @partial "thread/search/partial"
  @cancel "thread/search/stream/cancel"
  @timeout 300_000

  @doc "Streams the results of all pages. Invalid options raise at once, failures when it is read."
  @spec stream(AppServer.conn(), map()) :: Enumerable.t()
  def stream(conn, options) do
    with :ok <- Connection.check(conn),
         {:ok, params, experimental} <- Protocol.params(@method, options) do
      conn
      |> pages(params, experimental)
      |> Stream.uniq_by(&get_in(&1, ["thread", "id"]))
    else
      {:error, reason} -> raise Error.normalize(reason)
    end
  end

  defp pages(conn, params, experimental) do
    Stream.resource(
      fn -> start(conn, params, experimental) end,
      fn state -> next(state, conn, experimental) end,
      &stop(&1, conn)
    )
  end

  defp start(conn, params, experimental) do
    reader = self()
    ref = make_ref()

    {pid, monitor} =
      :erlang.spawn_opt(fn -> search(conn, params, experimental, reader, ref) end, [
        :link,
        :monitor
      ])

    %{ref: ref, pid: pid, monitor: monitor, params: params, id: nil}
  end

  defp next(:done, _conn, _experimental), do: {:halt, :done}

  defp next(%{ref: ref, monitor: monitor} = state, conn, experimental) do
    receive do
      {^ref, {:sent, id}} ->
        {[], %{state | id: id}}

      {^ref, {:found, data}} ->
        {data, state}

      {^ref, {:ok, %{"data" => data} = page}} when is_list(data) ->
        Process.demonitor(monitor, [:flush])
        {data, following(state, page, conn, experimental)}

      {^ref, {:ok, _other}} ->
        raise Error.normalize("the answer to #{@method} has no data")

      {^ref, {:error, reason}} ->
        raise Error.normalize(reason)

      {:DOWN, ^monitor, :process, _pid, reason} ->
        raise Error.normalize({:app_server_down, %{reason: reason}})
    end
  end

  # A server that names the same cursor again would never come to an end.
  defp following(%{params: params}, %{"nextCursor" => cursor}, conn, experimental)
       when is_binary(cursor) do
    if params["cursor"] == cursor,
      do: :done,
      else: start(conn, Map.put(params, "cursor", cursor), experimental)
  end

  defp following(_state, _page, _conn, _experimental), do: :done

  defp stop(:done, _conn), do: :ok

  defp stop(%{pid: pid, monitor: monitor, id: id, ref: ref}, conn) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    Process.demonitor(monitor, [:flush])
    id = id || sent(ref)
    if id, do: cancel(conn, id)
    flush(ref)
  end

  defp sent(ref) do
    receive do
      {^ref, {:sent, id}} -> id
    after
      0 -> nil
    end
  end

  # The answer says nothing: the search may be over.
  defp cancel(conn, id) do
    _ = Connection.request(conn, @cancel, %{"requestId" => id}, experimental: [@cancel])
    :ok
  end

  defp flush(ref) do
    receive do
      {^ref, _rest} -> flush(ref)
    after
      0 -> :ok
    end
  end

  ## The process of a search

  defp search(conn, params, experimental, reader, ref) do
    case AppServer.subscribe(conn, methods: [@partial]) do
      :ok ->
        opts = [timeout_ms: @timeout, experimental: experimental, announce: self()]
        request = :gen_server.send_request(conn, {:request, @method, params, opts})
        loop(request, nil, reader, ref)

      {:error, reason} ->
        send(reader, {ref, {:error, reason}})
    end
  end

  defp loop(request, id, reader, ref) do
    receive do
      {:codex_request_sent, id} ->
        send(reader, {ref, {:sent, id}})
        loop(request, id, reader, ref)

      {:codex_notification, @partial, %{"requestId" => ^id, "data" => data}} when is_list(data) ->
        send(reader, {ref, {:found, data}})
        loop(request, id, reader, ref)

      message ->
        case :gen_server.check_response(message, request) do
          {:reply, answer} ->
            send(reader, {ref, answer})

          {:error, {reason, _conn}} ->
            send(reader, {ref, {:error, {:app_server_down, %{reason: reason}}}})

          :no_reply ->
            loop(request, id, reader, ref)
        end
    end
  end
end
