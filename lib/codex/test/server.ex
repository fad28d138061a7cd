defmodule Codex.Test.Server do
  @moduledoc false
  # The process of a `Codex.Test`: owns the listener, the directories and the script, maps requests
  # to steps and records them. Linked to its starter. Ends with its starter, on stop, or when
  # accepting fails; its connections and directories end with it.

  use GenServer

  alias Codex.Test.{Connection, Home, Script}

  @listen [
    :binary,
    packet: :http_bin,
    # The longest header line that `packet: :http_bin` accepts.
    buffer: 128 * 1024,
    active: false,
    ip: {127, 0, 0, 1},
    backlog: 128,
    nodelay: true
  ]

  @impl true
  def init({script, opts}) do
    # The end of the starter must run terminate/2.
    Process.flag(:trap_exit, true)

    with {:ok, listener} <- :gen_tcp.listen(0, @listen),
         {:ok, port} <- :inet.port(listener) do
      url = "http://127.0.0.1:#{port}/v1"
      {:ok, accept_next(new(script, opts, listener, url))}
    else
      {:error, reason} -> {:stop, %RuntimeError{message: "no loopback port: #{inspect(reason)}"}}
    end
  rescue
    error in [File.Error, ErlangError, RuntimeError] -> {:stop, error}
  end

  defp new(script, opts, listener, url) do
    home = Home.create!(opts, url)

    handle = %{
      pid: self(),
      url: url,
      home: home.home,
      workspace: home.workspace,
      env: Map.merge(env(home), opts.env),
      codex_path: opts.codex_path
    }

    %{
      handle: handle,
      listener: listener,
      home: home,
      script: script,
      acceptor: nil,
      connections: [],
      started: now(),
      # Newest first.
      requests: [],
      # Requests without a waiting caller, and callers without a request. One of them is always
      # empty.
      unseen: :queue.new(),
      waiting: :queue.new()
    }
  end

  # A proxy in the environment must not apply to loopback, and the user's HOME must not reach the
  # shell's profile or the model's instructions.
  defp env(home) do
    %{
      "HOME" => home.user_home,
      "NO_PROXY" => "127.0.0.1,localhost",
      "no_proxy" => "127.0.0.1,localhost"
    }
  end

  @impl true
  def handle_call(:handle, _from, state), do: {:reply, state.handle, state}
  def handle_call(:requests, _from, state), do: {:reply, Enum.reverse(state.requests), state}
  def handle_call(:remaining, _from, state), do: {:reply, length(state.script.steps), state}

  def handle_call({:push, steps}, _from, state),
    do: {:reply, :ok, %{state | script: Script.push(state.script, steps)}}

  def handle_call({:request, request}, _from, state) do
    recorded =
      request |> Map.put(:at, now() - state.started) |> Map.update!(:body, &body(&1, request))

    state = %{state | requests: [recorded | state.requests]}
    answer(request, recorded, state)
  end

  def handle_call({:await, timeout}, from, state) do
    case :queue.out(state.unseen) do
      {{:value, request}, unseen} -> {:reply, {:ok, request}, %{state | unseen: unseen}}
      {:empty, _} -> {:noreply, wait(from, timeout, state)}
    end
  end

  @impl true
  def handle_info({:accepted, pid}, %{acceptor: pid} = state),
    do: {:noreply, accept_next(%{state | connections: [pid | state.connections]})}

  def handle_info({:await_over, from}, state) do
    GenServer.reply(from, {:error, :timeout})
    waiting = :queue.filter(fn {waiter, _timer} -> waiter != from end, state.waiting)
    {:noreply, %{state | waiting: waiting}}
  end

  def handle_info({:EXIT, pid, reason}, %{acceptor: pid} = state), do: {:stop, reason, state}

  # A connection ended. If it crashed, its report is in the log and the client got a broken stream.
  def handle_info({:EXIT, pid, _reason}, state),
    do: {:noreply, %{state | connections: List.delete(state.connections, pid)}}

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    :gen_tcp.close(state.listener)
    for pid <- [state.acceptor | state.connections], do: Process.exit(pid, :kill)
    Home.remove(state.home, state.connections != [])
  end

  defp accept_next(state),
    do: %{state | acceptor: Connection.start_link(self(), state.listener)}

  ## Requests

  defp answer(%{method: method, path: path, headers: headers} = request, recorded, state) do
    path = path |> String.split("?") |> hd()

    cond do
      String.downcase(headers["upgrade"] || "") == "websocket" ->
        # The built-in provider tries a WebSocket first; this status makes it use plain HTTP.
        {:reply, actions(426, "no WebSocket here\n"), state}

      method == "POST" and String.ends_with?(path, "/responses") ->
        {step, n, script} = Script.next(state.script, headers, request.body)
        state = deliver(recorded, %{state | script: script})
        {:reply, reply(step, n, recorded, script), state}

      method == "GET" and String.ends_with?(path, "/models") ->
        {:reply, actions(200, ~S({"models":[],"data":[]})), state}

      true ->
        {:reply, actions(404, "Codex.Test has nothing at #{method} #{path}\n"), state}
    end
  end

  defp reply(:exhausted, n, recorded, script) do
    actions(
      400,
      "Codex.Test: no step is left for request #{n} (#{recorded.method} #{recorded.path}): " <>
        "the script had #{script.given}. Add a step, or give a :default."
    )
  end

  defp reply(step, n, recorded, _script), do: {:step, step, recorded, n}

  defp actions(status, body), do: {:actions, [{:reply, status, [], body}]}

  # A body that is not plain JSON (compressed by the CLI, or invalid) is kept as received.
  defp body(bytes, %{headers: headers}) do
    with true <- Map.get(headers, "content-encoding", "identity") == "identity",
         {:ok, decoded} <- Codex.JSON.decode(bytes) do
      decoded
    else
      _ -> bytes
    end
  end

  defp deliver(recorded, state) do
    case :queue.out(state.waiting) do
      {{:value, {from, timer}}, waiting} ->
        _ = timer && Process.cancel_timer(timer)
        GenServer.reply(from, {:ok, recorded})
        %{state | waiting: waiting}

      {:empty, _} ->
        %{state | unseen: :queue.in(recorded, state.unseen)}
    end
  end

  defp wait(from, timeout, state) do
    timer = if timeout != :infinity, do: Process.send_after(self(), {:await_over, from}, timeout)
    %{state | waiting: :queue.in({from, timer}, state.waiting)}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
