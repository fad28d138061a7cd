defmodule Codex.ErrorTest do
  use ExUnit.Case, async: true
  doctest Codex.Error
  doctest Codex.Error.Words
  doctest Codex.TransportError
  doctest Codex.ApprovalError
  doctest Codex.GuardrailError

  alias Codex.{Error, Events, Items, TransportError, Turn}
  alias Codex.Error.{Kinds, Redact}

  describe "reasons" do
    # None of these leaves the package.
    @inside [:bad_name, :held, :syntax, :not_started, :enoent, nil] ++
              [
                :bad_value,
                :cause,
                :locked,
                :no_home,
                :unavailable,
                :already_registered,
                :nodes,
                :too_large
              ]

    test "the body of a refused request is read" do
      body = %{"error" => %{"message" => "slow down", "code" => "rate_limit_exceeded"}}
      assert %{kind: :rate_limit, message: "slow down"} = Codex.Error.normalize(body)
    end

    test "of all source files and of the types of public functions have words and a kind" do
      reasons = Codex.ReasonsOf.source() ++ Codex.ReasonsOf.specs()
      assert length(Enum.uniq_by(reasons, &elem(&1, 1))) > 100

      for {place, reason} <- reasons,
          tag = if(is_tuple(reason), do: elem(reason, 0), else: reason),
          is_atom(tag) and tag not in @inside do
        for term <- [reason, {:error, reason}] do
          error = Error.normalize(term)
          refute error.message =~ inspect(reason), "#{place}: #{inspect(reason)} has no words"
          # These have the kind of their content.
          holder? = tag in [:turn_failed, :exec_failed, :review_unreadable, :not_started, :lost]

          assert holder? or error.kind != :unknown, "#{place}: #{inspect(reason)} has no kind"
        end
      end
    end

    test "are short, whatever they hold, and printable" do
      long = String.duplicate("a\e[31m", 100_000)

      for reason <- [
            {:invalid_input, long},
            Codex.OptionError.invalid(:x, long, "a string"),
            Codex.OptionError.invalid([long], List.duplicate(long, 100), "a string"),
            Codex.OptionError.new(:unknown, [long], []),
            {:turn_running, long, 1},
            Codex.OptionError.not_options(List.duplicate(long, 100)),
            {:weather, long},
            {:app_server_down, %{reason: {:closed, 1000, "a\e[31mb"}}},
            {:app_server_down, %{exit_status: 1, stderr: "a\e[31mb"}}
          ] do
        error = Error.normalize(reason)
        assert Codex.Text.printable(error.message) == error.message
        assert byte_size(error.message) < 2_000
      end
    end

    test "that hold an exception have its kind" do
      error = Error.normalize({:not_started, %Codex.Subprocess.Error{reason: :eacces}})
      assert error.kind == :cli_not_found
      assert error.message == "the CLI could not be started: the program may not be executed"
      error = Error.normalize({:lost, %Codex.Subprocess.Error{reason: :unkillable}})
      assert {error.kind, error.retryable?} == {:crashed, false}
    end
  end

  describe "an error" do
    test "is inspected in a few lines: its kind first, what is known, and no data" do
      error =
        Error.normalize(%TransportError{
          reason_code: :crashed,
          message: String.duplicate("word ", 1_000),
          exit_status: 3,
          stderr: "private",
          result: %{events: Enum.to_list(1..1_000)}
        })

      text = inspect(error)
      assert text =~ ~r/^#Codex.Error<\s*kind: :crashed,\s+message: "word word/
      assert text =~ ~r/retryable\?: false,\s+exit_status: 3\s*>$/
      refute text =~ ~r/nil|private|events/
      assert length(String.split(text, "\n")) <= 6 and String.length(text) < 500

      assert inspect(Error.new(:quota, "pay first")) ==
               ~S(#Codex.Error<kind: :quota, message: "pay first", retryable?: false>)

      assert inspect(Error.rate_limit("slow", retry_after_ms: 5)) =~ "retry_after_ms: 5"
    end

    test "is its message in a string" do
      assert "it failed: #{Error.new(:quota, "pay first")}" == "it failed: pay first"
      assert to_string(Error.normalize({:turn_failed, "no\e[31m"})) == "no"
    end
  end

  test "whatever is given is an error" do
    for odd <- [
          {:experimental, :x},
          {:experimental, [1 | 2]},
          {:turn_running, %{}, 1},
          {:unknown_option, self(), make_ref()},
          {:app_server_down, 1},
          {},
          {nil}
        ] do
      assert %Error{message: message} = Error.normalize(odd)
      assert is_binary(message)
    end
  end

  describe "kinds" do
    test "are those that the requirements name, each once" do
      named =
        ~w(rate_limit usage_limit quota unauthorized forbidden model_not_found overloaded server_error context_window
          invalid_request input_too_large incomplete content_policy stream_disconnected connection_refused timeout sandbox
          approval_denied interrupted killed crashed thread_not_found thread_busy config auth_missing login_forbidden
          cli_not_found cli_unsupported not_a_git_repo mcp tool guardrail protocol overflow unsupported unknown
          sandbox_assessment_failed tool_failure approval_hook_failed unsupported_feature
          blocked budget until session_store)a

      assert Enum.sort(Error.kinds()) == Enum.sort(named)
    end

    test "that classification finds are among them" do
      assert Codex.Native.error_kinds() -- Error.kinds() == []
    end

    test "are documented, and an error of each says whether it is retryable" do
      {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Error)

      for kind <- Error.kinds() do
        assert doc =~ "`#{inspect(kind)}` - "
        assert Error.new(kind, "x").retryable? == Kinds.retryable?(kind)
        assert Error.retryable?(Error.new(kind, "x")) == Kinds.retryable?(kind)
      end

      assert_raise ArgumentError, ~r/one of the kinds of Codex.Error, got: :weather/, fn ->
        Error.new(:weather, "rain")
      end
    end
  end

  describe "normalize/1" do
    test "keeps what a transport error knows" do
      error = %TransportError{
        reason_code: :killed,
        message: "gone",
        exit_status: 137,
        signal: :kill,
        stderr: "last words",
        retryable?: true,
        event: %Events.Error{message: "Reconnecting... 1/5"}
      }

      normal = Error.normalize(error)
      assert %Error{kind: :killed, message: "gone", retryable?: true, exit_status: 137} = normal
      assert %Error{signal: :kill, stderr: "last words", event: %Events.Error{}} = normal
      assert normal.details.exit_status == 137 and normal.details.retryable?
      assert Error.normalize({:exec_failed, error}) == normal
      assert Error.retryable?(error)
      refute Error.retryable?(%{error | retryable?: false})
    end

    test "uses codex_error_info and the status, in each spelling" do
      for {payload, kind} <- [
            {%{"codexErrorInfo" => "usageLimitExceeded"}, :usage_limit},
            {%{"codex_error_info" => "usage_limit_exceeded"}, :usage_limit},
            {%{codex_error_info: :usage_limit_exceeded}, :usage_limit},
            {%{"codexErrorInfo" => %{"activeTurnNotSteerable" => %{"turnKind" => "review"}}},
             :thread_busy},
            {%{"codexErrorInfo" => %{"httpConnectionFailed" => %{"httpStatusCode" => 401}}},
             :unauthorized},
            {%{codex_error_info: %{http_connection_failed: %{http_status_code: 502}}},
             :server_error},
            {%{"codexErrorInfo" => %{"httpConnectionFailed" => %{"httpStatusCode" => nil}}},
             :connection_refused},
            {%{"codexErrorInfo" => %{"httpConnectionFailed" => nil}}, :connection_refused},
            {%{"codexErrorInfo" => "badRequest"}, :invalid_request},
            {%{status: 429}, :rate_limit},
            {%{"status" => 403}, :forbidden},
            {%{"http_status" => 529}, :overloaded},
            {%{"code" => "insufficient_quota", "status" => 429}, :quota},
            {%{"type" => "azure_rate_limit"}, :rate_limit},
            {%{"code" => "sandbox_assessment"}, :sandbox_assessment_failed},
            {%{"code" => -32_001}, :overloaded},
            {%{"code" => -32_602, "data" => %{"input_error_code" => "input_too_large"}},
             :input_too_large}
          ] do
        assert {payload, Error.normalize(payload).kind} == {payload, kind}

        assert {payload, Error.normalize(Map.put(payload, "message", "m")).kind} ==
                 {payload, kind}
      end
    end

    test "leaves stack backtraces out of the message" do
      message = "it failed\n\nStack backtrace:\n   0: a::b\n             at c.rs:1:2\n"
      assert %{message: "it failed", details: details} = Error.normalize(%{"message" => message})
      assert details.raw["message"] == message
    end

    test "reads times" do
      read = &Error.normalize(Map.put(&1, "message", "Rate limit")).retry_after_ms
      assert read.(%{"retry_after" => 20}) == 20_000
      assert read.(%{"retry_after" => 1_500}) == 1_500
      assert read.(%{"retry_after" => 1.5}) == 1_500
      assert read.(%{"retry_after" => "7"}) == 7_000
      assert read.(%{retry_after: "Fri, 31 Dec 1999 23:59:59 GMT"}) == nil

      for odd <- ["soon", 0, -5, "", %{}, 1.0e300, 10 ** 40],
          do: assert(read.(%{retry_after: odd}) == nil)

      in_an_hour = DateTime.add(DateTime.utc_now(), 3600, :second)
      date = Calendar.strftime(in_an_hour, "%a, %d %b %Y %H:%M:%S GMT")
      error = Error.normalize(%{"message" => "m", "retry_after" => date})
      assert error.resets_at == DateTime.truncate(in_an_hour, :second)
      assert error.retry_after_ms in 3_500_000..3_600_000

      at = DateTime.to_unix(in_an_hour)
      error = Error.normalize(%{"codexErrorInfo" => "usageLimitExceeded", "resetsAt" => at})

      assert {error.kind, error.retryable?, DateTime.to_unix(error.resets_at)} ==
               {:usage_limit, false, at}

      assert error.retry_after_ms in 3_500_000..3_600_000
      assert Error.normalize(%{"message" => "m", "resets_at" => 10 ** 30}).resets_at == nil
    end

    test "reads the times that the CLI writes, as the clock here shows them" do
      now = :calendar.local_time()
      {date, {hour, _, _}} = now

      for days <- [1, 30, 200] do
        day = date |> Date.from_erl!() |> Date.add(days)
        text = Calendar.strftime(day, "%b ") <> "#{day.day}#{suffix(day.day)}, #{day.year}"

        text =
          "You’ve hit your usage limit. Try again at #{text} #{twelve(hour)}:05 #{half(hour)}."

        %{resets_at: at} = Error.normalize(%{"message" => text})

        local =
          at
          |> DateTime.to_naive()
          |> NaiveDateTime.to_erl()
          |> :calendar.universal_time_to_local_time()

        assert {text, local} == {text, {Date.to_erl(day), {hour, 5, 0}}}
      end
    end

    defp twelve(hour), do: if(rem(hour, 12) == 0, do: 12, else: rem(hour, 12))
    defp half(hour), do: if(hour < 12, do: "AM", else: "PM")
    defp suffix(day) when day in 11..13, do: "th"
    defp suffix(day), do: Enum.at(~w(th st nd rd), rem(day, 10), "th")

    test "knows the reasons of this package and of networks" do
      for {reason, kind, retryable?} <- [
            {:timeout, :timeout, true},
            {:econnrefused, :connection_refused, true},
            {:closed, :stream_disconnected, true},
            {{:http_error, 429}, :rate_limit, true},
            {{:http_error, 500}, :server_error, true},
            {{:http_error, 404}, :invalid_request, false},
            {{:codex_timeout, 5}, :timeout, true},
            {{:timeout, "turn/start", 5}, :timeout, true},
            {:codex_binary_not_found, :cli_not_found, false},
            {{:codex_binary_missing, "/x"}, :cli_not_found, false},
            {{:input_too_large, 2, 1}, :input_too_large, false},
            {{:unsupported_option, :x}, :unsupported, false},
            {{:approval_denied, "no"}, :approval_denied, false},
            {%Codex.Subprocess.Error{reason: :enoent}, :cli_not_found, false},
            {%Codex.Subprocess.Error{reason: :emfile}, :crashed, true},
            {%Codex.Subprocess.Error{reason: :start_timeout}, :timeout, true},
            {%Codex.Config.Error{reason: :syntax, message: "no"}, :config, false},
            {%Codex.Config.ConstraintError{type: :empty_field, field_name: "x"}, :config, false},
            {Codex.ApprovalError.new("shell", :no), :approval_denied, false},
            {Codex.GuardrailError.exception(guardrail: "g"), :guardrail, false},
            {%RuntimeError{message: "Rate limit reached"}, :rate_limit, true},
            {"Rate limit reached", :unknown, false},
            {{:weather, :rain}, :unknown, false},
            {nil, :unknown, false}
          ] do
        error = Error.normalize(reason)
        assert {reason, error.kind, error.retryable?} == {reason, kind, retryable?}
        assert is_binary(error.message) and error.message != ""
        assert Error.retryable?(reason) == retryable?
      end

      assert Error.normalize({:timeout, "turn/start", 5}).details.clock == :request

      assert Error.normalize(%Codex.Subprocess.Error{reason: :start_timeout}).details.clock ==
               :start
    end

    test "every reason of Codex.Subprocess.Error has a kind" do
      {:ok, types} = Code.Typespec.fetch_types(Codex.Subprocess.Error)
      [reasons] = for {:type, {:reason, {:type, _, :union, all}, _}} <- types, do: all
      assert length(reasons) > 15

      for {:atom, _, reason} <- reasons do
        error = Error.normalize(%Codex.Subprocess.Error{reason: reason})
        assert {reason, error.kind} != {reason, :unknown}
      end
    end
  end

  describe "random input" do
    setup do
      :rand.seed(:exsss, {1, 6, 9})
      :ok
    end

    test "never raises, and gives an error that is whole" do
      for _ <- 1..2_000 do
        payload = Map.new(fields(), fn name -> {name, value()} end)
        error = Error.normalize(payload)
        assert error.kind in Error.kinds()
        assert is_binary(error.message) and is_boolean(error.retryable?)
        assert error.retry_after_ms == nil or error.retry_after_ms > 0
        assert error.http_status == nil or error.http_status in 100..599
        assert match?(%DateTime{}, error.resets_at) or error.resets_at == nil
        assert is_binary(inspect(error)) and Exception.message(error) == error.message
      end
    end

    test "in the messages of a turn that completes makes no failure of it" do
      failures = for {_, error} <- Codex.Failures.exec(), do: error.message

      for _ <- 1..300 do
        said = Enum.random(failures ++ [text()])

        events = [
          %Events.ThreadStarted{thread_id: "t"},
          %Events.Error{message: said},
          %Events.ItemCompleted{item: %Items.Error{message: said}},
          %Events.ItemCompleted{item: %Items.AgentMessage{text: said}},
          %Events.TurnCompleted{usage: %{}}
        ]

        assert {:ok, %{final_response: %{text: ^said}}} = turn(events)
      end
    end

    # No words that a pattern has: only letters that do not make any.
    test "without a known word is what the server says of the request" do
      for _ <- 1..500 do
        said = for _ <- 1..40, into: "", do: Enum.random(~w(b z q w x j k . 7 é \s))

        assert {:error, {:turn_failed, error}} =
                 turn([%Events.TurnFailed{error: %{"message" => said}}])

        assert %Error{kind: :invalid_request, message: ^said, retryable?: false} = error
        assert %Error{kind: :unknown} = Error.normalize(%{"message" => said})
      end
    end

    defp fields do
      all =
        ~w(message code type status retry_after details additional_details codexErrorInfo codex_error_info resets_at data)

      Enum.take_random(all, :rand.uniform(length(all)))
    end

    defp value, do: value(:rand.uniform(9))

    defp value(1), do: nil
    defp value(2), do: :rand.uniform(1_000_000) - 500_000
    defp value(3), do: 10 ** :rand.uniform(60)
    defp value(4), do: :rand.normal() * 10 ** :rand.uniform(30)
    defp value(5), do: [value()]
    defp value(6), do: %{text() => value()}

    defp value(7) do
      unit = Enum.random(~w(s m : ms h))
      "try again #{Enum.random(~w(in at))} #{:rand.uniform(99)}#{unit}#{text()}"
    end

    defp value(8), do: text()

    defp value(9) do
      Enum.random([
        true,
        :atom,
        "rate_limit",
        "unexpected status 429 x",
        ~S({"error":),
        <<0xFF, 0>>
      ])
    end

    defp text, do: :crypto.strong_rand_bytes(:rand.uniform(200))
  end

  describe "a turn" do
    test "that fails tells what there was, and the failed event" do
      failed = %Events.TurnFailed{error: %{"message" => "Selected model is at capacity."}}

      events = [
        %Events.ThreadStarted{thread_id: "t1"},
        %Events.ItemCompleted{item: %Items.AgentMessage{text: "half"}},
        failed
      ]

      assert {:error, {:turn_failed, %Error{kind: :overloaded, event: ^failed} = error}} =
               turn(events)

      assert %Turn.Result{final_response: %{text: "half"}, events: ^events} = error.result
      assert error.result.thread.thread_id == "t1"
    end

    test "its own failure wins over how the run ended" do
      lost = %TransportError{reason_code: :crashed, message: "exit 1"}
      failed = %Events.TurnFailed{error: %{"message" => "Quota exceeded."}}
      assert {:error, {:turn_failed, %Error{kind: :quota}}} = turn([failed, {:failed, lost}])
      assert {:error, {:exec_failed, %Error{kind: :crashed}}} = turn([{:failed, lost}])
    end
  end

  describe "secrets" do
    test "are taken out of every text of a term" do
      secrets =
        Redact.secrets(%{
          "API_KEY" => "sk-secret",
          "HEADER_TOKEN" => "Bearer abcdef",
          "PATH" => "/usr/bin/x",
          "A_KEY" => "no",
          "B_KEY" => nil
        })

      assert Enum.sort(secrets) == ["Bearer abcdef", "abcdef", "sk-secret"]

      term = %Events.TurnFailed{
        error: %{"message" => "bad sk-secret, abcdef", "sk-secret" => ["sk-secret", 1]}
      }

      redacted = Redact.redact(term, secrets)
      refute inspect(redacted) =~ "secret"
      assert redacted.error["message"] == "bad [redacted], [redacted]"
    end

    test "inspect shows neither stderr nor what was sent" do
      error = Error.new(:crashed, "gone", %{stderr: "hidden", raw: "hidden"})
      refute inspect(%{error | result: "hidden", event: "hidden"}) =~ "hidden"
      refute inspect(%TransportError{message: "gone", stderr: "hidden"}) =~ "hidden"
      assert inspect(error) =~ ":crashed"
    end
  end

  defp turn(events) do
    thread = Codex.Thread.build(%Codex.Options{}, %Codex.Thread.Options{})

    events
    |> Enum.reduce(Turn.new(thread, false), fn event, turn ->
      turn |> Turn.add(event) |> elem(1)
    end)
    |> Turn.result()
  end
end
