defmodule Codex.GuidesTest do
  # Runs the modules of `guides/app_server.md` with the real server. `MyAppWeb` stands in for Phoenix.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Git, Test, Thread}

  @moduletag :codex_cli
  # The tests define it.
  @compile {:no_warn_undefined, MyApp.Agent}

  @guide File.read!(Path.expand("../guides/app_server.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  defmodule Elixir.MyAppWeb do
    defmacro __using__(:live_view), do: quote(do: import(MyAppWeb))
    def assign(socket, values), do: Map.merge(socket, Map.new(values))
    def update(socket, key, fun), do: Map.update!(socket, key, fun)
    def put_flash(socket, kind, text), do: Map.put(socket, kind, text)
  end

  # Defines the modules of the block that contains this text.
  defp define!(text) do
    block = Enum.find(@blocks, &(&1 =~ text)) || flunk("no block has #{text}")

    case Code.string_to_quoted!(block) do
      {:__block__, _, forms} -> forms
      form -> [form]
    end
    |> Enum.filter(&match?({:defmodule, _, _}, &1))
    |> Enum.each(&Code.eval_quoted/1)
  end

  defp connect(script) do
    model = Test.start!(script)
    {model, connect!(model, experimental_api: true)}
  end

  setup_all do
    define!("defmodule MyAppWeb.AgentLive")
  end

  # Runs the review gate of the guide. Returns its exit status and its output.
  defp gate(step, branch) do
    model = Test.start!(List.wrap(step), git: true)
    Git.commit!(model.workspace)
    Git.run!(model.workspace, ~w(branch -f main))
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    code = Enum.find(@blocks, &(&1 =~ "System.halt"))
    code = code |> String.replace("System.halt(", "exit(") |> String.replace(~s("main"), branch)

    ExUnit.CaptureIO.with_io(fn ->
      ExUnit.CaptureIO.with_io(:stderr, fn ->
        catch_exit(Code.eval_string(code, thread: thread))
      end)
    end)
  end

  defp answer(findings, verdict \\ "patch is correct") do
    place = %{absolute_file_path: "/a.ex", line_range: %{start: 3, end: 3}}

    findings =
      for {title, priority} <- findings,
          do: %{title: title, body: "b", priority: priority, code_location: place}

    json(%{findings: findings, overall_correctness: verdict, overall_explanation: "E."})
  end

  test "the review gate passes only changes that are known to be good" do
    assert {{0, ""}, ""} = gate(answer([]), ~s("main"))
    assert {{0, ""}, out} = gate(answer([{"Slow", 3}, {"Odd", 2}]), ~s("main"))
    assert out == "/a.ex:3 Slow\n/a.ex:3 Odd\n"

    for step <- [
          answer([{"[P0] Gone", nil}]),
          answer([{"Off by one", nil}]),
          answer([{"Off by one", 1}]),
          answer([{"Slow", 3}], nil),
          answer([], "patch is incorrect")
        ],
        do: assert({{1, ""}, _findings} = gate(step, ~s("main")))

    for step <- [
          "Looks fine.",
          ~S({"findings": [{"title": "[P0] x),
          answer([], nil),
          http_error(400, "bad")
        ] do
      assert {{1, error}, ""} = gate(step, ~s("main"))
      assert error =~ "unreadable" or error =~ "bad"
    end

    assert {{1, error}, ""} = gate([], ~s("nope"))
    assert error =~ "no such branch"
  end

  # Starts a page: a process that runs the callbacks of the view on its socket.
  defp page(view, id, test) do
    spawn_link(fn ->
      {:ok, socket} = view.mount(%{"thread" => id}, %{}, %{})
      loop(view, socket, test)
    end)
  end

  defp loop(view, socket, test) do
    send(test, {:page, self(), socket})

    receive do
      {:click, params} ->
        {:noreply, socket} = view.handle_event("answer", params, socket)
        loop(view, socket, test)

      :close ->
        :ok

      message ->
        {:noreply, socket} = view.handle_info(message, socket)
        loop(view, socket, test)
    end
  end

  defp await_page(page, fun) do
    assert_receive {:page, ^page, socket}, 10_000
    if fun.(socket), do: socket, else: await_page(page, fun)
  end

  test "a page asks its user and is closed, and another page answers later" do
    view = MyAppWeb.AgentLive
    ask = &shell(&1, sandbox_permissions: "require_escalated", justification: "May I?")
    {model, conn} = connect([ask.("echo 1 > yes.txt"), ask.("echo 2 > no.txt"), "All done."])
    Process.register(conn, MyApp.Codex)
    test = self()
    began = &send(test, {:began, &1})
    agent = Task.async(fn -> MyApp.Agent.run(MyApp.Codex, "go", began) end)
    assert_receive {:began, id}, 10_000

    first = page(view, id, self())
    socket = await_page(first, &(map_size(&1.asked) == 1))
    assert [%AppServer.Request.CommandApproval{reason: "May I?"}] = Map.values(socket.asked)
    [token] = Map.keys(socket.asked)
    send(first, :close)

    second = page(view, id, self())
    assert %{asked: %{^token => _}} = await_page(second, &(map_size(&1.asked) == 1))
    third = page(view, id, self())
    await_page(third, &(map_size(&1.asked) == 1))
    send(second, {:click, %{"token" => token, "answer" => "allow"}})

    socket = await_page(second, &(map_size(&1.asked) == 1 and not is_map_key(&1.asked, token)))
    [other] = Map.keys(socket.asked)
    assert File.exists?(Path.join(model.workspace, "yes.txt"))

    # Only the first answer of two pages counts.
    send(third, {:click, %{"token" => token, "answer" => "allow"}})
    assert %{info: "Too late."} = await_page(third, &is_map_key(&1, :info))
    send(second, {:click, %{"token" => other, "answer" => "no"}})

    for page <- [second, third],
        do: await_page(page, &(&1.text == "All done." and &1.asked == %{}))

    assert {:ok, %{final_response: %{text: "All done."}}} = Task.await(agent, 10_000)
    refute File.exists?(Path.join(model.workspace, "no.txt"))
    assert AppServer.pending(conn) == {:ok, []}
  end

  test "a page shows the error of a failed turn" do
    ask = shell("true", sandbox_permissions: "require_escalated", justification: "May I?")
    {_model, conn} = connect([ask, http_error(400, "no such thing")])
    Process.register(conn, MyApp.Codex)
    test = self()
    began = &send(test, {:began, &1})
    agent = Task.async(fn -> MyApp.Agent.run(MyApp.Codex, "go", began) end)
    assert_receive {:began, id}, 10_000

    page = page(MyAppWeb.AgentLive, id, self())
    socket = await_page(page, &(map_size(&1.asked) == 1))
    [token] = Map.keys(socket.asked)
    send(page, {:click, %{"token" => token, "answer" => "allow"}})
    assert %{error: "no such thing"} = await_page(page, &is_map_key(&1, :error))
    assert {:error, {:turn_failed, _error}} = Task.await(agent, 10_000)
  end

  test "the agent calls the tool of the guide" do
    define!("defmodule MyApp.OrderTool")
    {model, conn} = connect([tool_call("order_status", %{number: "17"}), "It is sent."])

    orders = %{tool_context: %{orders: %{"17" => "sent"}}}
    thread = thread!(model, conn, tools: [MyApp.OrderTool], metadata: orders)

    {:ok, result} = Thread.run(thread, "Where is 17?")
    assert Enum.any?(result.events, &match?(%Events.ItemCompleted{}, &1))
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    assert inspect(List.last(input)["output"]) =~ "sent"
  end
end
