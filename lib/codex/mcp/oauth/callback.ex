defmodule Codex.MCP.OAuth.Callback do
  @moduledoc false
  # The place on 127.0.0.1 to which a browser returns. It takes one answer. Its port is owned by the
  # process that opened it, and is closed with it.

  alias Codex.OwnerMonitor

  @loopback {127, 0, 0, 1}
  @connections 16
  # The time that a browser may take for its request, and for reading the page.
  @request_ms 10_000
  # The time that the exchange of the code may take.
  @page_ms 120_000
  @headers 100
  @line 16 * 1024

  @enforce_keys [:listen, :port, :path, :acceptor, :ref]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{
            listen: :gen_tcp.socket(),
            port: :inet.port_number(),
            path: String.t(),
            acceptor: pid(),
            ref: reference()
          }

  @typedoc "A browser that waits for its page."
  @opaque browser :: pid()

  @doc "Opens the port; 0 is a free one. `path` is the only path that is answered."
  @spec open(:inet.port_number(), String.t()) ::
          {:ok, t()} | {:error, {:oauth_port, :inet.port_number(), atom()}}
  def open(port, path) do
    opts =
      [:binary, ip: @loopback, active: false, packet: :http_bin, packet_size: @line] ++
        [recbuf: @line, backlog: @connections, reuseaddr: true]

    with {:ok, listen} <- :gen_tcp.listen(port, opts),
         {:ok, port} <- :inet.port(listen) do
      {owner, ref} = {self(), make_ref()}
      state = %{owner: owner, ref: ref, path: path, listen: listen}
      acceptor = start(owner, fn -> accept(state, []) end)
      {:ok, %__MODULE__{listen: listen, port: port, path: path, acceptor: acceptor, ref: ref}}
    else
      {:error, reason} -> {:error, {:oauth_port, port, reason}}
    end
  end

  @doc "Returns the address to return to."
  @spec uri(t()) :: String.t()
  def uri(callback), do: "http://127.0.0.1:#{callback.port}#{callback.path}"

  @doc "Returns the reference of the message `{ref, browser, query}` of a browser that returned."
  @spec ref(t()) :: reference()
  def ref(callback), do: callback.ref

  @doc "Answers a browser with a page, and waits until it has the page."
  @spec answer(browser(), 200 | 400, String.t()) :: :ok
  def answer(browser, status, page) do
    monitor = Process.monitor(browser)
    send(browser, {:page, status, page})

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    after
      @request_ms -> :ok
    end
  end

  @doc "Closes the port."
  @spec close(t()) :: :ok
  def close(callback) do
    :ok = :gen_tcp.close(callback.listen)
    monitor = Process.monitor(callback.acceptor)
    Process.exit(callback.acceptor, :kill)
    receive(do: ({:DOWN, ^monitor, :process, _, _} -> :ok))
    flush(callback.ref)
  end

  # Other browsers that came meanwhile.
  defp flush(ref) do
    receive do
      {^ref, browser, _query} when is_pid(browser) ->
        send(browser, {:page, 400, "This login has already ended."})
        flush(ref)
    after
      0 -> :ok
    end
  end

  # --- Connections --------------------------------------------------------------------------------

  defp accept(state, open) do
    open = Enum.filter(open, &Process.alive?/1)

    case :gen_tcp.accept(state.listen) do
      {:ok, socket} when length(open) < @connections ->
        pid = start(state.owner, fn -> receive(do: (:go -> serve(socket, state))) end)
        _ = :gen_tcp.controlling_process(socket, pid)
        send(pid, :go)
        accept(state, [pid | open])

      {:ok, socket} ->
        :ok = :gen_tcp.close(socket)
        accept(state, open)

      {:error, _closed} ->
        :ok
    end
  end

  defp start(owner, fun) do
    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        _ = OwnerMonitor.start(owner)
        fun.()
      end)

    pid
  end

  # A browser may open a connection long before it uses it, so each has a process.
  defp serve(socket, state) do
    deadline = System.monotonic_time(:millisecond) + @request_ms

    with {:ok, {:http_request, method, {:abs_path, target}, _}} <- read(socket, deadline),
         :ok <- headers(socket, deadline, @headers) do
      {status, page} = respond(method, String.split(target, "?", parts: 2), state)
      _ = :gen_tcp.send(socket, page(status, page))
      _ = :gen_tcp.shutdown(socket, :write)
    end

    :gen_tcp.close(socket)
  end

  defp respond(:GET, [path, query], %{path: path} = state) do
    send(state.owner, {state.ref, self(), query})

    receive do
      {:page, status, page} -> {status, page}
    after
      @page_ms -> {400, "The program did not answer."}
    end
  end

  defp respond(_method, _target, _state), do: {400, "This is not the answer to a login."}

  defp headers(_socket, _deadline, 0), do: :error

  defp headers(socket, deadline, left) do
    case read(socket, deadline) do
      {:ok, :http_eoh} -> :ok
      {:ok, {:http_header, _, _, _, _}} -> headers(socket, deadline, left - 1)
      _other -> :error
    end
  end

  defp read(socket, deadline) do
    left = max(deadline - System.monotonic_time(:millisecond), 0)
    :gen_tcp.recv(socket, 0, left)
  end

  # Plain text: whatever a server sent is never markup.
  defp page(status, page) do
    [
      "HTTP/1.1 #{status} #{if status == 200, do: "OK", else: "Bad Request"}\r\n",
      "content-type: text/plain; charset=utf-8\r\ncontent-length: #{byte_size(page)}\r\n",
      "cache-control: no-store\r\nx-content-type-options: nosniff\r\n",
      "referrer-policy: no-referrer\r\nconnection: close\r\n\r\n",
      page
    ]
  end
end
