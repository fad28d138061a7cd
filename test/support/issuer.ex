defmodule Codex.Issuer do
  @moduledoc """
  Who issues tokens, on loopback: as much of it as a login with a code asks for. It answers `pending` times that nobody has typed the
  code yet.
  """

  use GenServer

  alias Codex.{JSON, Logins}

  def start!(opts \\ []) do
    {:ok, pid} = GenServer.start_link(__MODULE__, Map.new(opts))
    {pid, GenServer.call(pid, :url)}
  end

  @doc "Paths that were asked for, in order."
  def paths(pid), do: GenServer.call(pid, :paths)

  @impl true
  def init(opts) do
    {:ok, listen} =
      :gen_tcp.listen(0, [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}])

    {:ok, port} = :inet.port(listen)
    server = self()
    _ = spawn_link(fn -> accept(listen, server) end)

    {:ok,
     Map.merge(%{pending: 1, workspace: "acc-1"}, opts)
     |> Map.merge(%{url: "http://127.0.0.1:#{port}", paths: []})}
  end

  @impl true
  def handle_call(:url, _from, state), do: {:reply, state.url, state}
  def handle_call(:paths, _from, state), do: {:reply, Enum.reverse(state.paths), state}

  def handle_call({:request, path}, _from, state) do
    {answer, state} = answer(path, %{state | paths: [path | state.paths]})
    {:reply, answer, state}
  end

  defp answer("/api/accounts/deviceauth/usercode", state) do
    {{200, %{device_auth_id: "device-1", user_code: "ABCD-12345", interval: "1"}}, state}
  end

  defp answer("/api/accounts/deviceauth/token", %{pending: n} = state) when n > 0,
    do: {{403, %{error: "pending"}}, %{state | pending: n - 1}}

  defp answer("/api/accounts/deviceauth/token", state) do
    {{200, %{authorization_code: "code-1", code_challenge: "c", code_verifier: "v"}}, state}
  end

  defp answer("/oauth/token", state) do
    {:ok, %{"tokens" => tokens}} = JSON.decode(Logins.chatgpt(workspace: state.workspace))
    {{200, tokens}, state}
  end

  defp answer(_other, state), do: {{404, %{error: "unknown"}}, state}

  defp accept(listen, server) do
    {:ok, socket} = :gen_tcp.accept(listen)
    pid = spawn(fn -> receive(do: (:go -> serve(socket, server))) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listen, server)
  end

  defp serve(socket, server) do
    with {:ok, {:http_request, _method, {:abs_path, path}, _}} <-
           :gen_tcp.recv(socket, 0, 10_000),
         {:ok, length} <- headers(socket, 0) do
      :ok = :inet.setopts(socket, packet: :raw)
      if length > 0, do: {:ok, _} = :gen_tcp.recv(socket, length, 10_000)
      {status, body} = GenServer.call(server, {:request, path |> String.split("?") |> hd()})
      body = JSON.encode!(body)

      :gen_tcp.send(
        socket,
        "HTTP/1.1 #{status} X\r\ncontent-type: application/json\r\ncontent-length: #{byte_size(body)}\r\nconnection: close\r\n\r\n#{body}"
      )
    end

    :gen_tcp.close(socket)
  end

  defp headers(socket, length) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, :http_eoh} ->
        {:ok, length}

      {:ok, {:http_header, _, :"Content-Length", _, value}} ->
        headers(socket, String.to_integer(value))

      {:ok, _} ->
        headers(socket, length)

      error ->
        error
    end
  end
end
