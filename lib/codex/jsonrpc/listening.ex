defmodule Codex.JSONRPC.Listening do
  @moduledoc false
  # A server as a child process that listens on a Unix socket, so that other clients can reach it,
  # too. The process is that of `Codex.JSONRPC.Stdio`, the messages are those of
  # `Codex.JSONRPC.Socket`.
  @behaviour Codex.JSONRPC.Transport

  alias Codex.JSONRPC.{Socket, Stdio}

  @enforce_keys [:stdio, :socket]
  defstruct @enforce_keys

  @type t :: %__MODULE__{stdio: Stdio.t(), socket: Socket.t()}

  # The pause between two attempts to connect, and the wait for the exit of a server that has closed
  # its socket.
  @pause 20
  @last_words 1_000

  # The end of stdin means nothing to a server that listens.
  @ladder [{:signal, :term, 2_000}]

  @doc """
  Starts the server and connects to it. Takes the argument of `Codex.JSONRPC.Stdio.open/1`; the
  options also have those of `Codex.JSONRPC.Socket.open/1`.
  """
  @impl true
  def open({argv, child, options}) do
    with {:ok, stdio} <- Stdio.open({argv, Keyword.put(child, :ladder, @ladder), options}),
         do: reach(stdio, options, now() + options.init_timeout_ms)
  end

  defp reach(stdio, options, deadline) do
    case Socket.open(%{options | init_timeout_ms: max(deadline - now(), 1)}) do
      {:ok, socket} -> {:ok, %__MODULE__{stdio: stdio, socket: socket}}
      {:error, reason} -> again(stdio, options, deadline, reason)
    end
  end

  # Until the server listens, or has ended.
  defp again(stdio, options, deadline, reason) do
    case Stdio.next(stdio, @pause) do
      {:ok, stdio, outputs} ->
        case downs(outputs) do
          [{:down, info}] -> {:error, {:app_server_down, info}}
          [] -> again(stdio, options, deadline, reason)
        end

      :timeout ->
        if now() < deadline do
          reach(stdio, options, deadline)
        else
          _ = Stdio.stop(stdio)
          {:error, reason}
        end
    end
  end

  @impl true
  def send(listening, json),
    do: %{listening | socket: Socket.send(listening.socket, json)}

  @impl true
  def grant(listening, bytes),
    do: %{listening | socket: Socket.grant(listening.socket, bytes)}

  @impl true
  def stream(listening, message) do
    case Socket.stream(listening.socket, message) do
      {:ok, socket, outputs} ->
        {:ok, %{listening | socket: socket}, Enum.map(outputs, &output(&1, listening))}

      :unknown ->
        with {:ok, stdio, outputs} <- Stdio.stream(listening.stdio, message),
             do: {:ok, %{listening | stdio: stdio}, downs(outputs)}
    end
  end

  # The exit and stderr say more than a socket that was closed.
  defp output({:down, info}, listening) do
    exit = ended(listening.stdio, now() + @last_words)
    {:down, exit || Map.put(info, :stderr, stderr(listening))}
  end

  defp output(output, _listening), do: output

  defp ended(stdio, deadline) do
    case Stdio.next(stdio, max(deadline - now(), 0)) do
      {:ok, stdio, outputs} ->
        case downs(outputs) do
          [{:down, info}] -> info
          [] -> ended(stdio, deadline)
        end

      :timeout ->
        nil
    end
  end

  # The server writes no messages to stdout.
  defp downs(outputs), do: for({:down, _info} = down <- outputs, do: down)

  @impl true
  def stop(listening) do
    _ = Socket.stop(listening.socket)
    Stdio.stop(listening.stdio)
  end

  @impl true
  def os_pid(listening), do: Stdio.os_pid(listening.stdio)

  @impl true
  def secrets(listening), do: Stdio.secrets(listening.stdio)

  @impl true
  def stderr(listening), do: Stdio.stderr(listening.stdio)

  defp now, do: System.monotonic_time(:millisecond)
end
