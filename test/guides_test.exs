defmodule Codex.GuidesTest do
  # Runs code of the guides with the real CLI. `MyAppWeb` stands in for Phoenix, and `Oban` for
  # itself.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{Events, Git, Test, Thread}

  @moduletag :codex_cli
  # The tests define them.
  @compile {:no_warn_undefined,
            [
              MyAppWeb.CodexTerminal,
              MyAppWeb.ChatLive,
              MyApp.Chats,
              MyApp.AgentWorker,
              MyApp.CodexPool,
              MyApp.Price
            ]}

  @root Path.expand("..", __DIR__)
  @documents [Path.join(@root, "README.md") | Path.wildcard(@root <> "/guides/*.md")]
  @blocks for path <- @documents,
              [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(path)),
              do: code

  defmodule Elixir.MyAppWeb do
    defmacro __using__(:live_view), do: quote(do: import(MyAppWeb))

    def assign(socket, values) do
      values = Map.new(values)
      socket |> Map.merge(values) |> Map.put(:assigns, Map.merge(socket[:assigns] || %{}, values))
    end

    def push_event(socket, name, payload),
      do: Map.update(socket, :pushed, [{name, payload}], &(&1 ++ [{name, payload}]))

    def connected?(_socket), do: true
    def update(socket, key, fun), do: assign(socket, %{key => fun.(Map.fetch!(socket, key))})
    def put_flash(socket, kind, text), do: Map.put(socket, kind, text)
  end

  defmodule Elixir.Oban.Worker do
    @callback perform(struct()) :: term()
    @callback timeout(struct()) :: timeout()
    defmacro __using__(_options), do: quote(do: @behaviour(Oban.Worker))
  end

  defmodule Elixir.Oban.Job do
    defstruct [:id, args: %{}]
  end

  # A table with a row for each job.
  defmodule Elixir.MyApp.Runs do
    use Agent
    def start_link(_options), do: Agent.start_link(fn -> %{} end, name: __MODULE__)
    def answer(id), do: get({:answer, id})
    def thread_id(id), do: get({:thread, id})
    def put_answer(id, text), do: put({:answer, id}, text)
    def put_thread_id(id, thread_id), do: put({:thread, id}, thread_id)
    defp get(key), do: Agent.get(__MODULE__, & &1[key])
    defp put(key, value), do: Agent.update(__MODULE__, &Map.put(&1, key, value))
  end

  defp block!(text), do: Enum.find(@blocks, &(&1 =~ text)) || flunk("no block has #{text}")

  # Defines the modules of the block that contains this text.
  defp define!(text) do
    case Code.string_to_quoted!(block!(text)) do
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
    define!("defmodule MyAppWeb.ChatLive")
    define!("defmodule MyApp.AgentWorker")
    :ok
  end

  # Runs the review gate of the guide. Returns its exit status and its output.
  defp gate(step, branch) do
    model = Test.start!(List.wrap(step), git: true)
    Git.commit!(model.workspace)
    Git.run!(model.workspace, ~w(branch -f main))
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))

    code =
      block!("System.halt")
      |> String.replace("System.halt(", "exit(")
      |> String.replace(~s("main"), branch)

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
  defp page(id) do
    test = self()

    spawn_link(fn ->
      {:ok, socket} = MyAppWeb.ChatLive.mount(%{"chat" => id}, %{}, %{})
      loop(MyAppWeb.ChatLive, socket, test)
    end)
  end

  defp loop(view, socket, test) do
    send(test, {:page, self(), socket})

    receive do
      {:click, name, params} ->
        {:noreply, socket} = view.handle_event(name, params, socket)
        loop(view, socket, test)

      :close ->
        :ok

      message ->
        {:noreply, socket} = view.handle_info(message, socket)
        loop(view, socket, test)
    end
  end

  defp await_page(page, fun) do
    assert_receive {:page, ^page, socket}, 20_000
    if fun.(socket), do: socket, else: await_page(page, fun)
  end

  defp click(page, name, params), do: send(page, {:click, name, params})

  # A row for each chat.
  defmodule Elixir.MyApp.Repo do
    use Agent
    def start_link(_options), do: Agent.start_link(fn -> %{} end, name: __MODULE__)
    def thread_id(id), do: Agent.get(__MODULE__, & &1[id])
    def put_thread_id(id, thread), do: Agent.update(__MODULE__, &Map.put(&1, id, thread))
  end

  defp chats(script) do
    {model, conn} = connect(script)
    Process.register(conn, MyApp.Codex)
    start_supervised!(MyApp.Repo)
    start_supervised!({Registry, keys: :unique, name: MyApp.Chats.Names})
    start_supervised!({DynamicSupervisor, name: MyApp.Chats.Supervisor})
    model
  end

  test "pages ask their users, come and go, and one of them answers" do
    ask = &shell(&1, sandbox_permissions: "require_escalated", justification: "May I?")
    model = chats([ask.("echo 1 > yes.txt"), ask.("echo 2 > no.txt"), "All done.", "And more."])

    first = page("a")
    click(first, "send", %{"text" => "go"})
    socket = await_page(first, &(map_size(&1.asked) == 1))
    assert [%{reason: "May I?"}] = Map.values(socket.asked)
    [id] = Map.keys(socket.asked)
    send(first, :close)

    second = page("a")
    assert %{asked: %{^id => _}} = await_page(second, &(map_size(&1.asked) == 1))
    third = page("a")
    await_page(third, &(map_size(&1.asked) == 1))
    click(second, "answer", %{"id" => id, "answer" => "allow"})

    socket = await_page(second, &(map_size(&1.asked) == 1 and not is_map_key(&1.asked, id)))
    [other] = Map.keys(socket.asked)
    assert File.exists?(Path.join(model.workspace, "yes.txt"))

    # Only the first answer of two pages counts.
    click(third, "answer", %{"id" => id, "answer" => "allow"})
    assert %{info: "Too late."} = await_page(third, &is_map_key(&1, :info))
    click(second, "answer", %{"id" => other, "answer" => "no"})

    for page <- [second, third],
        do: await_page(page, &(&1.text == "\n> go\nAll done." and &1.asked == %{}))

    refute File.exists?(Path.join(model.workspace, "no.txt"))

    # The server is killed, and the thread goes on with the next message.
    {:ok, server} = MyApp.Chats.server("a")
    Process.exit(GenServer.whereis(server), :kill)
    await_page(third, &(&1.ref == nil))
    click(third, "send", %{"text" => "more"})
    await_page(third, &(&1.text =~ ~r/All done\.\n…\n\n> more\nAnd more\.$/))
    assert %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    assert inspect(input, limit: :infinity) =~ "All done."
  end

  test "a page shows the error of a failed turn, steers and stops" do
    chats([http_error(400, "no such thing"), silence(:infinity)])
    page = page("b")
    click(page, "send", %{"text" => "go"})
    assert %{error: "no such thing"} = await_page(page, &is_map_key(&1, :error))
    click(page, "send", %{"text" => "wait"})
    await_page(page, &(&1.text =~ "> wait"))
    {:ok, server} = MyApp.Chats.server("b")
    assert Codex.Stub.eventually(fn -> Codex.Thread.Server.steer(server, "first") == :ok end)
    click(page, "send", %{"text" => "steered"})
    await_page(page, &(&1.text =~ "> steered"))
    click(page, "stop", %{})
    assert await_page(page, &(&1.error != "no such thing")).error =~ "cancelled"
  end

  test "a page shows the TUI, types, and confirms the bytes that it has drawn" do
    model = Test.start!(["Seen in a page."], Codex.TUI.model_options())

    "defmodule MyAppWeb.CodexTerminal"
    |> block!()
    |> String.replace("/srv/app", model.workspace)
    |> String.replace("Session.start([],", "Session.start(#{Codex.OtherVM.client(model)},")
    |> Code.eval_string()

    view = MyAppWeb.CodexTerminal
    {:ok, socket} = view.mount(%{}, %{}, %{})
    {:noreply, socket} = view.handle_event("open", %{"rows" => 24, "cols" => 80}, socket)
    browser = {view, socket, Codex.Screen.new({24, 80})}

    browser = browser |> browse("Ask Codex to do anything") |> event("keys", %{"data" => "Hi"})
    browser = browser |> browse("› Hi") |> event("keys", %{"data" => "\r"})
    {view, socket, screen} = browse(browser, "• Seen in a page.")
    browser = {view, socket, Codex.Screen.resize(screen, {20, 60})}
    browser = event(browser, "resize", %{"rows" => 20, "cols" => 60})
    {_view, socket, _screen} = browse(browser, "Ask Codex to do anything")
    assert {:ok, _exit} = Codex.CLI.Session.stop(socket.assigns.session)
  end

  # The browser draws, answers questions of the TUI, and confirms, until it shows a text.
  defp browse({view, socket, screen} = browser, text) do
    if Codex.Screen.text(screen) =~ text do
      browser
    else
      assert_receive message, 60_000
      {:noreply, socket} = view.handle_info(message, Map.put(socket, :pushed, []))
      Enum.reduce(socket.pushed, {view, socket, screen}, &draw/2) |> browse(text)
    end
  end

  defp draw({"data", %{bytes: bytes}}, {view, socket, screen}) do
    bytes = Base.decode64!(bytes)
    {screen, answers} = Codex.Screen.feed(screen, bytes)
    browser = event({view, socket, screen}, "drawn", %{"bytes" => byte_size(bytes)})
    if answers == "", do: browser, else: event(browser, "keys", %{"data" => answers})
  end

  defp event({view, socket, screen}, name, data) do
    {:noreply, socket} = view.handle_event(name, data, socket)
    {view, socket, screen}
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

  # Evaluates a block that starts its own thread, with the scripted model. Returns its output.
  defp output(model, text, given) do
    thread = Test.thread_options(model)

    code =
      text
      |> block!()
      |> String.replace(given, "start_thread(client, [sandbox: :read_only] ++ thread)")

    ExUnit.CaptureIO.capture_io(fn ->
      Code.eval_string(code, client: Test.options(model), thread: thread)
    end)
  end

  test "the first code of the README runs" do
    model = Test.start!(["A web shop.", "The cart."])
    given = "start_thread([], sandbox: :read_only)"
    assert output(model, "What does this project do?", given) == "A web shop.\nThe cart.\n"
  end

  test "the ways to run show a turn while it runs, and a test of an application" do
    model = Test.start!([respond([shell("echo hi")]), "Fixed."])
    given = "start_thread([], sandbox: :workspace_write)"
    assert output(model, "IO.puts(\"ran \#{cmd}", given) =~ ~r/ran .*echo hi.*: 0\nFixed\.\n/

    assert {"All green.", variables} = Code.eval_string(block!("All green."))
    :ok = Test.stop(variables[:model])
  end

  describe "the worker of the guide" do
    setup do
      start_supervised!(MyApp.Runs)
      :ok
    end

    defp perform(job), do: MyApp.AgentWorker.perform(job)

    defp job(script) do
      model = Test.start!(script)
      Application.put_env(:my_app, :codex, Test.options(model))
      on_exit(fn -> Application.delete_env(:my_app, :codex) end)
      {model, struct!(Oban.Job, id: 1, args: %{"prompt" => "Sort the list"})}
    end

    defp prompts(model) do
      for %{body: %{"input" => input}} <- Test.requests(model) do
        for %{"role" => "user", "content" => [%{"text" => text}]} <- input,
            text in ["Sort the list", "Continue."],
            do: text
      end
    end

    test "repeats a job in its thread, and a job that is done not at all" do
      {model, job} = job([http_error(500, "busy"), "Sorted."])
      assert {:error, _words} = perform(job)
      assert MyApp.Runs.thread_id(1)
      assert perform(job) == :ok
      assert MyApp.Runs.answer(1) == "Sorted."
      assert List.last(prompts(model)) == ["Sort the list", "Continue."]

      assert perform(job) == :ok
      assert length(prompts(model)) == 2
    end

    test "cancels requests that cannot succeed, and forgets a thread that is not stored" do
      {_model, job} = job([http_error(400, "no such thing")])
      assert perform(job) == {:cancel, "no such thing"}

      MyApp.Runs.put_thread_id(1, "01a1f6cd-1111-7222-8333-48b5fcaa07af")
      assert {:error, _not_found} = perform(job)
      assert MyApp.Runs.thread_id(1) == nil
    end
  end

  test "the pool of the guide gives a conversation the same connection" do
    define!("defmodule MyApp.CodexPool")
    model = Test.start!(["One.", "Two."])
    start_supervised!({MyApp.CodexPool, client: Test.options(model), cwd: model.workspace})
    assert Supervisor.count_children(MyApp.CodexPool).active == 4

    names = for id <- 1..50, do: MyApp.CodexPool.connection(id)
    assert names == for(id <- 1..50, do: MyApp.CodexPool.connection(id))
    assert names |> Enum.uniq() |> length() == 4

    {:ok, thread} = Codex.start_thread([], transport: {:app_server, hd(names)})
    assert {:ok, %{thread: thread}} = Thread.run(thread, "Count")
    assert {:ok, %{final_response: %{text: "Two."}}} = Thread.run(thread, "Go on")
  end

  test "the price of the guide counts cached tokens once" do
    define!("defmodule MyApp.Price")

    usage = %{
      "input_tokens" => 1_000_000,
      "cached_input_tokens" => 400_000,
      "output_tokens" => 10_000
    }

    assert_in_delta MyApp.Price.of(usage), 0.75 + 0.05 + 0.1, 0.000_001
  end

  test "the budget of the guide stops a turn over an app-server" do
    {model, conn} = connect([shell("true"), "Done."])
    code = block!("{:halt, :budget}") |> String.replace("100_000", "50")
    thread = thread!(model, conn)
    {result, _} = Code.eval_string(code, thread: thread)
    assert {:error, reason} = result
    assert Codex.Error.normalize(reason).kind == :interrupted
  end

  test "the guide on debugging reads stderr and JSON lines" do
    model = Test.start!(["A project."])
    model = %{model | env: Map.put(model.env, "RUST_LOG", "info")}
    output = output(model, "RUST_LOG", ~S[start_thread(env: %{"RUST_LOG" => "info"})])
    assert output =~ "INFO codex"
    assert output =~ ~s({"type":"turn.completed")
  end
end
