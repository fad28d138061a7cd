defmodule Codex.AppServer.RequestsTest do
  # What the server asks besides approvals, and who answers it, with the real server; and answers by
  # their tokens.
  use ExUnit.Case, async: true

  import Codex.Connected
  import ExUnit.CaptureLog
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, Test, Thread}
  alias Codex.AppServer.{Answer, Request}
  alias Codex.Tool.Arguments
  alias Codex.Tools.{Call, Toolset}

  @moduletag capture_log: true

  doctest Codex.AppServer.ServerRequest.Answer
  doctest Codex.AppServer.Request
  doctest Codex.Tool
  doctest Arguments

  @mcp Path.expand("../../children/mcp.sh", __DIR__)

  defp start(script, options, connect \\ [], model_opts \\ []) do
    model = Test.start!(script, model_opts)
    conn = connect!(model, [experimental_api: true] ++ connect)
    {model, conn, thread!(model, conn, [ask_for_approval: :on_request] ++ options)}
  end

  # What the model was told of its last call.
  defp told(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    input |> List.last() |> Map.get("output")
  end

  defmodule Weather do
    use Codex.Tool,
      name: "weather",
      description: "The weather of a town",
      parameters: %{
        type: "object",
        properties: %{town: %{type: "string"}},
        required: ["town"]
      },
      timeout_ms: 500,
      unit: "C"

    @impl true
    def invoke(%{"town" => "nowhere"}, _context), do: {:error, "there is no such town"}
    def invoke(%{"town" => "secret"}, _context), do: {:error, {:database, "password"}}
    def invoke(%{"town" => "crash"}, _context), do: raise("the password is hunter2")
    def invoke(%{"town" => "exit"}, _context), do: exit(:oops)
    def invoke(%{"town" => "odd"}, _context), do: :sunny

    def invoke(%{"town" => "math"} = args, _context),
      do: {:ok, 1 / map_size(Map.delete(args, "town"))}

    def invoke(%{"town" => "call"}, _context),
      do: GenServer.call(spawn(fn -> Process.sleep(1_000) end), {:login, "hunter2"}, 1)

    def invoke(%{"town" => "pid"}, _context), do: {:ok, self()}
    def invoke(%{"town" => "slow"}, _context), do: Process.sleep(:infinity)

    def invoke(%{"town" => "picture"}, _context) do
      {:ok,
       [
         %{"type" => "input_text", "text" => "look"},
         %{
           "type" => "input_image",
           "image_url" =>
             "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
         }
       ]}
    end

    # Two at a time meet here.
    def invoke(%{"town" => "pair"}, %{context: %{test: test}}) do
      send(test, {:here, self()})

      receive do
        :both -> {:ok, "met"}
      end
    end

    def invoke(%{"town" => town}, context) do
      send(context.context.test, {:called, context})
      {:ok, %{town: town, degrees: 21, unit: context.metadata.unit}}
    end
  end

  defp weather(town), do: tool_call("weather", %{town: town})

  describe "tools of the host" do
    @describetag :codex_cli

    test "are offered to the model with their schema, and called with its arguments" do
      {model, _conn, thread} =
        start([weather("Rome"), "Warm."],
          tools: [Weather],
          metadata: %{tool_context: %{test: self()}}
        )

      {:ok, result} = Thread.run(thread, "How warm is it?")
      assert result.final_response.text == "Warm."

      [%{body: %{"tools" => tools}} | _] = Test.requests(model)
      assert %{"description" => "The weather of a town"} = tool = find(tools, "weather")
      assert tool["parameters"]["required"] == ["town"]

      assert Codex.JSON.decode(text(told(model))) ==
               {:ok, %{"town" => "Rome", "degrees" => 21, "unit" => "C"}}

      assert_received {:called, context}
      assert %{tool: %{name: "weather"}, thread: %Thread{}, metadata: %{unit: "C"}} = context
      assert %Request.ToolCall{arguments: %{"town" => "Rome"}, call_id: id} = context.event

      assert [%{tool: "weather", status: :completed, success: true, content_items: [_]}] =
               for(
                 %Events.ItemCompleted{item: %Items.DynamicToolCall{id: ^id} = item} <-
                   result.events,
                 do: item
               )
    end

    test "that fail or take too long are reported to the model without details" do
      {:ok, [tool]} = Toolset.new([Weather])
      log = capture_log(fn -> Call.answer(tool, %{"town" => "crash"}, %{context: %{}}) end)
      assert log =~ "the tool weather failed" and log =~ "RuntimeError"

      call = fn -> Call.answer(tool, %{"town" => "call"}, %{context: %{}}) end
      assert {{:error, "the tool weather failed"}, log} = with_log(call)
      assert log =~ "GenServer.call/3" and not (log =~ "hunter2")

      for {town, words} <- [
            {"nowhere", "there is no such town"},
            {"secret", "the tool failed"},
            {"crash", "the tool weather failed: RuntimeError"},
            {"exit", "the tool weather failed"},
            {"odd", "the tool weather returned no result"},
            {"math", "the tool weather failed: ArithmeticError"},
            {"pid", "the tool weather returned a term that JSON cannot express"},
            {"slow", "the tool weather took too long"}
          ] do
        {model, _conn, thread} = start([weather(town), "Well."], tools: [Weather])
        assert {:ok, _result} = Thread.run(thread, "How warm is it?")
        assert {town, text(told(model))} == {town, words}
      end
    end

    test "are not called with arguments that their parameters do not allow" do
      calls = [tool_call("weather", %{place: "Rome"}), tool_call("weather", %{town: ["Rome"]})]
      {model, _conn, thread} = start(calls ++ ["Well."], tools: [Weather])

      log = capture_log(fn -> {:ok, _result} = Thread.run(thread, "How warm is it?") end)
      outputs = for request <- Test.requests(model), text = output(request), do: text

      assert outputs == [
               "invalid arguments for weather: town is required",
               "invalid arguments for weather: town must be a string, got an array"
             ]

      refute log =~ "FunctionClauseError"
    end

    defp output(%{body: %{"input" => input}}) do
      case List.last(input) do
        %{"type" => "function_call_output", "output" => output} -> text(output)
        _ -> nil
      end
    end

    test "have their arguments checked against the schema" do
      integer = %{"type" => "integer", "minimum" => 1}

      schema = %{
        "type" => "object",
        "required" => ["id"],
        "additionalProperties" => false,
        "properties" => %{
          "id" => %{"$ref" => "#/$defs/id"},
          "tags" => %{"type" => "array", "maxItems" => 2, "items" => %{"enum" => ["a", "b"]}},
          "size" => %{"anyOf" => [integer, %{"type" => "null"}]},
          "one" => %{"oneOf" => [%{"type" => "number"}, %{"type" => "integer"}]},
          "code" => %{"pattern" => "^[A-Z]+$", "maxLength" => 3},
          "loop" => %{"$ref" => "#/properties/loop"},
          "kind" => %{"const" => "x"}
        },
        "$defs" => %{"id" => %{"type" => ["string", "integer"]}}
      }

      check = &Arguments.check(Map.put_new(&1, "id", 1), schema)

      for good <- [
            %{},
            %{"id" => "a"},
            %{"tags" => ["a", "b"]},
            %{"size" => nil},
            %{"size" => 1.0},
            %{"one" => 1.5},
            %{"code" => "ABC"},
            %{"loop" => 1},
            %{"kind" => "x"}
          ],
          do: assert({good, check.(good)} == {good, :ok})

      for {bad, text} <- [
            {%{"id" => nil}, "id must be a string or an integer, got null"},
            {%{"tags" => ["a", "c"]}, ~s(tags.1 must be one of "a", "b")},
            {%{"tags" => ["a", "a", "a"]}, "tags must have at most 2 items"},
            {%{"size" => 0}, "size must be at least 1"},
            {%{"one" => 1}, "one fits more than one of the allowed forms"},
            {%{"code" => "abc"}, "code must match ^[A-Z]+$"},
            {%{"code" => "ABCD"}, "code must have at most 3 characters"},
            {%{"kind" => "y"}, ~s(kind must be "x")},
            {%{"taggs" => []},
             "taggs is unknown; known are code, id, kind, loop, one, size, tags"}
          ],
          do: assert({bad, check.(bad)} == {bad, {:error, text}})

      assert Arguments.check([], schema) ==
               {:error, "the arguments: must be an object, got an array"}
    end

    test "run at the same time, and show pictures" do
      {model, _conn, thread} =
        start(
          [respond([weather("pair"), weather("pair")]), weather("picture"), "Nice."],
          tools: [Weather],
          metadata: %{tool_context: %{test: self()}}
        )

      task = Task.async(fn -> Thread.run(thread, "How is it?") end)
      assert_receive {:here, one}, 10_000
      assert_receive {:here, two}, 10_000
      for pid <- [one, two], do: send(pid, :both)
      assert {:ok, _result} = Task.await(task, 20_000)

      assert [%{"type" => "input_text", "text" => "look"}, %{"type" => "input_image"}] =
               told(model)
    end

    test "belong to the thread: another connection resumes it with them" do
      {model, conn, thread} =
        start(["One.", weather("Oslo"), "Two."],
          tools: [Weather],
          metadata: %{tool_context: %{test: self()}}
        )

      {:ok, %{thread: thread}} = Thread.run(thread, "one")
      AppServer.disconnect(conn)

      conn = connect!(model, experimental_api: true)
      thread = %{thread | transport: {:app_server, conn}}
      {:ok, result} = Thread.run(thread, "two")
      assert result.final_response.text == "Two."
      assert_received {:called, _context}
    end

    test "need a connection that asks for them, and modules that are tools" do
      model = Test.start!([])
      thread = thread!(model, connect!(model), tools: [Weather])

      assert {:error, {:exec_failed, %{kind: :unsupported, message: message}}} =
               Thread.run(thread, "hi")

      assert message =~ "thread/start.dynamicTools"
    end
  end

  test "an invalid tool is an error with a reason" do
    defmodule Nameless do
      use Codex.Tool, name: "my tool"
      @impl true
      def invoke(_args, _context), do: {:ok, nil}
    end

    defmodule Misspelled do
      use Codex.Tool, timeout: 5, unit: "C"
      @impl true
      def invoke(_args, _context), do: {:ok, nil}
    end

    for {tool, reason, words} <- [
          {Misspelled, {:unknown_metadata, :timeout, :timeout_ms}, "did you mean :timeout_ms?"},
          {String, :no_invoke, "String has no invoke/2"},
          {:no_such_module, :not_loaded, ":no_such_module does not exist"},
          {"weather", :not_registered, ~s("weather" is not registered)},
          {Nameless, {:invalid_name, "my tool"},
           ~s(must have a name of 1 to 64 letters, digits, _ or -, got: "my tool")}
        ] do
      assert {:error, {:invalid_tool, ^tool, ^reason} = error} =
               Codex.start_thread([], tools: [tool])

      assert Exception.message(Codex.Error.normalize(error)) =~ words
    end

    assert Codex.start_thread([], tools: [Weather, Weather]) ==
             {:error, {:invalid_tool, Weather, {:duplicate_name, "weather"}}}

    assert {:error, %Codex.OptionError{key: :tools} = error} =
             Codex.start_thread([], tools: Weather)

    assert error.expected =~ "a list of modules"
  end

  defp find(tools, name), do: Enum.find(tools, &(&1["name"] == name))
  defp text(text) when is_binary(text), do: text
  defp text([%{"text" => text}]), do: text

  defp question(id, options) do
    %{
      id: id,
      header: "Pick",
      question: "Which?",
      options: for(label <- options, do: %{label: label, description: label})
    }
  end

  describe "a request handler" do
    @describetag :codex_cli

    test "answers the user's questions in plan mode" do
      script = [
        tool_call("request_user_input", %{questions: [question("q", ["A", "B"])]}),
        "Then B."
      ]

      test = self()

      handler = fn request, context ->
        send(test, {:asked, request, context})
        %{"q" => "B"}
      end

      {model, _conn, thread} = start(script, collaboration_mode: :plan, request_handler: handler)

      {:ok, result} = Thread.run(thread, "Which?")
      assert result.final_response.text == "Then B."
      assert told(model) =~ ~s(["B"])

      assert_received {:asked, request, %{thread: %Thread{}, transport: :app_server}}

      assert %Request.UserInput{questions: [asked], token: token, expires_at: %DateTime{}} =
               request

      assert %{id: "q", question: "Which?", header: "Pick", secret?: false} = asked
      assert %{label: "A", description: "A"} in asked.options
      assert AppServer.answer(token, %{"q" => "A"}) == {:error, {:request_closed, token}}
    end

    test "is not asked for a plan, which is an item" do
      plan = "<proposed_plan>\n1. Look\n2. Leap\n</proposed_plan>"
      {_model, _conn, thread} = start(["So:\n" <> plan], collaboration_mode: :plan)
      {:ok, result} = Thread.run(thread, "How?")

      assert [text] =
               for(
                 %Events.ItemCompleted{item: %Items.Plan{text: text}} <- result.events,
                 do: text
               )

      assert text =~ "1. Look"
      assert result.final_response.text =~ "So:"
    end

    test "returns the time" do
      config = """
      [features.current_time_reminder]
      enabled = true
      clock_source = "external"
      reminder_interval_seconds = 1
      """

      handler = fn %Request.CurrentTime{} -> ~U[2001-02-03 04:05:06Z] end
      {model, _conn, thread} = start(["Then."], [request_handler: handler], [], config: config)
      {:ok, codex} = Test.codex_path()
      {:ok, version} = Codex.CLI.Program.version(codex)

      # Newer servers do not ask their clients.
      if Version.match?(version, "<= 0.169.0") do
        assert {:ok, _result} = Thread.run(thread, "When?")
        assert [%{body: body}] = Test.requests(model)
        assert inspect(body, limit: :infinity, printable_limit: :infinity) =~ "2001-02-03"
      else
        assert {:error, reason} = Thread.run(thread, "When?")
        assert %{kind: :cli_unsupported, message: message} = Codex.Error.normalize(reason)
        assert message =~ "clock_source is external"
        assert Test.requests(model) == []
      end
    end

    test "answers the elicitation of an MCP server" do
      for {answer, words} <- [
            {{:accept, %{"name" => "Joe"}}, "accept Joe"},
            {:decline, "decline "},
            {:nonsense, "decline "}
          ] do
        handler = fn %Request.Elicitation{tool: nil, server_name: "tiny"} = request ->
          assert request.message == "Your name?"
          assert %{"properties" => %{"name" => _}} = request.schema
          answer
        end

        {model, _conn, thread} =
          start(
            [tool_call("ask", %{}, namespace: "mcp__tiny"), "Hello."],
            [request_handler: handler, mcp_servers: %{tiny: %{command: @mcp}}],
            []
          )

        {:ok, result} = Thread.run(thread, "Ask.")
        assert result.final_response.text == "Hello."
        assert inspect(told(model)) =~ words
      end
    end
  end

  describe "subscribers" do
    @describetag :codex_cli

    test "refresh the host's own tokens and attest its client" do
      [old, new] = for n <- 1..2, do: token(n)

      script = [
        fn request ->
          assert request.headers["authorization"] == "Bearer " <> old
          http_error(401, "expired")
        end,
        fn request ->
          assert request.headers["authorization"] == "Bearer " <> new
          assert request.headers["x-oai-attestation"] =~ "attested"
          message("Paid.")
        end
      ]

      config = """
      model_providers.mock.requires_openai_auth = true
      features.apps = false
      """

      {_model, conn, thread} =
        start(script, [], [capabilities: [request_attestation: true]], config: config)

      :ok = AppServer.subscribe(conn, as: :structs)
      login = [type: "chatgptAuthTokens", access_token: old, chatgpt_account_id: "acc-1"]
      assert {:ok, _} = AppServer.account_login_start(conn, login)
      task = Task.async(fn -> Thread.run(thread, "Pay.") end)

      assert_receive {:codex_request, _, %Request.Attestation{} = request}, 10_000
      assert AppServer.answer(request, "attested") == :ok
      assert_receive {:codex_request, _, %Request.TokenRefresh{} = request}, 10_000
      assert %{reason: "unauthorized", previous_account_id: "acc-1"} = request

      assert {:error, %Codex.OptionError{reason: :missing, path: [:chatgpt_account_id]}} =
               AppServer.answer(request, access_token: new)

      assert AppServer.answer(request, access_token: new, chatgpt_account_id: "acc-1") == :ok
      assert_receive {:codex_request, _, %Request.Attestation{} = request}, 10_000
      assert AppServer.answer(request, "attested") == :ok
      assert {:ok, %{final_response: %{text: "Paid."}}} = Task.await(task, 20_000)
    end
  end

  defp token(n) do
    Codex.Logins.jwt(%{
      "n" => n,
      "email" => "ann@example.com",
      "exp" => System.os_time(:second) + 86_400,
      "https://api.openai.com/auth" => %{
        "chatgpt_plan_type" => "pro",
        "chatgpt_account_id" => "acc-1",
        "chatgpt_user_id" => "user-1"
      }
    })
  end

  describe "approvals of MCP tools" do
    @describetag :codex_cli

    @tag :cli_pin
    test "are the policy's, for once or for the session" do
      test = self()

      for {decision, asked, status} <- [
            {:allow, 2, :completed},
            {{:allow, for_session: true}, 1, :completed},
            {{:deny, "no"}, 2, :failed}
          ] do
        policy = fn %{type: :mcp_tool_approval} = event ->
          send(test, {:asked, event})
          decision
        end

        write = tool_call("write", %{x: 1}, namespace: "mcp__tiny")

        {_model, _conn, thread} =
          start([write, write, "Done."],
            approval_policy: policy,
            sandbox: :read_only,
            mcp_servers: %{tiny: %{command: @mcp}}
          )

        {:ok, result} = Thread.run(thread, "Write.")

        assert [^status, ^status] =
                 for(
                   %Events.ItemCompleted{item: %Items.McpToolCall{} = item} <- result.events,
                   do: item.status
                 )

        for _ <- 1..asked do
          assert_received {:asked, event}
          assert %{server_name: "tiny", tool_name: "write", arguments: %{"x" => 1}} = event
        end

        refute_received {:asked, _}
      end
    end
  end
end
