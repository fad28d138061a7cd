defmodule Codex.AppServer.StateTest do
  use ExUnit.Case, async: true

  alias Codex.AppServer.{ServerRequest, State, Subscribers, Turns}
  alias Codex.JSONRPC.Message
  alias Codex.Protocol
  alias Codex.Turn.Failure

  doctest Codex.JSONRPC.Message
  doctest Codex.AppServer.Ids
  doctest Codex.AppServer.Subscribers
  doctest Codex.AppServer.ServerRequest

  @approval "item/commandExecution/requestApproval"
  @hello %{"userAgent" => "codex"}

  defp ready(opts \\ []) do
    {[{:send, %{"id" => 0}}], state} = opts |> State.new() |> State.run(:start, 0)
    {[{:send, %{"method" => "initialized"}}], state} = message(state, {:result, 0, @hello})
    state
  end

  # Without the marks of what waits for an answer, which a test of their own looks at.
  defp message(state, message, now \\ 0), do: unmarked(State.run(state, {:receive, message}, now))

  defp respond(state, from, id, answer),
    do: unmarked(State.run(state, {:respond, from, {:id, id}, answer}, 0))

  defp tick(state, now), do: unmarked(State.run(state, :tick, now))
  defp gone(state, who), do: unmarked(State.run(state, {:reader_down, who}, 0))

  defp skip(state, id, who) do
    token = with %{data: data} <- state.peer.received[id], do: data.request.token
    State.run(state, {:skip, token, who}, 0)
  end

  defp unmarked({actions, state}),
    do: {Enum.reject(actions, &(elem(&1, 0) in [:opened, :closed])), state}

  # A request and its id.
  defp request(state, from, opts \\ [], now \\ 0) do
    {method, opts} = Keyword.pop(opts, :method, "model/list")
    {params, opts} = Keyword.pop(opts, :params, %{})

    {[{:send, %{"id" => id}}], state} =
      State.run(state, {:request, from, method, params, opts}, now)

    {id, state}
  end

  defp subscribe(state, who, options \\ []) do
    {[{:reply, :us, :ok}], state} = State.run(state, {:subscribe, :us, who, options}, 0)
    state
  end

  describe "hello" do
    test "names the client and its capabilities, and is followed by initialized" do
      {actions, state} = State.run(State.new(), :start, 7)

      assert actions == [
               {:send,
                %{
                  "id" => 0,
                  "method" => "initialize",
                  "params" => %{
                    "clientInfo" => %{"name" => "codex_sdk", "version" => "0"},
                    "capabilities" => %{"experimentalApi" => false}
                  }
                }}
             ]

      assert State.deadline(state) == 10_007
      {[], state} = State.run(state, {:await, :a}, 0)
      {[], state} = State.run(state, {:await, :b}, 0)
      {actions, state} = message(state, {:result, 0, @hello})

      assert actions == [
               {:send, %{"method" => "initialized"}},
               {:reply, :a, {:ok, @hello}},
               {:reply, :b, {:ok, @hello}}
             ]

      assert State.deadline(state) == :infinity
      assert {[{:reply, :c, {:ok, @hello}}], _} = State.run(state, {:await, :c}, 0)

      options = [
        client_name: "n",
        client_version: "1",
        client_title: "T",
        experimental_api: true,
        opt_out: ["turn/diff/updated"]
      ]

      {[{:send, %{"params" => params}}], _} = options |> State.new() |> State.run(:start, 0)

      assert params == %{
               "clientInfo" => %{"name" => "n", "version" => "1", "title" => "T"},
               "capabilities" => %{
                 "experimentalApi" => true,
                 "optOutNotificationMethods" => ["turn/diff/updated"]
               }
             }

      # The protocol knows no title; the server ignores it.
      assert {:ok, _, _} =
               Protocol.params(
                 "initialize",
                 update_in(params["clientInfo"], &Map.delete(&1, "title"))
               )

      assert_raise KeyError, fn -> State.new(client: "n") end
    end

    test "a refusal, or none in time, is the end for everybody" do
      error = %{"code" => -32600, "message" => "no"}

      for {happens, reason} <- [
            {&message(&1, {:error, 0, error}), {:initialize_refused, error}},
            {&tick(&1, 50), {:init_timeout, 50}}
          ] do
        {_, state} = State.run(State.new(init_timeout_ms: 50), :start, 0)
        {[], state} = State.run(state, {:await, :a}, 0)
        {actions, state} = happens.(state)
        assert actions == [{:reply, :a, {:error, reason}}, {:stop, reason}]
        assert State.deadline(state) == :infinity

        assert {[{:reply, :b, {:error, ^reason}}], _} = State.run(state, {:await, :b}, 0)

        assert {[{:reply, :c, {:error, ^reason}}], _} =
                 State.run(state, {:request, :c, "model/list", %{}, []}, 60)

        assert {[], _} = message(state, {:result, 0, @hello})
        assert {[], _} = State.run(state, {:down, %{}}, 0)
      end
    end

    test "requests before it are refused, notifications and requests of the server are heard" do
      {_, state} = State.run(State.new(), :start, 0)

      assert {[{:reply, :a, {:error, :not_ready}}], _} =
               State.run(state, {:request, :a, "model/list", %{}, []}, 0)

      assert {[{:reply, :a, {:error, :not_ready}}], _} =
               State.run(State.new(), {:request, :a, "x", nil, []}, 0)

      state = subscribe(state, :s)

      assert {[{:notify, :s, {:codex_notification, "configWarning", %{}}}], _} =
               message(state, {:notification, "configWarning", %{}})

      assert {[{:notify, :s, {:codex_request, 0, @approval, %{}}}], _} =
               message(state, {:request, 0, @approval, %{}})
    end
  end

  describe "requests" do
    test "have ids of their own; the answers may come in any order, and twice" do
      state = ready()
      {one, state} = request(state, :a)
      {two, state} = request(state, :b)
      assert [one, two] == [1, 2]

      {[{:reply, :b, {:ok, "2"}}], state} = message(state, {:result, two, "2"})
      {[{:note, {:unexpected_answer, :late, 2}}], state} = message(state, {:result, two, "again"})

      {[{:reply, :a, {:error, %{"code" => 1}}}], state} =
        message(state, {:error, one, %{"code" => 1}})

      {[{:note, {:unexpected_answer, :never_sent, 3}}], state} = message(state, {:result, 3, nil})

      {[{:note, {:unexpected_answer, :never_sent, "1"}}], state} =
        message(state, {:error, "1", %{}})

      {[{:note, {:unexpected_answer, :never_sent, -1}}], state} =
        message(state, {:result, -1, nil})

      assert State.deadline(state) == :infinity
    end

    test "omit empty parameters" do
      {[{:send, sent}], _} = State.run(ready(), {:request, :a, "account/logout", nil, []}, 0)
      assert sent == %{"id" => 1, "method" => "account/logout"}
    end

    test "without an answer in time return a timeout, and no other request does" do
      state = ready()
      {slow, state} = request(state, :slow, timeout_ms: 100)
      {_, state} = request(state, :never, timeout_ms: :infinity)
      {_, state} = request(state, :usual, [], 50)
      assert State.deadline(state) == 100

      assert {[], ^state} = tick(state, 99)
      {actions, state} = tick(state, 100)
      assert actions == [{:reply, :slow, {:error, {:timeout, "model/list", 100}}}]

      assert {[{:note, {:unexpected_answer, :late, ^slow}}], _} =
               message(state, {:result, slow, 1})

      assert State.deadline(state) == 30_050
      {[{:reply, :usual, {:error, {:timeout, _, 30_000}}}], state} = tick(state, 99_999)
      assert State.deadline(state) == :infinity
    end

    test "that need the experimental protocol are refused without it, by name" do
      experimental = [experimental: ["thread/start.dynamicTools"]]

      assert {[{:reply, :a, {:error, {:experimental, ["thread/start.dynamicTools"]}}}], _} =
               State.run(ready(), {:request, :a, "thread/start", %{}, experimental}, 0)

      assert {[{:send, _}], _} =
               State.run(
                 ready(experimental_api: true),
                 {:request, :a, "thread/start", %{}, experimental},
                 0
               )
    end

    test "are sent again while the server is overloaded, later each time, with a new id" do
      state = ready(retries: 3, retry_ms: 100)
      error = %{"code" => -32001, "message" => "Server overloaded; retry later."}
      {id, state} = request(state, :a, params: %{"limit" => 1})

      {last, state, now} =
        Enum.reduce(1..3, {id, state, 0}, fn attempt, {id, state, now} ->
          {actions, state} = message(state, {:error, id, error}, now)
          assert actions == [{:note, {:overloaded, "model/list", attempt}}]
          at = State.deadline(state)
          assert (at - now) in (100 * 2 ** (attempt - 1))..(100 * 2 ** (attempt - 1) + 100)
          assert {[], ^state} = tick(state, at - 1)
          {[{:send, sent}], state} = tick(state, at)
          assert %{"method" => "model/list", "params" => %{"limit" => 1}, "id" => next} = sent
          assert next > id
          {next, state, at}
        end)

      assert {[{:reply, :a, {:error, ^error}}], state} =
               message(state, {:error, last, error}, now)

      assert State.deadline(state) == :infinity
    end

    test "are not sent again when their time would be over" do
      error = %{"code" => -32001, "message" => "Server overloaded; retry later."}
      {id, state} = request(ready(), :a, timeout_ms: 120)
      assert {[{:reply, :a, {:error, ^error}}], _} = message(state, {:error, id, error}, 50)
    end

    test "over the limit of pending requests are errors, whatever their ids are" do
      state = ready(max_requests: 2)
      {one, state} = request(state, :a)
      {_, state} = request(state, :b)

      {[{:reply, :c, {:error, {:overflow, :requests, 2}}}], state} =
        State.run(state, {:request, :c, "model/list", %{}, [follow: :c]}, 0)

      {_, state} = message(state, {:result, one, nil})
      assert {3, _state} = request(state, :c)

      {_, state} = State.run(State.new(max_requests: 1), :start, 0)
      {[], state} = State.run(state, {:await, :a}, 0)

      assert {[{:reply, :b, {:error, {:overflow, :requests, 1}}}], _} =
               State.run(state, {:await, :b}, 0)
    end

    test "show no parameters when the state is inspected" do
      {_, state} =
        request(ready(), :a, method: "account/login/start", params: %{"apiKey" => "sk-marked"})

      assert inspect(state) =~ ~s("account/login/start" => 1)
      refute inspect(state, limit: :infinity, structs: true) =~ "marked"
    end
  end

  describe "lines" do
    test "that are not messages are reported, and do not end the connection" do
      state = ready()

      for line <- [
            "nope",
            "7",
            "[]",
            "{}",
            ~s({"id":1.5,"result":1}),
            ~s({"method":7}),
            ~s({"id":null,"method":"x"}),
            ~s({"method":"x","params":[1]}),
            ~s({"type":"turn.started"}),
            ~s({"id":1})
          ] do
        assert [event] = Codex.JSONL.decode(line <> "\n")
        assert {:malformed, reason} = message = Message.from_line(event)
        assert message(state, message) == {[{:note, {:malformed, reason}}], state}
      end

      # An app-server sends no batches.
      [event] = Codex.JSONL.decode(~s([{"id":1,"result":1}]\n))
      assert {[{:note, {:malformed, _}}], ^state} = message(state, Message.from_line(event))
    end

    test "over the byte limit end the connection, because their content is missing" do
      {id, state} = request(ready(), :a)
      [event] = Codex.JSONL.decode(String.duplicate("x", 100) <> "\n", max_line_bytes: 10)
      {actions, state} = message(state, Message.from_line(event))
      reason = {:overflow, :line, 100, 268_435_456}
      assert actions == [{:reply, :a, {:error, reason}}, {:stop, reason}]
      assert {[], _} = message(state, {:result, id, 1})
    end

    test "over the limit of values are the end, too" do
      {_id, state} = request(ready(), :a)
      [event] = Codex.JSONL.decode("[1,[],2]\n", max_line_nodes: 3)
      {actions, _state} = message(state, Message.from_line(event))
      reason = {:overflow, :nodes, 3}
      assert actions == [{:reply, :a, {:error, reason}}, {:stop, reason}]
      error = Failure.error(reason)
      assert error.kind == :overflow
      assert error.message =~ "over 3 values and keys (max_message_nodes)"
      error = Failure.error({:overflow, :line, 9, 8})
      assert error.message =~ "9 bytes, over the limit of 8 bytes (max_message_bytes"
    end

    test "are classified by their members" do
      for {line, message} <- [
            {~s({"id":0,"method":"m","params":{"a":1}}), {:request, 0, "m", %{"a" => 1}}},
            {~s({"id":"s","method":"m"}), {:request, "s", "m", %{}}},
            {~s({"method":"m","params":null,"emittedAtMs":1}), {:notification, "m", %{}}},
            {~s({"id":1,"result":null}), {:result, 1, nil}},
            {~s({"id":1,"error":{"code":1},"result":null}), {:error, 1, %{"code" => 1}}},
            {~s({"id":1,"error":null,"result":{}}), {:result, 1, %{}}},
            {~s({"id":1,"error":null}), {:error, 1, %{"message" => "nil"}}},
            {~s({"id":1,"error":"x"}), {:error, 1, %{"message" => ~s("x")}}}
          ] do
        [event] = Codex.JSONL.decode(line)
        assert Message.from_line(event) == message
      end
    end
  end

  test "a message that could not be sent is an error of its request" do
    {id, state} = request(ready(), :a)

    error = Codex.OptionError.invalid([], "x", "text")

    assert {[{:reply, :a, {:error, ^error}}], state} = State.run(state, {:refuse, id, error}, 0)
    assert {[], ^state} = State.run(state, {:refuse, id, error}, 0)
  end

  describe "subscribers" do
    @told {:notification, "turn/started", %{"threadId" => "t", "turn" => %{"id" => "u"}}}

    test "get messages that pass their filter; a second filter replaces the first" do
      state =
        ready()
        |> subscribe(:all)
        |> subscribe(:thread, thread_id: "t")
        |> subscribe(:other, thread_id: "x")
        |> subscribe(:method, %{methods: ["turn/started"]})
        |> subscribe(:both, methods: ["turn/started"], thread_id: "x")

      {actions, state} = message(state, @told)
      assert Enum.sort(for {:notify, who, _} <- actions, do: who) == [:all, :method, :thread]

      # What is about no thread does not pass a filter with one.
      {actions, state} = message(state, {:notification, "configWarning", %{}})
      assert [{:notify, :all, {:codex_notification, "configWarning", %{}}}] = actions

      # A thread in its own map is one.
      {actions, state} =
        message(state, {:notification, "thread/started", %{"thread" => %{"id" => "x"}}})

      assert Enum.sort(for {:notify, who, _} <- actions, do: who) == [:all, :other]

      state = subscribe(state, :all, methods: [])
      {[], state} = State.run(state, {:unsubscribe, :thread}, 0)
      {[], state} = gone(state, :method)
      assert {[], _} = message(state, @told)
    end

    test "with an invalid filter or over the limit are errors" do
      state = ready(max_subscribers: 1)

      for {options, reason} <- [
            {[method: "x"],
             %Codex.OptionError{reason: :unknown, path: [:method], nearest: :methods}},
            {[methods: "x"],
             %Codex.OptionError{path: [:methods], value: "x", expected: "a list of strings"}},
            {[methods: [:x]],
             %Codex.OptionError{path: [:methods], value: [:x], expected: "a list of strings"}},
            {[thread_id: :x],
             %Codex.OptionError{path: [:thread_id], value: :x, expected: "a string"}},
            {7, %Codex.OptionError{reason: :not_options, value: 7}}
          ] do
        assert {[{:reply, :us, {:error, error}}], ^state} =
                 State.run(state, {:subscribe, :us, :s, options}, 0)

        assert Codex.OptionErrors.like?(error, reason)
      end

      state = subscribe(state, :s)

      assert {[{:reply, :us, {:error, {:overflow, :subscribers, 1}}}], _} =
               State.run(state, {:subscribe, :us, :more, []}, 0)

      subscribe(state, :s, thread_id: "t")
    end
  end

  describe "requests of the server" do
    test "is declined immediately without a subscriber" do
      {actions, state} = message(ready(), {:request, 0, @approval, %{}})

      assert actions == [
               {:send, %{"id" => 0, "result" => %{"decision" => "decline"}}},
               {:note, {:denied, :nobody, 0, @approval}}
             ]

      state = subscribe(state, :s, thread_id: "t")
      {actions, _} = message(state, {:request, 1, "currentTime/read", %{"threadId" => "x"}})
      assert [{:send, %{"id" => 1, "error" => %{"code" => -32601}}}, {:note, _}] = actions
    end

    test "is answered once, by whom it may be, in any spelling" do
      state = subscribe(ready(), :s)
      {[{:notify, :s, _}], state} = message(state, {:request, 0, @approval, %{}})
      {[{:notify, :s, _}], state} = message(state, {:request, "0", @approval, %{}})

      {actions, state} = respond(state, :a, 0, {:ok, %{decision: :accept_for_session}})

      assert actions == [
               {:send, %{"id" => 0, "result" => %{"decision" => "acceptForSession"}}},
               {:reply, :a, :ok}
             ]

      closed = {:error, {:request_closed, 0}}

      assert {[{:reply, :b, ^closed}], _} = respond(state, :b, 0, {:ok, %{decision: :accept}})

      error = %{"code" => -32000, "message" => "busy"}
      {actions, state} = respond(state, :a, "0", {:error, error})
      assert actions == [{:send, %{"id" => "0", "error" => error}}, {:reply, :a, :ok}]
      assert State.deadline(state) == :infinity

      assert {[{:reply, :b, {:error, {:request_closed, 9}}}], _} =
               respond(state, :b, 9, {:ok, %{}})
    end

    test "stays open after an invalid answer" do
      state = subscribe(ready(), :s)
      {_, state} = message(state, {:request, 0, @approval, %{}})

      for {answer, reason} <- [
            {{:ok, %{}}, %Codex.OptionError{reason: :missing, path: [:decision]}},
            {{:ok, %{decision: :maybe}},
             %Codex.OptionError{
               path: [:decision],
               value: :maybe,
               expected: ~S(one of "accept", "acceptForSession", "decline", "cancel" or a map)
             }},
            {{:ok, [:accept]}, %Codex.OptionError{reason: :not_options, value: :accept}},
            {{:error, "no"}, %Codex.OptionError{path: [:error], value: "no"}},
            {{:error, %{"code" => 1, "message" => "m", "data" => {1}}},
             %Codex.OptionError{
               path: [:result],
               value: %{"code" => 1, "message" => "m", "data" => {1}}
             }}
          ] do
        assert {[{:reply, :a, {:error, error}}], ^state} = respond(state, :a, 0, answer)
        assert Codex.OptionErrors.like?(error, reason)
      end

      # Of a kind that is not known, anything that JSON can say.
      {_, state} = message(state, {:request, 1, "new/thing", %{}})

      assert {[{:reply, :a, {:error, %Codex.OptionError{path: [:result]}}}], _} =
               respond(state, :a, 1, {:ok, %{a: {1}}})

      assert {[{:send, %{"id" => 1, "result" => %{a: 1}}}, _], _} =
               respond(state, :a, 1, {:ok, %{a: 1}})
    end

    test "an amendment may be written as everything else is" do
      state = subscribe(ready(), :s)
      {_, state} = message(state, {:request, 0, @approval, %{}})

      answer = %{
        decision: %{"acceptWithExecpolicyAmendment" => %{"execpolicyAmendment" => ["echo"]}}
      }

      {[{:send, %{"result" => result}}, _], _} = respond(state, :a, 0, {:ok, answer})

      assert result == %{
               "decision" => %{
                 "acceptWithExecpolicyAmendment" => %{"execpolicy_amendment" => ["echo"]}
               }
             }
    end

    test "gets the no of its kind when its time is over" do
      state = subscribe(ready(answer_timeout_ms: 100), :s)
      {_, state} = message(state, {:request, 0, "item/tool/call", %{}}, 5)
      assert State.deadline(state) == 105
      {actions, state} = tick(state, 105)

      assert [
               {:send, %{"id" => 0, "result" => %{"success" => false}}},
               {:note, {:denied, :expired, 0, "item/tool/call"}}
             ] = actions

      assert {[{:reply, :a, {:error, {:request_closed, 0}}}], _} =
               respond(state, :a, 0, {:ok, %{success: true, content_items: []}})

      state = subscribe(ready(answer_timeout_ms: :infinity), :s)
      {_, state} = message(state, {:request, 0, "item/tool/call", %{}}, 5)
      assert State.deadline(state) == :infinity
    end

    test "is marked when it begins to wait, and once when it ends, for whatever reason" do
      state = subscribe(ready(answer_timeout_ms: 100), :s)
      ask = fn state, id -> State.run(state, {:receive, {:request, id, @approval, %{}}}, 5) end

      ended = fn {actions, state}, id ->
        assert state.peer.received == %{}
        assert [{:closed, %{id: ^id}, why, ms}] = Enum.filter(actions, &(elem(&1, 0) == :closed))
        assert ms in 0..100
        {why, state}
      end

      {[{:opened, request} | _], state} = ask.(state, 0)
      assert %{id: 0, method: @approval, params: %{}} = request
      assert DateTime.to_unix(request.expires_at, :millisecond) == 105

      {{:answered, {:ok, %{"decision" => "accept"}}}, state} =
        ended.(State.run(state, {:respond, :a, {:id, 0}, {:answer, :allow}}, 6), 0)

      {_, state} = ask.(state, 1)
      taken_back = {:notification, "serverRequest/resolved", %{"requestId" => 1}}
      {:withdrawn, state} = ended.(State.run(state, {:receive, taken_back}, 6), 1)

      {_, state} = ask.(state, 2)
      {:expired, state} = ended.(State.run(state, :tick, 105), 2)

      {_, asked} = ask.(state, 3)
      {:nobody, _} = ended.(State.run(asked, {:reader_down, :s}, 6), 3)
      {:down, _} = ended.(State.run(asked, {:down, %{}}, 6), 3)

      # Of two who were asked, the second may still answer.
      {_, state} = state |> subscribe(:t) |> ask.(4)
      {actions, state} = State.run(state, {:reader_down, :s}, 6)
      assert Enum.filter(actions, &(elem(&1, 0) in [:send, :closed])) == []
      {:nobody, _} = ended.(State.run(state, {:reader_down, :t}, 6), 4)
    end

    test "with invalid parameters gets an error without asking anyone" do
      state = subscribe(ready(), :s)
      asked = Message.from_term(%{"id" => 7, "method" => @approval, "params" => [1]})
      assert asked == {:malformed_request, 7}

      assert {[{:send, %{"id" => 7, "error" => %{"code" => -32_602}}}, _], ^state} =
               message(state, asked)

      told = Message.from_term(%{"method" => "turn/started", "params" => [1]})
      assert told == {:malformed, :not_a_message}
    end

    test "is a no when all but those who will not answer are gone" do
      {id, state} = started()
      {[], state} = answer(state, id)
      about = %{"threadId" => "t", "turnId" => "u"}
      ask = &State.run(&1, {:receive, {:request, 0, @approval, about}}, 0)

      {_, asked} = state |> subscribe(:s) |> ask.()
      {[], asked} = skip(asked, 0, :f)
      {[], asked} = skip(asked, nil, :f)
      assert {[{:send, %{"id" => 0}}, {:note, {:denied, :nobody, 0, _}} | _], _} = gone(asked, :s)

      # As a subscriber, a reader may answer all the same.
      {_, asked} = state |> subscribe(:f) |> ask.()
      assert {[], %{peer: %{received: %{0 => _}}}} = skip(asked, 0, :f)

      {_, asked} = ask.(state)
      assert {[{:send, _} | _], %{peer: %{received: none}}} = skip(asked, 0, :f)
      assert none == %{}
    end

    test "is closed when the server takes it back" do
      state = subscribe(ready(), :s)
      {_, state} = message(state, {:request, 0, @approval, %{}})
      resolved = {:notification, "serverRequest/resolved", %{"threadId" => "t", "requestId" => 0}}
      {actions, state} = message(state, resolved)
      assert [{:note, {:resolved, 0, @approval}}, {:notify, :s, _}] = actions
      assert State.deadline(state) == :infinity

      assert {[{:reply, :a, {:error, {:request_closed, 0}}}], _} =
               respond(state, :a, 0, {:ok, %{decision: :accept}})

      # As it does after each answer of ours.
      assert {[{:notify, :s, _}], _} = message(state, resolved)
    end

    test "is denied beyond the most that may wait; an id that is open is not asked twice" do
      state = subscribe(ready(max_asked: 1), :s)
      {_, state} = message(state, {:request, 0, @approval, %{}})

      assert {[{:note, {:duplicate_request, 0, @approval}}], _} =
               message(state, {:request, 0, @approval, %{}})

      {actions, _} = message(state, {:request, 1, @approval, %{}})

      assert [
               {:send, %{"id" => 1, "result" => %{"decision" => "decline"}}},
               {:note, {:denied, {:overflow, 1}, 1, _}}
             ] = actions
    end

    test "every kind that the protocol has is denied with an answer that it takes" do
      for method <- Protocol.server_requests() do
        {:ok, %{result: type}} = Protocol.method(method)

        case ServerRequest.decline(method) do
          {:ok, result} -> assert Protocol.check(type, result) == {:ok, result}
          {:error, error} -> assert %{"code" => -32601, "message" => _} = error
        end
      end

      # Kinds with a word for no have one.
      kinds =
        for method <- Protocol.server_requests(),
            match?({:error, _}, ServerRequest.decline(method)),
            do: method

      assert kinds == ~w(account/chatgptAuthTokens/refresh attestation/generate currentTime/read)
    end
  end

  describe "turns" do
    @turn %{"threadId" => "t", "turnId" => "u"}

    defp turn(state, method, params \\ %{}),
      do: message(state, {:notification, method, Map.merge(@turn, params)})

    defp started(opts \\ []) do
      {id, state} =
        request(ready(opts), :a, method: "turn/start", params: %{"threadId" => "t"}, follow: :f)

      {id, state}
    end

    defp answer(state, id) do
      {[{:reply, :a, {:ok, _}} | turns], state} =
        message(state, {:result, id, %{"turn" => %{"id" => "u"}}})

      {turns, state}
    end

    test "are followed from the response to their end, with their result" do
      {id, state} = started()
      {[], state} = answer(state, id)

      item = %{"item" => %{"id" => "i", "type" => "commandExecution"}}

      {[{:turn, :f, "t", "u", {:notification, "item/started", _}}], state} =
        turn(state, "item/started", item)

      {_, state} = turn(state, "item/started", %{"item" => %{"id" => "j", "type" => "plan"}})
      {_, state} = turn(state, "item/completed", item)
      {_, state} = turn(state, "thread/tokenUsage/updated", %{"tokenUsage" => %{"total" => 1}})
      {_, state} = turn(state, "error", %{"error" => %{"message" => "m"}, "willRetry" => true})

      # Of other turns, nothing.
      {[], state} =
        message(state, {:notification, "item/completed", %{"threadId" => "t", "turnId" => "v"}})

      {[], state} =
        message(state, {:notification, "item/completed", %{"threadId" => "x", "turnId" => "u"}})

      {actions, state} =
        message(
          state,
          {:notification, "turn/completed",
           %{"threadId" => "t", "turn" => %{"id" => "u", "status" => "completed"}}}
        )

      assert [
               {:turn, :f, "t", "u", {:notification, "turn/completed", _}},
               {:turn, :f, "t", "u", {:completed, summary}}
             ] = actions

      assert summary == %{
               turn: %{"id" => "u", "status" => "completed"},
               error: %{"error" => %{"message" => "m"}, "willRetry" => true}
             }

      assert {[], _} = turn(state, "item/completed", item)
    end

    test "that begin before the response are delivered completely, in order" do
      {id, state} = started()
      {[], state} = turn(state, "item/started", %{"item" => %{"id" => "i"}})

      {[], state} =
        message(state, {:notification, "item/started", %{"threadId" => "t", "turnId" => "other"}})

      {[], state} = turn(state, "item/completed", %{"item" => %{"id" => "i"}})
      {turns, state} = answer(state, id)

      assert for({:turn, :f, "t", "u", {:notification, method, _}} <- turns, do: method) ==
               ~w(item/started item/completed)

      ended = {:notification, "turn/completed", %{"threadId" => "t", "turn" => %{"id" => "u"}}}

      assert {[_, {:turn, :f, "t", "u", {:completed, %{turn: %{"id" => "u"}}}}], _} =
               message(state, ended)

      # Even where that is all there is.
      {id, state} = started()

      {[], state} =
        message(
          state,
          {:notification, "turn/completed", %{"threadId" => "t", "turn" => %{"id" => "u"}}}
        )

      {turns, state} = answer(state, id)

      assert [
               {:turn, :f, "t", "u", {:notification, "turn/completed", _}},
               {:turn, :f, "t", "u", {:completed, %{turn: %{"id" => "u"}}}}
             ] = turns

      assert state.turns.running == %{}
    end

    test "too many messages before the response are an overflow" do
      {id, state} = started()

      state =
        Enum.reduce(1..300, state, fn _, state ->
          {[], state} = turn(state, "x")
          state
        end)

      {turns, state} = answer(state, id)

      # Without its reader it does not go on.
      assert [
               {:turn, :f, "t", "u", {:lost, {:overflow, :notifications, 256}, _}},
               {:send, %{"method" => "turn/interrupt", "params" => %{"turnId" => "u"}}}
             ] = turns

      assert {[], _} = turn(state, "x")
    end

    test "that are not started, or not in time, have no follower" do
      for happens <- [
            &message(&1, {:error, &2, %{"code" => 1}}),
            &message(&1, {:result, &2, %{}})
          ] do
        {id, state} = started()
        {_, state} = happens.(state, id)
        assert state.turns == Turns.new(256)
      end

      {_id, state} = started()
      {_, state} = tick(state, 30_000)
      assert Turns.readers(state.turns) == [] and Turns.busy(state.turns, "t") == nil
    end

    test "are followed when their request was sent again" do
      {id, state} = started()
      {_, state} = message(state, {:error, id, %{"code" => -32001}})
      {[{:send, %{"id" => again}}], state} = tick(state, State.deadline(state))
      {[], state} = answer(state, again)
      assert {[{:turn, :f, "t", "u", _}], _} = turn(state, "x")
    end

    test "their followers get the server's requests about them" do
      {id, state} = started()
      {[], state} = answer(state, id)
      state = subscribe(state, :f)
      {actions, state} = message(state, {:request, 0, @approval, @turn})

      # As a subscriber, and as who follows the turn: neither takes the other's.
      assert [
               {:notify, :f, {:codex_request, 0, @approval, @turn}},
               {:turn, :f, "t", "u", {:request, request, true}}
             ] = actions

      assert %{id: 0, method: @approval, params: @turn} = request

      {[], state} = State.run(state, {:unsubscribe, :f}, 0)

      assert {[{:turn, :f, "t", "u", {:request, %{id: 1, token: token}, false}}], asked} =
               message(state, {:request, 1, @approval, @turn})

      # And that it is answered, by whomever.
      assert {[{:send, _}, {:reply, :x, :ok}, {:turn, :f, "t", "u", {:answered, ^token}}], _} =
               respond(asked, :x, 1, {:ok, decision: :accept})

      # Of another turn, nobody.
      assert {[{:send, _}, {:note, {:denied, :nobody, 2, _}}], _} =
               message(state, {:request, 2, @approval, %{@turn | "turnId" => "v"}})
    end

    test "with an owner are alone in their thread, and end with the owner" do
      opts = [method: "turn/start", params: %{"threadId" => "t"}, follow: :f]
      {id, state} = request(ready(), :a, opts)

      again = fn state ->
        State.run(state, {:request, :b, "turn/start", opts[:params], opts}, 0)
      end

      starting = {:turn_running, "t", :starting}
      assert {[{:reply, :b, {:error, ^starting}}], ^state} = again.(state)
      # A compaction would interrupt the turn, also before the server has named it.
      compact = {:request, :b, "thread/compact/start", opts[:params], [alone: true]}
      assert {[{:reply, :b, {:error, ^starting}}], ^state} = State.run(state, compact, 0)

      {[{:reply, :a, {:ok, _}}], state} =
        message(state, {:result, id, %{"turn" => %{"id" => "u"}}})

      running = {:turn_running, "t", "u"}
      assert {[{:reply, :b, {:error, ^running}}], ^state} = again.(state)
      # Whoever only follows it, and asks without that, may steer.
      assert {[{:send, _}], _} =
               State.run(state, {:request, :b, "turn/start", opts[:params], []}, 0)

      begun = %{"threadId" => "t", "turn" => %{"id" => "u"}}
      {[_], state} = message(state, {:notification, "turn/started", begun})
      assert {[], ^state} = gone(state, :g)

      interrupt = %{"threadId" => "t", "turnId" => "u"}

      assert {[{:send, %{"id" => id, "method" => "turn/interrupt", "params" => ^interrupt}}],
              state} = gone(state, :f)

      # Nobody waits for the answer.
      assert {[], state} = message(state, {:result, id, %{}})
      ended = %{"threadId" => "t", "turn" => %{"id" => "u", "status" => "interrupted"}}
      assert {[], _} = message(state, {:notification, "turn/completed", ended})
    end

    test "whose owner goes before they have an id are interrupted when they have one" do
      opts = [method: "turn/start", params: %{"threadId" => "t"}, follow: :f]
      {id, state} = request(ready(), :a, opts)
      {[], state} = gone(state, :f)

      {[{:reply, :a, {:ok, _}}], state} =
        message(state, {:result, id, %{"turn" => %{"id" => "u"}}})

      assert state.turns.starting == %{} and state.turns.running == %{}

      # Not before it has begun: the server would refuse.
      begun = {:notification, "turn/started", %{"threadId" => "t", "turn" => %{"id" => "u"}}}
      assert {[{:send, %{"method" => "turn/interrupt"}}], state} = message(state, begun)
      assert {[], _} = message(state, begun)
    end

    test "whose owner goes before they have begun are interrupted then" do
      opts = [method: "turn/start", params: %{"threadId" => "t"}, follow: :f]
      {id, state} = request(ready(), :a, opts)
      {[_], state} = message(state, {:result, id, %{"turn" => %{"id" => "u"}}})
      {[], state} = gone(state, :f)
      begun = {:notification, "turn/started", %{"threadId" => "t", "turn" => %{"id" => "u"}}}
      assert {[{:send, %{"method" => "turn/interrupt"}}], _} = message(state, begun)
      # One that ended without a beginning needs nothing.
      ended = put_elem(begun, 1, "turn/completed")
      assert {[], %{turns: %{orphans: []}}} = message(state, ended)
      # Nor does one of a thread that was closed.
      closed = {:notification, "thread/closed", %{"threadId" => "t"}}
      assert {[], %{turns: %{orphans: []}}} = message(state, closed)
    end

    test "are left by their reader alone" do
      {id, state} = started()
      {[], state} = answer(state, id)
      assert {[], ^state} = State.run(state, {:unfollow, :g, "t", "u"}, 0)
      {[], state} = State.run(state, {:unfollow, :f, "t", "u"}, 0)
      assert state.turns == Turns.new(256)
      assert {[], ^state} = State.run(state, {:unfollow, :f, "t", "u"}, 0)
    end

    test "are interrupted when they begin if their reader does not wait for that" do
      begun = {:notification, "turn/started", %{"threadId" => "t", "turn" => %{"id" => "u"}}}
      abandon = &State.run(&1, {:abandon_start, :f, "t"}, 0)

      {id, state} = started()
      {[], state} = abandon.(state)
      {[], state} = answer(state, id)
      assert {[{:send, %{"method" => "turn/interrupt"}}], _} = message(state, begun)

      # The answer crossed the call.
      {id, state} = started()
      {[], state} = answer(state, id)
      {[], state} = abandon.(state)
      assert {[{:send, %{"method" => "turn/interrupt"}}], _} = message(state, begun)
    end

    test "ask only those who follow them: when these are gone, the answer is no" do
      {id, state} = started()
      {[], state} = answer(state, id)
      {[{:turn, :f, _, _, _}], state} = message(state, {:request, 7, @approval, @turn})
      {actions, state} = gone(state, :f)

      assert [
               {:send, %{"id" => 7, "result" => %{"decision" => "decline"}}},
               {:note, {:denied, :nobody, 7, @approval}}
             ] = actions

      assert state.peer.received == %{} and State.deadline(state) == :infinity
    end

    test "end with their thread" do
      {id, state} = started()
      {[], state} = answer(state, id)
      {[], state} = message(state, {:notification, "thread/closed", %{"threadId" => "x"}})
      {actions, state} = message(state, {:notification, "thread/closed", %{"threadId" => "t"}})
      assert [{:turn, :f, "t", "u", {:lost, "thread/closed", %{turn: nil}}}] = actions
      assert state.turns.running == %{}
    end

    test "are lost beyond the most that are followed, and when the server is gone" do
      {id, state} = started(max_turns: 1)
      {[], state} = answer(state, id)
      opts = [method: "turn/start", params: %{"threadId" => "x"}, follow: :g]
      {other, full} = request(state, :b, opts)

      {actions, full} = message(full, {:result, other, %{"turn" => %{"id" => "v"}}})

      assert [{:reply, :b, {:ok, _}}, {:turn, :g, "x", "v", {:lost, {:overflow, :turns, 1}, _}}] =
               actions

      begun = {:notification, "turn/started", %{"threadId" => "x", "turn" => %{"id" => "v"}}}
      assert {[{:send, %{"method" => "turn/interrupt"}}], _} = message(full, begun)

      {_, state} = request(state, :b)
      info = %{exit_status: 1, stderr: "gone"}
      {actions, state} = State.run(state, {:down, info}, 0)
      down = {:app_server_down, info}

      assert [{:reply, :b, {:error, ^down}}, {:turn, :f, "t", "u", {:lost, ^down, summary}}] =
               actions

      assert summary == %{turn: nil, error: nil}
      assert {[], _} = tick(state, 1_000_000)
    end
  end

  test "filters are options" do
    assert Subscribers.filter(nil) == {:ok, %{methods: nil, thread_id: nil, as: :wire}}
    assert Subscribers.filter(thread_id: nil, methods: nil) == Subscribers.filter(nil)
  end
end
