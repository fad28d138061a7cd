defmodule Codex.ProtocolTest do
  use ExUnit.Case, async: true

  alias Codex.Protocol
  alias Codex.Protocol.Check
  alias Codex.Surface.Protocol.{Data, Schema}

  doctest Codex.Protocol

  @data Protocol.path() |> File.read!() |> Data.read!()

  describe "the data" do
    test "has the methods that were counted in the CLI" do
      count = fn kind, experimental ->
        Enum.count(Data.entries(@data, kind), fn {_, method} ->
          method[:experimental] == true == experimental
        end)
      end

      assert {count.(:request, false), count.(:request, true)} == {110, 79}
      assert {count.(:server_request, false), count.(:server_request, true)} == {10, 1}
      assert Map.keys(Data.entries(@data, :client_notification)) == ["initialized"]
      assert Protocol.cli_version() == Codex.CLI.Program.tested_version()
    end

    test "is written as it is read, one line for each method and type" do
      text = File.read!(Protocol.path())
      assert Data.write(@data) == text
      assert Data.write(Enum.reverse(@data)) == text
      assert text |> String.split("\n", trim: true) |> length() == length(@data) + 2
      names = for {kind, {name, _}} <- @data, do: {kind, name}
      assert names == Enum.uniq(names)
    end

    test "mentions no type that it does not have, and no type that nothing mentions" do
      methods = for kind <- Data.kinds(), {_, method} <- Data.entries(@data, kind), do: method

      mentioned =
        Enum.flat_map(methods, &(Schema.refs(&1[:params]) ++ List.wrap(&1[:result]))) ++
          for {:type, {_, type}} <- @data, ref <- Schema.refs(type), do: ref

      assert MapSet.new(mentioned) == MapSet.new(Map.keys(Data.entries(@data, :type)))
    end

    test "has a result for every request" do
      for kind <- [:request, :server_request], {name, method} <- Data.entries(@data, kind) do
        assert is_map_key(Data.entries(@data, :type), method[:result]), name
      end
    end

    test "has its fields in order, with different names in snake_case" do
      for {:type, {name, type}} <- @data, fields <- objects(type) do
        {other, fields} = Keyword.split(fields, [:other])
        names = for {_kind, {wire, _type}} <- fields, do: wire
        snake = Enum.map(names, &Macro.underscore/1)
        assert {name, names, length(other)} == {name, Enum.sort(names), min(length(other), 1)}
        assert snake == Enum.uniq(snake), name
      end
    end

    test "invalid data is an error that shows it, and no code runs" do
      for text <- [
            "odd",
            "[",
            "[cli: 1]",
            "[]",
            "[{:type, {\"A\", :null}} | 2]",
            "[odd: 1]",
            "System.halt()",
            "[type: System.halt()]",
            "[reqest: {\"a\", []}]",
            "[request: {\"a\", []}]",
            "[type: {\"A\", :text}]",
            "[type: {\"A\", {:one_of, [:null, :nil]}}]",
            "[type: {\"A\", {:fields, [must: {\"a\", :null}]}}]"
          ] do
        assert_raise ArgumentError, ~r/expected protocol data, got: /, fn -> Data.read!(text) end
      end

      assert_raise ArgumentError, ~r/:text/, fn ->
        Data.read!("[type: {\"A\", :text}]")
      end
    end
  end

  defp objects({:fields, fields}) do
    [fields] ++
      Enum.flat_map(fields, fn
        {:other, type} -> objects(type)
        {_kind, {_name, type}} -> objects(type)
      end)
  end

  defp objects({tag, type}) when tag in [:nullable, :list], do: objects(type)
  defp objects({:one_of, types}), do: Enum.flat_map(types, &objects/1)
  defp objects(_plain), do: []

  describe "checks" do
    test "take keys and words in either spelling, as atoms or text, in maps and keywords" do
      wire =
        {:ok,
         %{
           "threadId" => "t",
           "input" => [%{"type" => "localImage", "path" => "/a.png"}],
           "approvalPolicy" => "on-request",
           "sandboxPolicy" => %{"type" => "workspaceWrite", "writableRoots" => ["/srv"]}
         }}

      assert wire ==
               Protocol.check("TurnStartParams",
                 thread_id: "t",
                 input: [[type: :local_image, path: "/a.png"]],
                 approval_policy: :on_request,
                 sandbox_policy: %{type: "workspace-write", writable_roots: ["/srv"]}
               )

      assert wire ==
               Protocol.check("TurnStartParams", %{
                 "threadId" => "t",
                 "input" => [%{"type" => "localImage", path: "/a.png"}],
                 "approval_policy" => "on-request",
                 :sandboxPolicy => %{"type" => :workspaceWrite, "writableRoots" => ["/srv"]}
               })
    end

    test "name the key that is not known, the nearest one, and the way to it" do
      assert {:error, %Codex.OptionError{reason: :unknown, path: [:modle], nearest: :model}} =
               Protocol.check("ThreadStartParams", modle: "x")

      assert {:error, %Codex.OptionError{reason: :unknown, path: ["sandBox_"], nearest: :sandbox}} =
               Protocol.check("ThreadStartParams", %{"sandBox_" => 1})

      assert {:error, %Codex.OptionError{reason: :unknown, path: [7], nearest: nil}} =
               Protocol.check("ThreadStartParams", %{7 => 1, cwd: "/"})

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:input, 0, :txt], nearest: :text}} =
               Protocol.check("TurnStartParams",
                 thread_id: "t",
                 input: [%{type: :text, txt: "a", text: "b"}]
               )
    end

    test "input never becomes an atom" do
      key = "NeverSeen#{System.unique_integer([:positive])}"
      assert {:error, _} = Protocol.check("ThreadStartParams", %{key => 1})
      assert {:error, _} = Protocol.check("ThreadStartParams", %{"sandbox" => key})
      assert {:error, _} = Protocol.params(key, %{})
      assert {:ok, _} = Protocol.check("ThreadStartParams", %{"config" => %{key => key}})

      for word <- [key, Macro.underscore(key)],
          do: assert_raise(ArgumentError, fn -> String.to_existing_atom(word) end)
    end

    test "name missing fields, also in inner objects" do
      assert {:error, %Codex.OptionError{reason: :missing, path: [:input]}} =
               Protocol.check("TurnStartParams", thread_id: "t")

      assert {:error, %Codex.OptionError{reason: :missing, path: [:thread_id]}} =
               Protocol.check("TurnStartParams", thread_id: nil, input: [])

      assert {:error,
              %Codex.OptionError{
                reason: :missing,
                path: [:approval_policy, :granular, :mcp_elicitations]
              }} = Protocol.check("ThreadStartParams", approval_policy: [granular: [rules: true]])
    end

    test "name the expected type" do
      for {type, options, error} <- [
            {"ThreadStartParams", [cwd: 1],
             %Codex.OptionError{path: [:cwd], value: 1, expected: "a string"}},
            {"ThreadStartParams", [cwd: "\xFF"],
             %Codex.OptionError{path: [:cwd], value: "\xFF", expected: "a string"}},
            {"ThreadStartParams", [cwd: true],
             %Codex.OptionError{path: [:cwd], value: true, expected: "a string"}},
            {"ThreadStartParams", [ephemeral: "yes"],
             %Codex.OptionError{path: [:ephemeral], value: "yes", expected: "a boolean"}},
            {"ThreadListParams", [limit: -1],
             %Codex.OptionError{path: [:limit], value: -1, expected: "an integer from 0"}},
            {"ThreadListParams", [limit: 1.0],
             %Codex.OptionError{path: [:limit], value: 1.0, expected: "an integer from 0"}},
            {"ThreadListParams", [sort_key: :name],
             %Codex.OptionError{
               path: [:sort_key],
               value: :name,
               expected: ~S(one of "created_at", "updated_at", "recency_at", "section_position")
             }},
            {"ThreadListParams", [model_providers: "mock"],
             %Codex.OptionError{
               path: [:model_providers],
               value: "mock",
               expected: "a list of strings"
             }},
            {"ThreadListParams", [model_providers: ["a" | "b"]],
             %Codex.OptionError{
               path: [:model_providers],
               value: "[redacted]",
               expected: "a list of strings"
             }},
            {"ThreadListParams", [model_providers: ["a", 2]],
             %Codex.OptionError{path: [:model_providers, 1], value: 2, expected: "a string"}},
            {"ThreadListParams", [cwd: 1],
             %Codex.OptionError{path: [:cwd], value: 1, expected: "a string or a list of strings"}},
            {"CommandExecParams", [command: [], env: [A: 1]],
             %Codex.OptionError{path: [:env, :A], value: "[redacted]", expected: "a string"}},
            {"ConfigValueWriteParams",
             [key_path: "a", merge_strategy: :replace, value: %{"a" => [1, {2, 3}]}],
             %Codex.OptionError{
               path: [:value, "a", 1],
               value: {2, 3},
               expected: "a value that JSON has a form for"
             }},
            {"ThreadStartParams", [:cwd], %Codex.OptionError{reason: :not_options, value: :cwd}},
            {"ThreadStartParams", "cwd",
             %Codex.OptionError{reason: :not_options, value: "[redacted]"}}
          ] do
        assert {:error, found} = Protocol.check(type, options)
        assert Codex.OptionErrors.like?(found, error)
      end
    end

    test "objects with a tag are checked as the one it names" do
      check = &Protocol.check("ReviewStartParams", thread_id: "t", target: &1)

      assert {:ok, %{"target" => %{"type" => "commit", "sha" => "a"}}} =
               check.(%{type: :commit, sha: "a"})

      assert {:error, %Codex.OptionError{reason: :missing, path: [:target, :sha]}} =
               check.(%{type: :commit})

      assert {:error, %Codex.OptionError{reason: :missing, path: [:target, :type]}} =
               check.(%{sha: "a"})

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:target, :branch], nearest: nil}} =
               check.(%{type: :commit, branch: "a"})

      assert {:error, %Codex.OptionError{path: [:target, :type], value: :tag, expected: expected}} =
               check.(%{type: :tag})

      assert expected =~ ~S("uncommittedChanges", "baseBranch")

      # The tag alone, if no other field is required.
      assert {:ok, %{"target" => %{"type" => "uncommittedChanges"}}} =
               check.(:uncommitted_changes)

      assert {:error, %Codex.OptionError{path: [:target], value: :commit}} = check.(:commit)
    end

    test "objects with the same tag are distinguished by their fields" do
      check = &Protocol.check("TurnStartParams", thread_id: "t", input: [&1])
      assert {:ok, _} = check.(type: :image, url: "data:")
      assert {:ok, _} = check.(type: :image, file_id: "f", detail: :high)

      assert {:error, %Codex.OptionError{reason: :missing, path: [:input, 0, :url]}} =
               check.(type: :image)

      assert {:error,
              %Codex.OptionError{path: [:input, 0, :file_id], value: 1, expected: "a string"}} =
               check.(type: :image, file_id: 1)
    end

    test "unions without a tag take the first match" do
      decision = &Protocol.check("CommandExecutionRequestApprovalResponse", decision: &1)
      amendment = %{"execpolicy_amendment" => ["echo"]}

      assert decision.(:accept_for_session) == {:ok, %{"decision" => "acceptForSession"}}

      assert decision.(accept_with_execpolicy_amendment: amendment) ==
               {:ok, %{"decision" => %{"acceptWithExecpolicyAmendment" => amendment}}}

      assert {:error, %Codex.OptionError{path: [:decision], value: :maybe, expected: expected}} =
               decision.(:maybe)

      assert expected == ~S[one of "accept", "acceptForSession", "decline", "cancel" or a map]

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:decision, :nothing], nearest: nil}} =
               decision.(nothing: 1)
    end

    test "nil is null if the type allows it, and omitted otherwise" do
      assert Protocol.check("ThreadStartParams", model: nil) == {:ok, %{"model" => nil}}
      assert Protocol.check("SkillsListParams", cwds: nil) == {:ok, %{}}

      # Of a required value of any kind, nil is one.
      options = [key_path: "a", merge_strategy: :replace]

      assert {:ok, %{"value" => nil}} =
               Protocol.check("ConfigValueWriteParams", [value: nil] ++ options)

      assert {:error, %Codex.OptionError{reason: :missing, path: [:value]}} =
               Protocol.check("ConfigValueWriteParams", options)

      assert Protocol.check("TurnStartParams", thread_id: "t", input: [], output_schema: nil) ==
               {:ok, %{"threadId" => "t", "input" => []}}
    end

    test "show no secret" do
      for {type, options} <- [
            {"LoginAccountParams", [type: :api_key, api_key: {:marked, 1}]},
            {"LoginAccountParams", [type: :api_key, api_key: ["marked"]]},
            {"LoginAccountParams", [%{type: :api_key, api_key: "marked"}]},
            {"ChatgptAuthTokensRefreshResponse",
             [access_token: ~c"marked", chatgpt_account_id: "a"]},
            {"CommandExecParams", [command: [%{env: "marked"}]]},
            {"CommandExecParams", [command: ["a"], env: %{"A" => ~c"marked"}]},
            {"ConfigBatchWriteParams", [edits: [{:api_key, "marked"}]]}
          ] do
        assert {:error, error} = Protocol.check(type, options)
        refute inspect(error) =~ "marked"
        refute inspect(error) =~ inspect(~c"marked")
      end
    end

    test "mark experimental fields as the server does" do
      uses = fn method, options ->
        {:ok, _, uses} = Protocol.params(method, options)
        uses
      end

      assert uses.("thread/start", cwd: "/") == []
      assert uses.("thread/start", dynamic_tools: nil, experimental_raw_events: false) == []
      assert uses.("thread/start", dynamic_tools: []) == ["thread/start.dynamicTools"]
      assert uses.("thread/start", daybreak_enabled: false) == ["thread/start.daybreakEnabled"]

      assert uses.("thread/list", include_attached_threads: true, limit: 1) ==
               ["thread/list.includeAttachedThreads"]

      assert uses.("memory/reset", []) == ["memory/reset"]
    end

    test "methods without parameters take none" do
      assert Protocol.params("account/logout", %{}) == {:ok, nil, []}

      assert {:error, %Codex.OptionError{reason: :unknown, path: [:x], nearest: nil}} =
               Protocol.params("account/logout", x: 1)

      assert Protocol.params("account/rateLimits/read", nil) == {:ok, nil, []}
      assert {:ok, %{}, []} = Protocol.params("model/list", nil)
      # Messages of the server are not our requests.
      assert {:error, {:unknown_method, _}} = Protocol.params("item/tool/call", %{})
    end
  end

  # Values are generated from the types: each passes, in both spellings, and is valid JSON.
  test "every value of every type of parameters passes, and comes out as on the wire" do
    for method <- Protocol.methods(), seed <- 1..8 do
      :rand.seed(:exsss, {seed, 3, 5})
      {:ok, %{params: params}} = Protocol.method(method)
      wire = value(params, 0)
      assert {:ok, checked, _} = Check.run(params, snake(wire), Protocol.types()), method
      assert checked == wire
      assert {:ok, ^checked, _} = Check.run(params, wire, Protocol.types())
      assert {:ok, _} = Codex.JSON.encode(checked)
    end
  end

  test "a function is rejected as a value at any depth" do
    for method <- Protocol.methods(), seed <- 1..4 do
      :rand.seed(:exsss, {seed, 7, 11})
      {:ok, %{params: params}} = Protocol.method(method)

      case spoil(value(params, 0)) do
        :nothing_to_spoil -> :ok
        spoiled -> assert {:error, _} = Check.run(params, spoiled, Protocol.types())
      end
    end
  end

  defp value({:ref, name}, depth), do: value(Protocol.types()[name], depth)

  defp value({:nullable, type}, depth),
    do: if(depth > 6 or chance(), do: nil, else: value(type, depth))

  defp value({:list, _type}, depth) when depth > 6, do: []
  defp value({:list, type}, depth), do: for(_ <- 1..:rand.uniform(2), do: value(type, depth + 1))
  defp value({:one_of, types}, depth), do: types |> Enum.random() |> value(depth)
  defp value({:word, word}, _depth), do: word
  defp value(:string, _depth), do: Enum.random(["", "text", "/srv/ä"])
  defp value(:integer, _depth), do: Enum.random([-1, 0, 5_000_000_000])
  defp value(:count, _depth), do: Enum.random([0, 7])
  defp value(:number, _depth), do: Enum.random([1, 2.5])
  defp value(:boolean, _depth), do: chance()
  defp value(:any, _depth), do: Enum.random([%{"any" => [1, nil]}, "any", false])
  defp value(:null, _depth), do: nil

  defp value({:object, names, _required, rest}, depth) do
    fields =
      for {_, {wire, _, type, required, _}} <- names,
          required or (depth < 3 and chance()),
          into: %{},
          do: {wire, value(type, depth + 1)}

    if rest && depth < 3, do: Map.put(fields, "other key", value(rest, depth + 1)), else: fields
  end

  defp chance, do: :rand.uniform(2) == 1

  # Keys only: a map with free keys stays.
  defp snake(%{"any" => _} = map), do: map

  defp snake(%{} = map),
    do:
      Map.new(map, fn {key, value} ->
        {if(key == "other key", do: key, else: Macro.underscore(key)), snake(value)}
      end)

  defp snake(list) when is_list(list), do: Enum.map(list, &snake/1)
  defp snake(other), do: other

  defp spoil(%{} = map) when map_size(map) > 0 do
    {key, value} = Enum.random(Map.to_list(map))
    Map.put(map, key, with(:nothing_to_spoil <- spoil(value), do: &spoil/1))
  end

  defp spoil([_ | _] = list) do
    List.update_at(list, :rand.uniform(length(list)) - 1, fn value ->
      with(:nothing_to_spoil <- spoil(value), do: &spoil/1)
    end)
  end

  defp spoil(_other), do: :nothing_to_spoil
end
