defmodule Codex.Test.Connection do
  @moduledoc false
  # One process for each connection. It accepts, notifies the server (which then starts the next
  # process), reads one request, asks the server for the step and runs it. It is linked to the
  # server and ends with it, or when either side closes the connection. Each connection has one
  # request, because every answer has the header `connection: close`.

  alias Codex.Test.{Script, Wire}

  # The time limit of a client that connects and does not send its request.
  @read_timeout 60_000
  @max_body 64 * 1024 * 1024

  @type request :: %{method: String.t(), path: String.t(), headers: map(), body: binary()}

  @spec start_link(pid(), :gen_tcp.socket()) :: pid()
  def start_link(server, listener), do: :proc_lib.spawn_link(fn -> accept(server, listener) end)

  defp accept(server, listener) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} ->
        send(server, {:accepted, self()})
        serve(server, socket)

      {:error, :closed} ->
        exit(:shutdown)

      {:error, reason} ->
        exit({:accept, reason})
    end
  end

  defp serve(server, socket) do
    case read(socket) do
      {:ok, request} ->
        perform(socket, plan(server, request))
        :gen_tcp.close(socket)

      {:refuse, status, text} ->
        perform(socket, [{:reply, status, [], text <> "\n"}])
        drain(socket)

      :closed ->
        :gen_tcp.close(socket)
    end
  end

  ## Answers

  defp plan(server, request) do
    case GenServer.call(server, {:request, request}, :infinity) do
      {:step, step, recorded, n} -> plan_step(step, recorded, n)
      {:actions, actions} -> actions
    end
  end

  # The user's function runs here and not in the server, because it may block or call the server.
  # The status is 400 because the CLI shows the whole body of a 400 and does not repeat the request.
  defp plan_step(fun, recorded, n) when is_function(fun) do
    fun.(recorded) |> Script.step!() |> plan_step(recorded, n)
  rescue
    error ->
      text = Exception.format(:error, error, __STACKTRACE__)
      [{:reply, 400, [], "Codex.Test: a step function failed: " <> text}]
  end

  defp plan_step(step, _recorded, n), do: Wire.plan(step, n)

  ## Reading

  defp read(socket) do
    with {:ok, {:http_request, method, target, _version}} <- recv(socket),
         {:ok, headers} <- headers(socket, %{}),
         {:ok, body} <- body(socket, headers) do
      {:ok, %{method: to_string(method), path: path(target), headers: headers, body: body}}
    else
      {:refuse, _status, _text} = refusal -> refusal
      {:ok, {:http_error, line}} -> {:refuse, 400, "not HTTP: " <> inspect(line)}
      {:error, _closed_or_timeout} -> :closed
    end
  end

  defp recv(socket), do: :gen_tcp.recv(socket, 0, @read_timeout)

  defp path({:abs_path, path}), do: path
  defp path({:absoluteURI, _scheme, _host, _port, path}), do: path
  defp path(:*), do: "*"
  defp path(other), do: inspect(other)

  defp headers(socket, headers) do
    case recv(socket) do
      {:ok, {:http_header, _, name, _, value}} ->
        name = name |> to_string() |> String.downcase()
        headers(socket, Map.update(headers, name, value, &(&1 <> ", " <> value)))

      {:ok, :http_eoh} ->
        {:ok, headers}

      other ->
        other
    end
  end

  defp body(_socket, %{"transfer-encoding" => _}),
    do: {:refuse, 411, "Codex.Test reads bodies with a content-length only"}

  defp body(socket, %{"content-length" => length} = headers) do
    case Integer.parse(length) do
      {0, ""} -> {:ok, ""}
      {n, ""} when n > @max_body -> {:refuse, 413, "the body is larger than #{@max_body} bytes"}
      {n, ""} when n > 0 -> continue(socket, headers, n)
      _ -> {:refuse, 400, "bad content-length: " <> inspect(length)}
    end
  end

  defp body(_socket, _headers), do: {:ok, ""}

  # curl waits for this before it sends a large body.
  defp continue(socket, headers, length) do
    go_on = if headers["expect"], do: "HTTP/1.1 100 Continue\r\n\r\n", else: ""

    with :ok <- :gen_tcp.send(socket, go_on),
         :ok <- :inet.setopts(socket, packet: :raw),
         do: :gen_tcp.recv(socket, length, @read_timeout)
  end

  ## Writing

  defp perform(_socket, []), do: :ok

  defp perform(socket, [action | rest]) do
    case act(socket, action) do
      :ok -> perform(socket, rest)
      _closed -> :ok
    end
  end

  defp act(socket, {:wait, ms}), do: wait(socket, ms)
  defp act(socket, {:chunk, data}), do: chunk(socket, data, IO.iodata_length(data))
  defp act(socket, :finish), do: send_last(socket, "0\r\n\r\n")
  # No last chunk: the client knows that the body is not complete.
  defp act(socket, :drop), do: :gen_tcp.shutdown(socket, :write)

  defp act(socket, {:head, headers}),
    do: :gen_tcp.send(socket, head(200, headers ++ [{"transfer-encoding", "chunked"}]))

  defp act(socket, {:reply, status, headers, body}) do
    type = if body =~ ~r/\A[{\[]/, do: "application/json", else: "text/plain; charset=utf-8"
    names = Enum.map(headers, fn {name, _} -> String.downcase(name) end)
    default = if "content-type" in names, do: [], else: [{"content-type", type}]
    length = {"content-length", Integer.to_string(byte_size(body))}
    send_last(socket, [head(status, default ++ headers ++ [length]), body])
  end

  # An empty chunk would end the body.
  defp chunk(_socket, _data, 0), do: :ok

  defp chunk(socket, data, size),
    do: :gen_tcp.send(socket, [Integer.to_string(size, 16), "\r\n", data, "\r\n"])

  defp send_last(socket, data) do
    with :ok <- :gen_tcp.send(socket, data), do: :gen_tcp.shutdown(socket, :write)
  end

  defp head(status, headers) do
    lines =
      for {name, value} <- headers ++ [{"connection", "close"}], do: [name, ": ", value, "\r\n"]

    ["HTTP/1.1 #{status} #{reason(status)}\r\n", lines, "\r\n"]
  end

  @reasons %{
    200 => "OK",
    400 => "Bad Request",
    401 => "Unauthorized",
    403 => "Forbidden",
    404 => "Not Found",
    411 => "Length Required",
    413 => "Content Too Large",
    426 => "Upgrade Required",
    429 => "Too Many Requests",
    500 => "Internal Server Error",
    502 => "Bad Gateway",
    503 => "Service Unavailable"
  }
  defp reason(status), do: Map.get(@reasons, status, "Status")

  # A client that goes away ends the wait.
  defp wait(socket, ms) do
    :ok = :inet.setopts(socket, active: :once)

    receive do
      {:tcp_closed, ^socket} -> :closed
      {:tcp_error, ^socket, _reason} -> :closed
      {:tcp, ^socket, _more} -> wait(socket, ms)
    after
      ms -> :inet.setopts(socket, active: false)
    end
  end

  # Closing with unread bytes would reset the connection, and the client might lose the refusal.
  defp drain(socket) do
    case :gen_tcp.recv(socket, 0, 1_000) do
      {:ok, _bytes} -> drain(socket)
      {:error, _} -> :gen_tcp.close(socket)
    end
  end
end
