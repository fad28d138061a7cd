defmodule Codex.AppServer.CLITest do
  # The functions of the methods, with the real server on the other side.
  use ExUnit.Case, async: true
  @moduletag :codex_cli

  import Codex.Connected, only: [connect!: 1, connect!: 2]
  import Codex.Test.Steps
  alias Codex.AppServer
  alias Codex.AppServer.{Account, Connection, Mcp}

  @approval "item/commandExecution/requestApproval"

  # A thread that we hear of.
  defp thread!(conn, options) do
    assert {:ok, %{"thread" => %{"id" => id}}} = AppServer.thread_start(conn, options)
    assert AppServer.subscribe(conn, thread_id: id) == :ok
    id
  end

  # What was told of a turn, to its end.
  defp told(turn, told \\ []) do
    receive do
      {:codex_notification, "turn/completed", %{"turn" => %{"id" => ^turn} = ended}} ->
        {Enum.reverse(told), ended}

      {:codex_notification, method, %{"turnId" => ^turn} = params} ->
        told(turn, [{method, params} | told])
    after
      30_000 -> flunk("the turn does not end; told: #{inspect(Enum.map(told, &elem(&1, 0)))}")
    end
  end

  defp items(told, type) do
    for {"item/completed", %{"item" => %{"type" => ^type} = item}} <- told, do: item
  end

  test "a turn, from the first word to the last, with its tokens" do
    model = Codex.Test.start!(["Hello", "Again"])
    conn = connect!(model)
    thread = thread!(conn, working_directory: model.workspace, sandbox: :strict)

    for {input, answer, total} <- [
          {"Hi", "Hello", 120},
          {["So", %{type: :text, text: "?"}], "Again", 240}
        ] do
      assert {:ok, %{"turn" => %{"id" => turn}}} =
               AppServer.turn_start(conn, thread, input, effort: :low, sandbox_policy: :read_only)

      assert {told, %{"status" => "completed"}} = told(turn)
      assert [%{"text" => ^answer}] = items(told, "agentMessage")
      usages = for {"thread/tokenUsage/updated", %{"tokenUsage" => usage}} <- told, do: usage

      assert [%{"total" => %{"totalTokens" => ^total}, "last" => %{"totalTokens" => 120}}] =
               usages
    end

    assert [_, %{body: %{"input" => input}}] =
             Codex.Test.requests(model) |> Enum.filter(&(&1.method == "POST"))

    texts =
      for %{"role" => "user", "content" => content} <- input,
          %{"text" => text} <- content,
          do: text

    assert ["Hi", "So", "?"] -- texts == []
  end

  test "threads, lists and searches" do
    model = Codex.Test.start!(["Hello", "Summary"])
    File.write!(Path.join(model.workspace, "needle.txt"), "")
    conn = connect!(model)
    thread = thread!(conn, cwd: model.workspace, approval_policy: :never)
    {:ok, %{"turn" => %{"id" => turn}}} = AppServer.turn_start(conn, thread, "Hi")
    assert {_, %{"status" => "completed"}} = told(turn)

    assert {:ok, %{"data" => [%{"id" => ^thread}]}} =
             AppServer.thread_list(conn, limit: 5, model_providers: [])

    assert {:ok, %{"thread" => %{"id" => ^thread}}} =
             AppServer.thread_resume(conn, thread, cwd: model.workspace)

    assert {:ok, %{"thread" => %{"id" => ^thread}}} =
             AppServer.thread_read(conn, thread_id: thread)

    assert {:ok, %{"data" => [%{"id" => ^turn}]}} =
             AppServer.thread_turns_list(conn, thread_id: thread)

    assert {:ok, %{"data" => [^thread]}} = AppServer.thread_loaded_list(conn)
    assert {:ok, %{}} = AppServer.thread_name_set(conn, thread_id: thread, name: "One")
    assert {:ok, %{}} = AppServer.thread_compact(conn, thread)

    assert {:ok, %{"data" => [_ | _]}} = AppServer.model_list(conn, limit: 2)

    assert {:ok, %{"data" => _}} =
             AppServer.skills_list(conn, cwds: [model.workspace], force_reload: true)

    assert {:ok, %{"data" => []}} = Mcp.list_servers(conn, limit: 3)
    assert {:ok, %{"files" => []}} = AppServer.fuzzy_file_search(conn, "needle")

    assert {:ok, %{"files" => [%{"path" => "needle.txt"}]}} =
             AppServer.fuzzy_file_search(conn, "needle", roots: [model.workspace])

    assert AppServer.turn_interrupt(conn, thread, turn) |> elem(0) == :error
    assert {:error, %{"code" => -32600}} = AppServer.thread_read(conn, thread_id: "nope")
    assert AppServer.thread_archive(conn, thread) == :ok
    assert {:ok, %{"data" => []}} = AppServer.thread_list(conn)
  end

  test "configuration, commands and accounts" do
    model = Codex.Test.start!()
    conn = connect!(model)

    assert {:ok, %{"status" => "ok", "version" => version}} =
             AppServer.config_write(conn, "hide_agent_reasoning", true)

    assert {:ok, %{"config" => %{"hide_agent_reasoning" => true}, "layers" => [_ | _]}} =
             AppServer.config_read(conn, include_layers: true)

    # false is false, and nil takes a key away.
    edits = [
      %{key_path: "hide_agent_reasoning", value: false},
      %{key_path: "tools.update_plan", value: nil},
      %{key_path: "model_verbosity", value: "low", merge_strategy: :upsert}
    ]

    options = [expected_version: version]
    assert {:ok, %{"status" => "ok"}} = AppServer.config_batch_write(conn, edits, options)

    assert {:error, %{"data" => %{"config_write_error_code" => "configVersionConflict"}} = error} =
             AppServer.config_batch_write(conn, edits, options)

    assert Codex.Error.normalize(error).kind == :config
    assert {:ok, %{"config" => config}} = AppServer.config_read(conn)
    assert %{"hide_agent_reasoning" => false, "model_verbosity" => "low"} = config
    refute File.read!(Path.join(model.home, "config.toml")) =~ "update_plan"

    policy = %{sandbox_policy: :danger_full_access}

    assert {:ok, %{"exitCode" => 0, "stdout" => "hi\n"}} =
             AppServer.command_exec(conn, ["echo", "hi"], policy)

    # A command with input, while it runs.
    options = Map.merge(policy, %{process_id: "p", stream_stdin: true, timeout_ms: 20_000})
    command = Task.async(fn -> AppServer.command_exec(conn, ["cat"], options) end)

    assert {:ok, %{}} =
             eventually(fn ->
               AppServer.command_write_stdin(conn, "p", "in", close_stdin: true)
             end)

    assert {:ok, %{"exitCode" => 0, "stdout" => "in"}} = Task.await(command, 20_000)

    # The provider of these tests needs no login, so the server tells of none.
    auth = Path.join(model.home, "auth.json")
    assert {:ok, %{"account" => nil}} = Account.read(conn)
    assert {:ok, %{"type" => "apiKey"}} = Account.login_start(conn, {:api_key, "sk-test"})
    assert File.exists?(auth)
    assert {:ok, %{}} = Account.read(conn, refresh_token: false)

    assert {:error, %{"message" => "chatgpt authentication required" <> _}} =
             Account.rate_limits(conn)

    assert {:ok, %{"status" => "notFound"}} =
             Account.login_cancel(conn, "01a1f6d4-85db-7361-ba5e-e19a013750ca")

    assert {:ok, %{}} = Account.logout(conn)
    refute File.exists?(auth)
  end

  # The command is there as soon as its request was taken up; the answer comes when it has ended.
  defp eventually(fun) do
    with {:error, %{"code" => _}} <- fun.(), do: eventually(fun)
  end

  test "a review is followed to its end" do
    model =
      Codex.Test.start!(
        [
          json(%{
            findings: [],
            overall_correctness: "patch is correct",
            overall_explanation: "Fine.",
            overall_confidence_score: 1.0
          })
        ],
        git: true
      )

    conn = connect!(model)
    thread = thread!(conn, cwd: model.workspace)

    assert {:ok, %{"turn" => %{"id" => turn}}} =
             AppServer.review_start(conn, thread, {:custom, "Look"}, delivery: :inline)

    assert {told, %{"status" => "completed"}} = told(turn)
    assert [%{"review" => review}] = items(told, "exitedReviewMode")
    assert review =~ "Fine."
  end

  test "an approval without an answer is declined, and the turn continues" do
    model =
      Codex.Test.start!([
        shell("touch made", sandbox_permissions: "require_escalated", justification: "?"),
        "Done"
      ])

    conn = connect!(model, answer_timeout_ms: 50)

    thread =
      thread!(conn, cwd: model.workspace, approval_policy: :on_request, sandbox: :read_only)

    {:ok, %{"turn" => %{"id" => turn}}} = AppServer.turn_start(conn, thread, "Do it")

    assert {told, %{"status" => "completed"}} = told(turn)
    assert_received {:codex_request, id, @approval, %{"turnId" => ^turn}}
    assert [%{"status" => "declined"}] = items(told, "commandExecution")
    refute File.exists?(Path.join(model.workspace, "made"))

    assert AppServer.respond(conn, id, %{decision: :accept}) ==
             {:error, {:request_closed, id}}
  end

  test "any process may answer; an invalid answer is not sent" do
    model =
      Codex.Test.start!([
        shell("echo hi", sandbox_permissions: "require_escalated", justification: "?"),
        "Done"
      ])

    conn = connect!(model)

    thread =
      thread!(conn, cwd: model.workspace, approval_policy: :on_request, sandbox: :read_only)

    {:ok, %{"turn" => %{"id" => turn}}} = AppServer.turn_start(conn, thread, "Do it")
    assert_receive {:codex_request, id, @approval, _}, 20_000

    Task.await(
      Task.async(fn ->
        assert {:error, %Codex.OptionError{path: [:decision], value: :yes}} =
                 AppServer.respond(conn, id, %{decision: :yes})

        assert :ok = AppServer.respond(conn, id, decision: :accept)
      end)
    )

    assert {told, %{"status" => "completed"}} = told(turn)

    assert [%{"status" => "completed", "aggregatedOutput" => "hi\n"}] =
             items(told, "commandExecution")
  end

  test "the no of a tool of the host and of a question are taken by the server" do
    question = %{
      questions: [
        %{
          id: "q",
          header: "H",
          question: "Which?",
          options: [%{label: "A", description: "a"}, %{label: "B", description: "b"}]
        }
      ]
    }

    model =
      Codex.Test.start!([
        tool_call("lookup", %{k: "v"}),
        "Nothing found",
        tool_call("request_user_input", question),
        "No answer"
      ])

    conn = connect!(model, experimental_api: true, answer_timeout_ms: 50)

    tool = %{
      type: :function,
      name: "lookup",
      description: "look up",
      input_schema: %{type: "object", properties: %{}}
    }

    thread = thread!(conn, cwd: model.workspace, approval_policy: :never, dynamic_tools: [tool])
    {:ok, %{"turn" => %{"id" => turn}}} = AppServer.turn_start(conn, thread, "Look")
    assert {told, %{"status" => "completed"}} = told(turn)
    assert [%{"status" => "failed", "success" => false}] = items(told, "dynamicToolCall")

    plan = %{mode: :plan, settings: %{model: "codex-test"}}

    {:ok, %{"turn" => %{"id" => turn}}} =
      AppServer.turn_start(conn, thread, "Ask", collaboration_mode: plan)

    assert {told, %{"status" => "completed"}} = told(turn)
    assert_received {:codex_request, _, "item/tool/requestUserInput", _}
    assert [%{"text" => "No answer"}] = items(told, "agentMessage")
  end

  test "experimental methods are errors with the server's message" do
    model = Codex.Test.start!()
    conn = connect!(model)

    for {method, params, call} <- [
          {"memory/reset", nil, &AppServer.memory_reset(&1)},
          {"thread/start", %{"dynamicTools" => []},
           &AppServer.thread_search(&1, search_term: "x")},
          {"thread/start", %{"historyMode" => "paginated"},
           &AppServer.thread_start(&1, history_mode: :paginated)}
        ] do
      assert {:error, {:experimental, [name]}} = call.(conn)

      assert {:error, %{"code" => -32600, "message" => message}} =
               AppServer.request(conn, method, params)

      if String.starts_with?(name, method),
        do: assert(message == "#{name} requires experimentalApi capability")

      assert message =~ "requires experimentalApi capability"
    end

    assert {:error, %{"code" => -32600, "message" => "Invalid request: unknown variant" <> _}} =
             AppServer.request(conn, "thread/clone", %{})
  end

  # Who follows a turn.
  defp followed(turn, told \\ []) do
    receive do
      {:codex_turn, _conn, _thread, ^turn, {:notification, method, _}} ->
        followed(turn, [method | told])

      {:codex_turn, _conn, _thread, ^turn, ended} ->
        {Enum.reverse(told), ended}
    after
      30_000 -> flunk("the turn does not end; told: #{inspect(told)}")
    end
  end

  defp start_followed!(conn, thread) do
    params = %{"threadId" => thread, "input" => [%{"type" => "text", "text" => "Go"}]}

    assert {:ok, %{"turn" => %{"id" => turn}}} =
             Connection.request(conn, "turn/start", params, follow: true)

    turn
  end

  test "a follower gets all of a turn, with its result" do
    conn = connect!(Codex.Test.start!(["Hello"]))
    {:ok, %{"thread" => %{"id" => thread}}} = AppServer.thread_start(conn)
    turn = start_followed!(conn, thread)

    assert {told, {:completed, summary}} = followed(turn)
    assert %{turn: %{"id" => ^turn, "status" => "completed"}, error: nil} = summary
    assert List.last(told) == "turn/completed"
    assert Enum.count(told, &(&1 == "item/completed")) == 2
  end

  test "a turn whose server dies is lost" do
    conn = connect!(Codex.Test.start!([shell("sleep 60"), "never"]))
    options = [approval_policy: :never, sandbox: :danger_full_access]
    thread = thread!(conn, options)
    turn = start_followed!(conn, thread)

    assert_receive {:codex_notification, "item/started",
                    %{"item" => %{"type" => "commandExecution"}}},
                   20_000

    {_, 0} = System.cmd("kill", ["-KILL", to_string(GenServer.call(conn, :os_pid))])

    assert {_, {:lost, {:app_server_down, %{signal: :kill}}, %{turn: %{"id" => ^turn}}}} =
             followed(turn)

    assert {:error, {:app_server_down, _}} = AppServer.model_list(conn)
  end
end
