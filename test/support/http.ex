defmodule Codex.Http do
  @moduledoc "A server on loopback for what the CLI talks to beside its model: one answer for each request."

  @doc """
  Starts one, linked to the caller. `answer` is called in the connection's process with the path (without its query) and the body, and returns
  `{status, body}`; a map is sent as JSON. Returns the URL.
  """
  @spec start!((String.t(), binary() -> {pos_integer(), binary() | map()})) :: String.t()
  def start!(answer) when is_function(answer, 2) do
    start!(fn request ->
      {status, body} = answer.(request.path, request.body)
      {status, [], body}
    end)
  end

  # As above, with the whole request `%{method, path, query, headers, body}`, and with headers in
  # the answer. Names of headers are in lower case.
  def start!(answer) when is_function(answer, 1) do
    opts = [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}, backlog: 128]
    {:ok, listen} = :gen_tcp.listen(0, opts)
    {:ok, port} = :inet.port(listen)

    pid =
      spawn_link(fn ->
        receive(do: (:go -> :ok))
        accept(listen, answer)
      end)

    :ok = :gen_tcp.controlling_process(listen, pid)
    send(pid, :go)
    "http://127.0.0.1:#{port}"
  end

  defp accept(listen, answer) do
    {:ok, socket} = :gen_tcp.accept(listen)
    pid = spawn_link(fn -> receive(do: (:go -> serve(socket, answer))) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listen, answer)
  end

  defp serve(socket, answer) do
    with {:ok, {:http_request, method, {:abs_path, path}, _}} <-
           :gen_tcp.recv(socket, 0, 10_000),
         {:ok, headers} <- headers(socket, %{}),
         :ok <- :inet.setopts(socket, packet: :raw),
         {:ok, body} <- body(socket, String.to_integer(headers["content-length"] || "0")) do
      [path | query] = String.split(path, "?", parts: 2)
      query = Enum.join(query)
      request = %{method: "#{method}", path: path, query: query, headers: headers, body: body}
      {status, more, answer} = answer.(request)
      answer = if is_map(answer), do: Codex.JSON.encode!(answer), else: answer

      :gen_tcp.send(socket, [
        "HTTP/1.1 #{status} X\r\ncontent-type: application/json\r\n",
        for({name, value} <- more, do: "#{name}: #{value}\r\n"),
        "content-length: #{byte_size(answer)}\r\nconnection: close\r\n\r\n",
        answer
      ])
    end

    :gen_tcp.close(socket)
  end

  defp body(_socket, 0), do: {:ok, ""}
  defp body(socket, length), do: :gen_tcp.recv(socket, length, 10_000)

  defp headers(socket, found) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, :http_eoh} ->
        {:ok, found}

      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, Map.put(found, String.downcase("#{name}"), value))

      other ->
        other
    end
  end
end
