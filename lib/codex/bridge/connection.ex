defmodule Codex.Bridge.Connection do
  @moduledoc false
  # The process of a bridge: accepts the connection that has the token, and serves MCP on it until
  # either side ends. Each call runs in a process of its own, which ends with this one.

  alias Codex.Bridge.Service
  alias Codex.{JSON, JSONL, OwnerMonitor}
  alias Codex.JSONRPC.{Message, Peer}

  # How long a connection may take to send its token.
  @token_ms 2_000
  # Descriptors are missing: wait for others to be closed.
  @pause_ms 50
  # How long the CLI may read nothing before it counts as gone.
  @send_ms 30_000

  @versions ~w(2024-11-05 2025-03-26 2025-06-18 2025-11-25)
  @version "2025-06-18"
  @unknown_method {:error, %{"code" => -32_601, "message" => "Method not found"}}
  @too_many {:error, %{"code" => -32_000, "message" => "Too many calls at the same time"}}

  @enforce_keys [:socket, :services, :peer, :decoder]
  defstruct [:socket, :services, :peer, :decoder, calls: %{}]

  @doc "Serves one connection, and returns at its end. The caller owns the listener."
  @spec run(:gen_tcp.socket(), String.t(), [Service.t()]) :: :ok
  def run(listener, token, services) do
    case accept(listener, token) do
      {:ok, socket} ->
        # The token is used up.
        :ok = :gen_tcp.close(listener)
        options = [send_timeout: @send_ms, send_timeout_close: true]

        with :ok <- :inet.setopts(socket, options) do
          peer = Peer.new(version: "2.0", decline: fn _method -> @too_many end)

          state = %__MODULE__{
            socket: socket,
            services: services,
            peer: peer,
            decoder: JSONL.new()
          }

          state |> read() |> loop()
        end

      :closed ->
        :ok
    end
  end

  # --- The token --------------------------------------------------------------------------------

  defp accept(listener, token) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} ->
        if authentic?(socket, token) do
          {:ok, socket}
        else
          :gen_tcp.close(socket)
          accept(listener, token)
        end

      {:error, reason} when reason in [:emfile, :enfile, :enomem, :enobufs] ->
        Process.sleep(@pause_ms)
        accept(listener, token)

      {:error, :closed} ->
        :closed

      {:error, _aborted} ->
        accept(listener, token)
    end
  end

  defp authentic?(socket, token) do
    line = token <> "\n"

    case :gen_tcp.recv(socket, byte_size(line), @token_ms) do
      {:ok, sent} -> :crypto.hash_equals(sent, line)
      {:error, _reason} -> false
    end
  end

  # --- Messages ---------------------------------------------------------------------------------

  # Further bytes wait in the kernel, so that the CLI cannot send faster than this process works.
  defp read(state) do
    case :inet.setopts(state.socket, active: :once) do
      :ok -> state
      {:error, _closed} -> stop(state)
    end
  end

  defp loop(:stopped), do: :ok
  defp loop(state), do: state |> handle(next()) |> loop()

  defp next do
    receive do
      message -> message
    end
  end

  defp handle(%{socket: socket} = state, {:tcp, socket, bytes}) do
    messages = state.decoder |> JSONL.feed(bytes) |> Enum.map(&Message.from_line/1)

    case Enum.reduce_while(messages, state, &received/2) do
      :stopped -> :stopped
      state -> read(state)
    end
  end

  defp handle(%{socket: socket} = state, {:tcp_closed, socket}), do: stop(state)

  defp handle(%{socket: socket} = state, {:tcp_error, socket, _reason}), do: stop(state)

  defp handle(state, {ref, result}) when is_map_key(state.calls, ref),
    do: finish(state, ref, result)

  defp handle(state, {:DOWN, ref, :process, _pid, _reason}) when is_map_key(state.calls, ref),
    do: finish(state, ref, Service.failure("the tool #{state.calls[ref].name} failed"))

  defp handle(state, {:late, ref}) when is_map_key(state.calls, ref) do
    Process.exit(state.calls[ref].pid, :kill)
    finish(state, ref, Service.failure("the tool #{state.calls[ref].name} took too long"))
  end

  defp handle(state, _other), do: state

  # All calls end with this process.
  defp stop(state) do
    :gen_tcp.close(state.socket)
    :stopped
  end

  defp received(message, state) do
    case run_peer(state, {:receive, message}) do
      :stopped -> {:halt, :stopped}
      state -> {:cont, state}
    end
  end

  defp run_peer(state, operation) do
    {actions, peer} = Peer.run(state.peer, operation, System.monotonic_time(:millisecond))
    act(actions, %{state | peer: peer})
  end

  defp act(_actions, :stopped), do: :stopped
  defp act([], state), do: state
  defp act([action | rest], state), do: act(rest, act_one(action, state))

  defp act_one({:send, message}, state) do
    case :gen_tcp.send(state.socket, [JSON.encode!(message), ?\n]) do
      :ok -> state
      {:error, _reason} -> stop(state)
    end
  end

  defp act_one({:request, id, method, params}, state), do: request(state, id, method, params)

  defp act_one({:notification, "notifications/cancelled", %{"requestId" => id}}, state),
    do: cancel(state, id)

  defp act_one({:fail, _reason}, state), do: stop(state)
  defp act_one(_note, state), do: state

  # --- Requests ---------------------------------------------------------------------------------

  defp request(state, id, "initialize", params) do
    wanted = params["protocolVersion"]

    respond(state, id, %{
      "protocolVersion" => if(wanted in @versions, do: wanted, else: @version),
      "capabilities" => %{"tools" => %{}},
      "serverInfo" => %{"name" => "codex_sdk", "version" => version()}
    })
  end

  defp request(state, id, "ping", _params), do: respond(state, id, %{})

  defp request(state, id, "tools/list", _params),
    do: respond(state, id, %{"tools" => Enum.flat_map(state.services, &Service.list/1)})

  defp request(state, id, "tools/call", %{"name" => name} = params) when is_binary(name) do
    call = %{
      name: name,
      arguments: params["arguments"] || %{},
      meta: if(is_map(params["_meta"]), do: params["_meta"], else: %{}),
      owner: self()
    }

    case Enum.find_value(state.services, &Service.call(&1, call)) do
      {fun, timeout} -> start(state, id, name, fun, timeout)
      nil -> run_peer(state, {:respond, id, invalid("Unknown tool: " <> name)})
    end
  end

  defp request(state, id, "tools/call", _params),
    do: run_peer(state, {:respond, id, invalid("Invalid params: expected name")})

  defp request(state, id, _method, _params), do: run_peer(state, {:respond, id, @unknown_method})

  defp respond(state, id, result), do: run_peer(state, {:respond, id, {:ok, result}})

  defp invalid(text), do: {:error, %{"code" => -32_602, "message" => text}}

  defp version, do: :codex_sdk |> Application.spec(:vsn) |> to_string()

  # --- Calls ------------------------------------------------------------------------------------

  defp start(state, id, name, fun, timeout) do
    owner = self()

    task =
      Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        fun.()
      end)

    timer = Process.send_after(self(), {:late, task.ref}, timeout)
    call = %{id: id, name: name, pid: task.pid, timer: timer}
    %{state | calls: Map.put(state.calls, task.ref, call)}
  end

  defp finish(state, ref, result) do
    {call, state} = forget(state, ref)
    respond(state, call.id, result)
  end

  # The CLI waits for no answer any more.
  defp cancel(state, id) do
    case Enum.find(state.calls, fn {_ref, call} -> call.id == id end) do
      {ref, call} ->
        Process.exit(call.pid, :kill)
        {_call, state} = forget(state, ref)
        run_peer(state, {:withdraw, id})

      nil ->
        state
    end
  end

  defp forget(state, ref) do
    {call, calls} = Map.pop!(state.calls, ref)
    _ = Process.cancel_timer(call.timer)
    _ = Process.demonitor(ref, [:flush])
    {call, %{state | calls: calls}}
  end
end
