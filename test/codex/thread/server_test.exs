defmodule Codex.Thread.ServerTest do
  # Thread servers with the real CLI on a scripted model.
  use ExUnit.Case, async: true

  import Codex.Test.Steps, only: [message: 1, silence: 1, shell: 2]

  alias Codex.{Connected, Error, Pool, Stub, Test}
  alias Codex.Thread.Server

  doctest Codex.Thread.Server.Log

  @moduletag :codex_cli

  @transports [:exec, :app_server, :pool]

  # Answers with the last prompt. "hang" never ends, and "ask" runs a command first.
  defp echo(%{body: %{"input" => input}}) do
    case List.last(prompts(input)) do
      "hang" <> _ -> silence(:infinity)
      "many" <> _ -> {:item, elem(message("many"), 1), deltas: for(n <- 1..200, do: "#{n} ")}
      "ask" <> _ -> ask(List.last(input))
      text -> message("You said: " <> text)
    end
  end

  defp ask(%{"type" => "function_call_output", "output" => output}),
    do: message("Output: " <> inspect(output))

  # `codex exec` asks about every command, an app-server about those outside of the sandbox.
  defp ask(%{"content" => [%{"text" => "ask exec" <> _} | _]}), do: shell("echo asked", [])

  defp ask(_prompt),
    do: shell("echo asked", sandbox_permissions: "require_escalated", justification: "May I?")

  defp prompts(input) do
    for %{"role" => "user", "content" => content} <- input,
        %{"text" => text} <- content,
        not String.starts_with?(text, "<"),
        not String.starts_with?(text, "#"),
        do: text
  end

  # The prompts of each request, the newest last.
  defp sent(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model),
        do: prompts(input)
  end

  defp outputs(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model),
        %{"type" => "function_call_output", "output" => output} <- input,
        do: inspect(output)
  end

  # The options of a server, beside those of a thread.
  defp options(transport, model, more) do
    {thread, more} = Keyword.pop(more, :thread, [])
    base = Test.thread_options(model) ++ thread

    case transport do
      :exec ->
        [client: Test.options(model), thread: base] ++ more

      :app_server ->
        [thread: base ++ [transport: {:app_server, Connected.connect!(model)}]] ++ more

      :pool ->
        name = :"codex_pool_#{System.unique_integer([:positive])}"
        pool = [name: name, client: Test.options(model), server: [cwd: model.workspace]]
        start_supervised!({Pool, pool}, id: name)
        [thread: base ++ [transport: {:pool, name}]] ++ more
    end
  end

  defp start(transport, more \\ []) do
    model = Test.start!([], default: &echo/1)
    {model, start_supervised!({Server, options(transport, model, more)})}
  end

  defp eventually(fun), do: assert(Stub.eventually(fun, 60_000))
  defp status(server), do: elem({:ok, _} = Server.status(server), 1)

  # Entries until one matches, as a follower that acknowledges.
  defp entries(server, ref, last?, before \\ []) do
    receive do
      {:codex_thread, ^ref, entries} ->
        Server.ack(server, ref)
        all = before ++ entries

        if Enum.any?(entries, &last?.(elem(&1, 1))),
          do: all,
          else: entries(server, ref, last?, all)
    after
      60_000 -> flunk("no such entry; got #{inspect(before)}")
    end
  end

  defp ended?({:ended, _run, _outcome}), do: true
  defp ended?(_entry), do: false
  defp bare(entries), do: Enum.map(entries, &elem(&1, 1))

  defp offsets(entries), do: Enum.map(entries, &elem(&1, 0))

  for transport <- @transports do
    describe "over #{transport}," do
      @transport transport

      test "a server runs turns of one thread, which followers get, early and late" do
        {model, server} = start(@transport)
        {:ok, ref} = Server.follow(server)
        assert {:ok, result} = Server.run(server, "one")
        assert to_string(result) == "You said: one"
        id = result.thread.thread_id
        assert %{thread_id: ^id, run: nil, followers: 1} = status(server)

        early = entries(server, ref, &ended?/1)
        assert [{:began, run, "one"} | _] = bare(early)
        assert {:ended, ^run, :ok} = List.last(bare(early))
        assert Enum.any?(bare(early), &match?({:event, %{thread_id: ^id}}, &1))

        # The events of the turn are those of its result.
        assert for({:event, event} <- bare(early), do: event) == result.events
        [first | _] = offsets(early)
        last = List.last(offsets(early))
        assert offsets(early) == Enum.to_list(first..last)

        # From the start, from an offset, from now.
        {:ok, late} = Server.follow(server, from: :start)
        assert entries(server, late, &ended?/1) == early
        {:ok, later} = Server.follow(server, from: last - 1)
        assert entries(server, later, &ended?/1) == Enum.take(early, -2)
        {:ok, now} = Server.follow(server, from: :now)

        assert {:ok, run} = Server.submit(server, "two")
        again = entries(server, now, &ended?/1)
        assert [{:began, ^run, "two"} | _] = bare(again)
        assert {:ended, ^run, :ok} = List.last(bare(again))
        assert hd(offsets(again)) == last + 1

        assert sent(model) == [["one"], ["one", "two"]]
        assert status(server).followers == 4
        assert :ok = Server.unfollow(server, now)
        assert status(server).followers == 3
        refute_received {:codex_thread, ^now, _}
      end

      test "a turn is interrupted, and another one is refused, waits or is dropped" do
        {model, server} = start(@transport, queue: 1)
        assert Server.interrupt(server) == {:error, :missing_thread_id}
        {:ok, hang} = Server.submit(server, "hang")
        {:ok, waits} = Server.submit(server, "waits")
        eventually(fn -> sent(model) == [["hang"]] end)
        eventually(fn -> status(server).thread_id != nil end)
        assert {:error, {:turn_running, id, ^hang} = reason} = Server.run(server, "refused")
        assert Error.normalize(reason).kind == :thread_busy
        assert is_binary(id)
        assert %{run: ^hang, queued: [^waits]} = status(server)

        # One that waits.
        assert Server.interrupt(server, waits) == :ok
        assert %{queued: []} = status(server)
        assert Server.interrupt(server, waits) == {:error, {:no_turn, id}}
        next = Task.async(fn -> Server.run(server, "next") end)
        eventually(fn -> match?([_], status(server).queued) end)

        # The one that runs.
        assert Server.interrupt(server) == :ok
        assert {:ok, result} = Task.await(next, 60_000)
        assert result.thread.thread_id == id
        ended = for {:ended, run, outcome} <- bare(all(server)), do: {run, outcome}

        assert [{^waits, {:error, dropped}}, {^hang, {:error, interrupted}}, {_next, :ok}] = ended
        assert {dropped.kind, interrupted.kind} == {:interrupted, :interrupted}
        assert interrupted.result == nil
        assert Server.interrupt(server) == {:error, {:no_turn, id}}
      end

      test "a turn goes on without the processes that began it and read it" do
        {model, server} = start(@transport)
        test = self()

        reader =
          spawn(fn ->
            {:ok, _ref} = Server.follow(server)
            {:ok, _run} = Server.submit(server, "hang")
            send(test, :began)
            Process.sleep(:infinity)
          end)

        assert_receive :began, 10_000
        eventually(fn -> sent(model) == [["hang"]] end)
        assert status(server).followers == 1
        Process.exit(reader, :kill)
        eventually(fn -> status(server).followers == 0 end)
        assert status(server).run != nil
        assert length(Codex.running()) >= 1
        assert :ok = Server.interrupt(server)
        eventually(fn -> status(server).run == nil end)
        assert {:ok, _} = Server.run(server, "two")
      end

      test "followers answer what the turn asks" do
        {model, server} =
          start(@transport,
            approvals: :followers,
            thread: [ask_for_approval: if(@transport != :exec, do: :on_request)]
          )

        {:ok, ref} = Server.follow(server)
        {:ok, _run} = Server.submit(server, "ask #{@transport} one")
        seen = entries(server, ref, &match?({:asked, _, _}, &1))
        [{id, question}] = for {:asked, id, question} <- bare(seen), do: {id, question}
        assert %{type: :command_execution_approval, command: command} = question
        assert command =~ "echo asked"
        assert %{asked: %{^id => ^question}} = status(server)
        assert {:error, %Codex.OptionError{}} = Server.answer(server, id, :maybe)
        assert Task.await(Task.async(fn -> Server.answer(server, id, :allow) end)) == :ok
        assert Server.answer(server, id, :allow) == {:error, {:request_closed, id}}
        seen = entries(server, ref, &ended?/1)
        assert {:answered, id, :allow} in bare(seen)
        assert {:ended, _, :ok} = List.last(bare(seen))
        assert model |> outputs() |> List.last() =~ "asked"

        # A question ends with its turn.
        {:ok, _run} = Server.submit(server, "ask #{@transport} two")
        seen = entries(server, ref, &match?({:asked, _, _}, &1))
        [id] = for {:asked, id, _question} <- bare(seen), do: id
        assert :ok = Server.interrupt(server)
        seen = entries(server, ref, &(&1 == {:answered, id, :closed}))
        unless Enum.any?(bare(seen), &ended?/1), do: entries(server, ref, &ended?/1)
        assert status(server).asked == %{}
      end

      test "a killed server ends its turn, and the next one goes on with its thread", context do
        path = Path.join(System.tmp_dir!(), "codex_#{context.line}_#{System.unique_integer()}")
        on_exit(fn -> File.rm(path) end)
        {model, server} = start(@transport, state: path)
        {:ok, ref} = Server.follow(server)
        assert {:ok, result} = Server.run(server, "one")
        id = result.thread.thread_id
        {:ok, _run} = Server.submit(server, "hang")
        eventually(fn -> List.last(sent(model)) == ["one", "hang"] end)
        [%{pid: worker}] = for run <- Codex.running(), run.thread_id == id, do: run
        monitor = Process.monitor(worker)
        if @transport == :exec, do: assert([_ | _] = Stub.running(model.workspace))
        before = entries(server, ref, &match?({:began, _, "hang"}, &1))

        Process.exit(server, :kill)
        assert_receive {:DOWN, ^ref, :process, ^server, :killed}, 10_000
        assert_receive {:DOWN, ^monitor, :process, _, :killed}, 10_000
        if @transport == :exec, do: eventually(fn -> Stub.running(model.workspace) == [] end)

        # Its supervisor has started another one.
        eventually(fn -> whereis() not in [nil, server] end)
        server = whereis()
        {:ok, ref} = Server.follow(server, from: List.last(offsets(before)) + 1)
        assert %{thread_id: ^id, run: nil} = status(server)
        eventually(fn -> not busy?(Server.run(server, "two")) end)

        assert [{:cut, _, _}, {:resumed, ^id}, {:began, _, "two"} | _] =
                 bare(entries(server, ref, &ended?/1))

        assert ["one", "hang" | rest] = List.last(sent(model))
        assert List.last(rest) == "two"
        assert Enum.count(List.flatten(sent(model)), &(&1 == "two")) == 1
      end
    end
  end

  defp busy?({:error, reason}), do: Error.normalize(reason).kind == :thread_busy
  defp busy?({:ok, _result}), do: false

  defp whereis do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()

    Enum.find_value(Supervisor.which_children(supervisor), fn
      {Server, pid, _, _} when is_pid(pid) -> pid
      _other -> nil
    end)
  end

  defp all(server) do
    {:ok, ref} = Server.follow(server)
    %{next: next} = status(server)
    all = entries(server, ref, fn _entry -> true end)
    all = if List.last(offsets(all)) < next - 1, do: more(server, ref, next, all), else: all
    :ok = Server.unfollow(server, ref)
    all
  end

  defp more(server, ref, next, all) do
    all = entries(server, ref, fn _entry -> true end, all)
    if List.last(offsets(all)) < next - 1, do: more(server, ref, next, all), else: all
  end
end
