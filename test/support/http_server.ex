defmodule Codex.HTTPServer do
  @moduledoc """
  A server on loopback whose answers are functions. Each connection has a process, which reads the
  requests and calls `answer` with the connection and the request. The function sends bytes, and
  returns `:keep` for the next request, or anything else to close.
  """

  @doc "Starts a server, linked to the caller. `:tls` are options of `:ssl`. Returns the URL."
  def start!(answer, opts \\ []) do
    {module, more} = if tls = opts[:tls], do: {:ssl, tls}, else: {:gen_tcp, []}
    options = [:binary, active: false, ip: {127, 0, 0, 1}, backlog: 256, reuseaddr: true]
    {:ok, listen} = module.listen(0, options ++ more)
    {:ok, {_, port}} = if module == :ssl, do: :ssl.sockname(listen), else: :inet.sockname(listen)
    pid = spawn_link(fn -> receive(do: (:go -> accept(module, listen, answer))) end)
    :ok = module.controlling_process(listen, pid)
    send(pid, :go)
    "#{if module == :ssl, do: "https", else: "http"}://127.0.0.1:#{port}"
  end

  defp accept(:gen_tcp, listen, answer) do
    {:ok, socket} = :gen_tcp.accept(listen)
    pid = spawn_link(fn -> receive(do: (:go -> serve({:gen_tcp, socket}, "", answer))) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(:gen_tcp, listen, answer)
  end

  defp accept(:ssl, listen, answer) do
    {:ok, socket} = :ssl.transport_accept(listen)

    with {:ok, socket} <- :ssl.handshake(socket, 5_000) do
      pid = spawn_link(fn -> receive(do: (:go -> serve({:ssl, socket}, "", answer))) end)
      :ok = :ssl.controlling_process(socket, pid)
      send(pid, :go)
    end

    accept(:ssl, listen, answer)
  end

  @doc "Sends bytes, and returns `:ok` or the error of the socket."
  def send_bytes({module, socket}, bytes), do: module.send(socket, bytes)

  @doc "Sends a whole answer with its length."
  def reply(conn, status, headers, body) do
    lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]

    send_bytes(conn, [
      "HTTP/1.1 #{status} X\r\n",
      lines,
      "content-length: #{IO.iodata_length(body)}\r\n\r\n",
      body
    ])

    :keep
  end

  @doc "Sends the head of an event stream, which ends with the connection, and the first events."
  def stream(conn, events \\ "", headers \\ "") do
    send_bytes(conn, [
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n#{headers}connection: close\r\n\r\n",
      events
    ])
  end

  @doc "Waits until the client closes."
  def wait({module, socket}), do: module.recv(socket, 0)

  defp serve({module, socket} = conn, bytes, answer) do
    case request(conn, bytes) do
      {:ok, request, rest} ->
        if answer.(conn, request) == :keep,
          do: serve(conn, rest, answer),
          else: module.close(socket)

      :closed ->
        module.close(socket)
    end
  end

  defp request(conn, bytes) do
    with [head, rest] <- :binary.split(bytes, "\r\n\r\n") do
      [line | lines] = String.split(head, "\r\n")
      [method, path, _] = String.split(line, " ")

      headers =
        for line <- lines,
            [name, value] = String.split(line, ": ", parts: 2),
            do: {String.downcase(name), value}

      length = headers |> Map.new() |> Map.get("content-length", "0") |> String.to_integer()
      request = %{method: method, path: path, headers: Map.new(headers), list: headers}
      body(conn, request, rest, length)
    else
      [_cut] -> more(conn, bytes, &request/2)
    end
  end

  defp body(_conn, request, bytes, length) when byte_size(bytes) >= length do
    body = binary_part(bytes, 0, length)
    rest = binary_part(bytes, length, byte_size(bytes) - length)
    {:ok, Map.put(request, :body, body), rest}
  end

  defp body(conn, request, bytes, length), do: more(conn, bytes, &body(&1, request, &2, length))

  defp more({module, socket} = conn, bytes, continue) do
    case module.recv(socket, 0) do
      {:ok, more} -> continue.(conn, bytes <> more)
      {:error, _} -> :closed
    end
  end
end
