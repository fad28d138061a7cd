defmodule Codex.Thread.ServerKillsTest do
  # A thread server under a supervisor, which is killed at random moments with the app-server of its
  # pool. The seeds are fixed; the moments vary with the machine.
  use ExUnit.Case, async: true

  import Codex.Test.Steps, only: [message: 1]

  alias Codex.{Connected, Error, Pool, Stub, Test}
  alias Codex.Thread.Server

  @moduletag :codex_cli
  @moduletag timeout: 180_000

  @prompts 10

  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    {:item, elem(message("You said: " <> text), 1), deltas: ["a", "b"], delta_delay_ms: 60}
  end

  defp sent(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model) do
      %{"content" => [%{"text" => text} | _]} = List.last(input)
      text
    end
  end

  for transport <- [:exec, :pool] do
    @tag :tmp_dir
    @tag over: transport
    test "no prompt is sent twice over #{transport}, and the thread goes on", c do
      %{tmp_dir: dir, over: transport} = c
      :rand.seed(:exsss, {20, 5, @prompts})
      model = Test.start!([], default: &echo/1)
      pool = :"codex_pool_#{System.unique_integer([:positive])}"
      name = :"codex_thread_#{System.unique_integer([:positive])}"

      if transport == :pool do
        options = [name: pool, client: Test.options(model), server: [cwd: model.workspace]]
        start_supervised!({Pool, options})
      end

      over = if transport == :pool, do: [transport: {:pool, pool}], else: []
      client = if transport == :pool, do: [], else: [client: Test.options(model)]
      thread = [thread: Test.thread_options(model) ++ over]
      child = {Server, [name: name, state: Path.join(dir, "state.json")] ++ client ++ thread}
      options = [strategy: :one_for_one, max_restarts: 100]
      start_supervised!(%{id: :sup, start: {Supervisor, :start_link, [[child], options]}})

      {:ok, first} = Server.run(name, "prompt 0")
      outcomes = for n <- 1..@prompts, do: {n, killed(name, pool, "prompt #{n}")}

      # The last turn has all of the history. The one before may meet a process that was just
      # killed.
      _ = begin(name, "last but one")
      assert {:ok, last} = begin(name, "last")
      assert last.thread.thread_id == first.thread.thread_id
      prompts = sent(model)
      assert Enum.uniq(prompts) == prompts

      %{body: %{"input" => input}} = List.last(Test.requests(model))
      history = inspect(input, limit: :infinity, printable_limit: :infinity)
      for {n, {:ok, _}} <- outcomes, do: assert(history =~ "You said: prompt #{n}")
      assert Enum.any?(outcomes, &match?({_, {:error, _}}, &1))

      :ok = stop_supervised(:sup)
      _ = stop_supervised(Pool)
      assert Stub.eventually(fn -> Stub.running(model.workspace) == [] end)
    end
  end

  # Runs a turn, and kills a process meanwhile.
  defp killed(name, pool, prompt) do
    task = Task.async(fn -> begin(name, prompt) end)
    Process.sleep(:rand.uniform(400))

    case {:rand.uniform(3), os_pid(pool)} do
      {1, _} -> :ok
      {2, os_pid} when os_pid != nil -> System.cmd("kill", ["-KILL", to_string(os_pid)])
      _other -> if pid = Process.whereis(name), do: Process.exit(pid, :kill)
    end

    Task.await(task, 60_000)
  end

  # Begins again if nothing was sent: the server was not there, or its thread was still in use.
  defp begin(name, prompt) do
    with {:error, reason} <- Server.run(name, prompt) do
      if Error.normalize(reason).kind in [:connection_refused, :thread_busy],
        do: Process.sleep(20) && begin(name, prompt),
        else: {:error, reason}
    end
  end

  defp os_pid(pool) do
    with pid when is_pid(pid) <- Process.whereis(pool),
         {:ok, %{servers: [%{conn: conn} | _]}} <- Pool.stats(pool) do
      Connected.os_pid(conn)
    else
      _none -> nil
    end
  catch
    :exit, _gone -> nil
  end
end
