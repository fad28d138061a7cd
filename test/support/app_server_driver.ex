defmodule Codex.AppServerDriver do
  @moduledoc """
  A real `codex app-server` under `Codex.AppServer.State`, for tests of the two: it does the actions, and nothing else. Whoever
  sends `turn/start` or `review/start` follows that turn, as `{:turn, thread_id, turn_id, what}`.
  """
  use GenServer

  alias Codex.AppServer.{Message, State}
  alias Codex.{JSON, JSONL, Subprocess}

  defstruct [:sub, :decoder, :state, :timer]

  @doc "Starts one that uses the home of a `Codex.Test` server, linked to the caller, and waits for its hello."
  def start!(model, opts \\ []) do
    {:ok, pid} = GenServer.start_link(__MODULE__, {model, opts})
    {:ok, _hello} = GenServer.call(pid, :await, 20_000)
    pid
  end

  def subscribe(pid, filter), do: GenServer.call(pid, {:subscribe, filter})
  def respond(pid, id, answer), do: GenServer.call(pid, {:respond, id, answer})
  def os_pid(pid), do: GenServer.call(pid, :os_pid)

  @impl true
  def init({model, opts}) do
    options = Codex.Test.options(model)
    env = options[:env] |> Map.new() |> Map.put("CODEX_HOME", options[:codex_home])

    {:ok, sub} =
      Subprocess.open([options[:codex_path], "app-server"], env: env, cwd: model.workspace)

    driver = %__MODULE__{sub: sub, decoder: JSONL.new(), state: State.new(opts)}
    {:ok, step(driver, &State.start(&1, now()))}
  end

  @impl true
  def handle_call(:await, from, driver), do: {:noreply, step(driver, &State.await(&1, from))}
  def handle_call(:os_pid, _from, driver), do: {:reply, Subprocess.os_pid(driver.sub), driver}

  def handle_call({:request, method, params, opts}, {pid, _} = from, driver) do
    opts = if method in ~w(turn/start review/start), do: [follow: pid] ++ opts, else: opts
    {:noreply, step(driver, &State.request(&1, from, method, params, opts, now()))}
  end

  def handle_call({:subscribe, filter}, {pid, _} = from, driver),
    do: {:noreply, step(driver, &State.subscribe(&1, from, pid, filter))}

  def handle_call({:respond, id, answer}, from, driver),
    do: {:noreply, step(driver, &State.respond(&1, from, id, answer))}

  @impl true
  def handle_info(:tick, driver), do: {:noreply, step(driver, &State.tick(&1, now()))}

  def handle_info(message, driver) do
    case Subprocess.stream(driver.sub, message) do
      {:ok, sub, outputs} -> {:noreply, Enum.reduce(outputs, %{driver | sub: sub}, &output/2)}
      {:error, _sub, error} -> {:stop, error, driver}
    end
  end

  defp output({:stdout, bytes}, driver) do
    {:ok, sub} = Subprocess.grant(driver.sub, byte_size(bytes))

    for event <- JSONL.feed(driver.decoder, bytes), reduce: %{driver | sub: sub} do
      driver -> step(driver, &State.message(&1, Message.from_line(event), now()))
    end
  end

  defp output({:exit, exit}, driver),
    do: step(driver, &State.down(&1, %{exit_status: exit.status, signal: exit.signal}))

  defp output(_other, driver), do: driver

  defp step(driver, fun) do
    {actions, state} = fun.(driver.state)
    if driver.timer, do: Process.cancel_timer(driver.timer)

    timer =
      case State.deadline(state) do
        :infinity -> nil
        at -> Process.send_after(self(), :tick, max(at - now(), 0))
      end

    Enum.reduce(actions, %{driver | state: state, timer: timer}, &act/2)
  end

  defp act({:send, message}, driver) do
    {:ok, sub} = Subprocess.write(driver.sub, [JSON.encode!(message), ?\n])
    %{driver | sub: sub}
  end

  defp act({:reply, from, result}, driver) do
    GenServer.reply(from, result)
    driver
  end

  defp act({:notify, who, message}, driver) do
    send(who, message)
    driver
  end

  defp act({:turn, who, thread_id, turn_id, what}, driver) do
    send(who, {:turn, thread_id, turn_id, what})
    driver
  end

  defp act({:note, _what}, driver), do: driver

  defp now, do: System.monotonic_time(:millisecond)
end
