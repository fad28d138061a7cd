defmodule Codex.Bridge.Connection do
  @moduledoc false
  # The process of a bridge accepts connections that have the token: one, or any number if the
  # bridge tells its losses. Each serves MCP until either side ends. Each call runs in a process of
  # its own, which ends with its connection.

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
  # The launcher writes this after the CLI has closed its end, see
  # `native/codex_launcher/src/bridge.rs`.
  @end_of_cli "notifications/bridge/end"

  # Calls that run at the same time. Further ones are answered at once.
  @most 256

  @enforce_keys [:socket, :services, :peer, :decoder]
  defstruct [:socket, :services, :peer, :decoder, ended?: false, calls: %{}]

  @typedoc "A function that hears how connections end."
  @type ended :: (:lost | :last -> term())

  @doc """
  Serves connections; the caller owns the listener. Without `ended`, serves one and returns at its
  end. With `ended`, serves any number, and calls the function with `:lost` if one ends before the
  CLI has closed it, so that the CLI goes on without the services, and with `:last` when the CLI has
  closed the last one.
  """
  @spec run(:gen_tcp.socket(), String.t(), [Service.t()], ended() | nil) :: :ok
  def run(listener, token, services, nil) do
    case accept(listener, token) do
      {:ok, socket} ->
        # The token is used up.
        :ok = :gen_tcp.close(listener)
        _ended? = serve(socket, services)
        :ok

      :closed ->
        :ok
    end
  end

  def run(listener, token, services, ended),
    do: serve_all(listener, token, services, ended, :atomics.new(1, []))

  defp serve_all(listener, token, services, ended, open) do
    case accept(listener, token) do
      {:ok, socket} ->
        :ok = start_one(socket, services, ended, open)
        serve_all(listener, token, services, ended, open)

      :closed ->
        :ok
    end
  end

  defp start_one(socket, services, ended, open) do
    owner = self()
    :ok = :atomics.add(open, 1, 1)

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)

        receive do
          :begin ->
            ended? = serve(socket, services)
            left = :atomics.sub_get(open, 1, 1)

            cond do
              not ended? -> ended.(:lost)
              left == 0 -> ended.(:last)
              true -> :ok
            end
        end
      end)

    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :begin)
    :ok
  end

  # Returns whether the CLI has closed its end.
  defp serve(socket, services) do
    case :inet.setopts(socket, send_timeout: @send_ms, send_timeout_close: true) do
      :ok ->
        state = %__MODULE__{
          socket: socket,
          services: services,
          peer: Peer.new(version: "2.0", max_received: 2 * @most),
          decoder: JSONL.new()
        }

        state |> read() |> loop()

      {:error, _closed} ->
        false
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

  defp loop({:stopped, ended?}), do: ended?
  defp loop(state), do: state |> handle(next()) |> loop()

  defp next do
    receive do
      message -> message
    end
  end

  defp handle(%{socket: socket} = state, {:tcp, socket, bytes}) do
    messages = state.decoder |> JSONL.feed(bytes) |> Enum.map(&Message.from_line/1)

    case Enum.reduce_while(messages, state, &received/2) do
      {:stopped, _} = stopped -> stopped
      state -> read(state)
    end
  end

  defp handle(%{socket: socket} = state, {:tcp_closed, socket}), do: stop(state)

  defp handle(%{socket: socket} = state, {:tcp_error, socket, _reason}), do: stop(state)

  defp handle(state, {ref, result}) when is_map_key(state.calls, ref),
    do: finish(state, ref, {:ok, result})

  defp handle(state, {:DOWN, ref, :process, _pid, _reason}) when is_map_key(state.calls, ref),
    do: finish(state, ref, state.calls[ref].failed.(:crashed))

  defp handle(state, {:late, ref}) when is_map_key(state.calls, ref) do
    Process.exit(state.calls[ref].pid, :kill)
    finish(state, ref, state.calls[ref].failed.(:late))
  end

  defp handle(state, _other), do: state

  # All calls end with this process.
  defp stop(state) do
    :gen_tcp.close(state.socket)
    {:stopped, state.ended?}
  end

  defp received(message, state) do
    case run_peer(state, {:receive, message}) do
      {:stopped, _} = stopped -> {:halt, stopped}
      state -> {:cont, state}
    end
  end

  defp run_peer(state, operation) do
    {actions, peer} = Peer.run(state.peer, operation, System.monotonic_time(:millisecond))
    act(actions, %{state | peer: peer})
  end

  defp act(_actions, {:stopped, _} = stopped), do: stopped
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

  defp act_one({:notification, @end_of_cli, _params}, state), do: %{state | ended?: true}
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
      %{} = call when map_size(state.calls) >= @most ->
        _ = call.done.()
        answer(state, id, call.failed.(:too_many))

      %{} = call ->
        start(state, id, call)

      nil ->
        answer(state, id, invalid("Unknown tool: " <> name))
    end
  end

  defp request(state, id, "tools/call", _params),
    do: run_peer(state, {:respond, id, invalid("Invalid params: expected name")})

  defp request(state, id, _method, _params), do: run_peer(state, {:respond, id, @unknown_method})

  defp respond(state, id, result), do: answer(state, id, {:ok, result})
  defp answer(state, id, answer), do: run_peer(state, {:respond, id, answer})

  defp invalid(text), do: {:error, %{"code" => -32_602, "message" => text}}

  defp version, do: :codex_sdk |> Application.spec(:vsn) |> to_string()

  # --- Calls ------------------------------------------------------------------------------------

  defp start(state, id, call) do
    owner = self()

    task =
      Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        call.run.()
      end)

    timer = Process.send_after(self(), {:late, task.ref}, call.timeout_ms)
    call = %{id: id, pid: task.pid, timer: timer, failed: call.failed, done: call.done}
    %{state | calls: Map.put(state.calls, task.ref, call)}
  end

  defp finish(state, ref, answer) do
    {call, state} = forget(state, ref)
    answer(state, call.id, answer)
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
    _ = call.done.()
    _ = Process.cancel_timer(call.timer)
    _ = Process.demonitor(ref, [:flush])
    {call, %{state | calls: calls}}
  end
end
