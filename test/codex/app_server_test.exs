defmodule Codex.AppServerTest do
  use ExUnit.Case, async: true

  alias Codex.{AppServer, Protocol, Recorder}
  alias Codex.AppServer.Calls

  doctest Codex.AppServer.Params
  doctest Codex.AppServer.Calls

  setup context do
    {:ok, conn} = Recorder.start_link(Map.take(context, [:answer]) |> Map.to_list())
    %{conn: conn}
  end

  # What reached the connection.
  defp sent do
    assert_received {:request, method, params, opts}
    {method, params, opts[:timeout_ms]}
  end

  defp refused(result) do
    refute_received {:request, _, _, _}
    assert {:error, reason} = result
    reason
  end

  describe "every method" do
    test "is a function with documentation that names its options and says whether it is experimental" do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(AppServer)

      for method <- Protocol.methods() do
        name = Calls.name(method)
        {:ok, known} = Protocol.method(method)

        texts = for {{:function, ^name, _}, _, _, %{"en" => text}, _} <- docs, do: text
        assert [text] = texts, "no documentation of #{name}"
        assert text =~ "Sends `#{method}`"
        assert text =~ "Experimental" == known.experimental, method

        for {wire, snake} <- required(known.params),
            wire not in ~w(type mode),
            do: assert(text =~ "`:#{snake}`" or text =~ "`#{snake}`", "#{method} #{snake}")
      end
    end

    test "has a spec" do
      {:ok, specs} = Code.Typespec.fetch_specs(AppServer)
      names = for {{name, _}, _} <- specs, do: name

      assert for(
               method <- Protocol.methods(),
               name = Calls.name(method),
               name not in names,
               do: name
             ) == []
    end

    test "with options alone sends their checked values", %{conn: conn} do
      for %{args: [], fixed: fixed} = row <- Calls.rows(Protocol.methods()), fixed == %{} do
        :rand.seed(:exsss, {1, 2, 3})

        case apply(AppServer, row.name, [conn, []]) do
          {:ok, %{}} ->
            {method, params, timeout} = sent()
            assert method == row.method
            assert params in [nil, %{}]

            assert timeout ==
                     if(method =~ ~r/^config\/(value|batch|read)/, do: 10_000, else: 30_000)

          {:error, %Codex.OptionError{reason: :missing}} ->
            refute_received {:request, _, _, _}
        end
      end
    end

    test "an experimental method is marked for the connection", %{conn: conn} do
      assert {:ok, _} = AppServer.memory_reset(conn)
      assert_received {:request, "memory/reset", nil, opts}
      assert opts[:experimental] == ["memory/reset"]

      assert {:ok, _} =
               AppServer.thread_start(conn, dynamic_tools: [], cwd: "/", history_mode: :legacy)

      assert_received {:request, "thread/start", %{"cwd" => "/", "historyMode" => "legacy"}, opts}
      assert opts[:experimental] == ["thread/start.historyMode"]
    end
  end

  defp required({:ref, name}), do: required(Protocol.types()[name])

  defp required({:object, _, required, _}),
    do: for({wire, name, _, _, _} <- required, do: {wire, name})

  defp required(_other), do: []

  # Functions, arities and parameters of 0.4.5, one after the other.
  describe "the functions that were there before" do
    test "thread_start, thread_resume", %{conn: conn} do
      params = %{
        "model" => "m",
        "modelProvider" => "p",
        "cwd" => "/srv",
        "approvalPolicy" => "on-request",
        "sandbox" => "danger-full-access",
        "config" => %{"a.b" => 1},
        "baseInstructions" => "b",
        "developerInstructions" => "d",
        "experimentalRawEvents" => true
      }

      options = [
        model: "m",
        model_provider: "p",
        working_directory: "/srv",
        approval_policy: :on_request,
        sandbox: :permissive,
        config: %{"a.b" => 1},
        base_instructions: "b",
        developer_instructions: "d",
        experimental_raw_events: true
      ]

      assert {:ok, %{}} = AppServer.thread_start(conn, options)
      assert sent() == {"thread/start", params, 30_000}
      assert {:ok, %{}} = AppServer.thread_start(conn, Map.new(options))
      assert sent() == {"thread/start", params, 30_000}

      # As on the wire, too.
      assert {:ok, %{}} = AppServer.thread_start(conn, params)
      assert sent() == {"thread/start", params, 30_000}

      assert {:ok, %{}} = AppServer.thread_start(conn)
      assert sent() == {"thread/start", %{}, 30_000}

      # What is nil, false or empty is not sent.
      unset = [
        model: nil,
        sandbox: :default,
        config: nil,
        experimental_raw_events: false,
        ephemeral: false
      ]

      assert {:ok, %{}} = AppServer.thread_start(conn, unset)
      assert sent() == {"thread/start", %{}, 30_000}

      assert {:ok, %{}} = AppServer.thread_resume(conn, "t", sandbox: "workspace-write")

      assert sent() ==
               {"thread/resume", %{"threadId" => "t", "sandbox" => "workspace-write"}, 30_000}

      assert {:ok, %{}} = AppServer.thread_resume(conn, "t")
      assert sent() == {"thread/resume", %{"threadId" => "t"}, 30_000}
      assert {:ok, %{}} = AppServer.thread_resume(conn, "t", path: "/r.jsonl")
      assert {"thread/resume", %{"threadId" => "t", "path" => "/r.jsonl"}, _} = sent()
    end

    test "thread_list, thread_archive, thread_compact", %{conn: conn} do
      assert {:ok, %{}} = AppServer.thread_list(conn)
      assert sent() == {"thread/list", %{}, 30_000}

      assert {:ok, %{}} =
               AppServer.thread_list(conn, cursor: "c", limit: 5, model_providers: ["mock"])

      assert sent() ==
               {"thread/list", %{"cursor" => "c", "limit" => 5, "modelProviders" => ["mock"]},
                30_000}

      assert {:ok, %{}} = AppServer.thread_list(conn, cursor: nil, model_providers: [])
      assert sent() == {"thread/list", %{}, 30_000}

      assert AppServer.thread_archive(conn, "t") == :ok
      assert sent() == {"thread/archive", %{"threadId" => "t"}, 30_000}

      assert {:ok, %{}} = AppServer.thread_compact(conn, "t")
      assert sent() == {"thread/compact/start", %{"threadId" => "t"}, 30_000}
      assert {:ok, %{}} = AppServer.thread_compact_start(conn, thread_id: "t")
      assert sent() == {"thread/compact/start", %{"threadId" => "t"}, 30_000}
    end

    test "turn_start, turn_interrupt", %{conn: conn} do
      text = [%{"type" => "text", "text" => "hi"}]
      assert {:ok, %{}} = AppServer.turn_start(conn, "t", "hi")
      assert sent() == {"turn/start", %{"threadId" => "t", "input" => text}, 300_000}

      options = [
        cwd: "/srv",
        approval_policy: "never",
        sandbox_policy: %{
          type: :workspace_write,
          writable_roots: ["/srv"],
          network_access: :enabled
        },
        model: "m",
        effort: :extra_high,
        summary: :concise
      ]

      blocks = [
        "hi",
        %{type: :local_image, path: "/a.png"},
        %{"type" => "image", "url" => "data:"}
      ]

      assert {:ok, %{}} = AppServer.turn_start(conn, "t", blocks, options)

      assert sent() ==
               {"turn/start",
                %{
                  "threadId" => "t",
                  "input" =>
                    text ++
                      [
                        %{"type" => "localImage", "path" => "/a.png"},
                        %{"type" => "image", "url" => "data:"}
                      ],
                  "cwd" => "/srv",
                  "approvalPolicy" => "never",
                  "sandboxPolicy" => %{
                    "type" => "workspaceWrite",
                    "writableRoots" => ["/srv"],
                    "networkAccess" => true
                  },
                  "model" => "m",
                  "effort" => "xhigh",
                  "summary" => "concise"
                }, 300_000}

      for {policy, wire} <- [
            {:strict, %{"type" => "readOnly"}},
            {"danger-full-access", %{"type" => "dangerFullAccess"}},
            {%{"type" => "external-sandbox", "network_access" => "enabled"},
             %{"type" => "externalSandbox", "networkAccess" => "enabled"}},
            {{:external_sandbox, :restricted},
             %{"type" => "externalSandbox", "networkAccess" => "restricted"}},
            {[type: "workspaceWrite", exclude_slash_tmp: true],
             %{"type" => "workspaceWrite", "excludeSlashTmp" => true}}
          ] do
        assert {:ok, %{}} = AppServer.turn_start(conn, "t", "hi", sandbox_policy: policy)
        assert {_, %{"sandboxPolicy" => ^wire}, _} = sent()
      end

      # A turn without input is one.
      assert {:ok, %{}} =
               AppServer.turn_start(conn, "t", [], effort: nil, sandbox_policy: :default)

      assert sent() == {"turn/start", %{"threadId" => "t", "input" => []}, 300_000}

      assert AppServer.turn_interrupt(conn, "t", "u") == :ok
      assert sent() == {"turn/interrupt", %{"threadId" => "t", "turnId" => "u"}, 30_000}
    end

    test "review_start", %{conn: conn} do
      for {target, wire} <- [
            {{:uncommitted_changes}, %{"type" => "uncommittedChanges"}},
            {:uncommitted_changes, %{"type" => "uncommittedChanges"}},
            {{:base_branch, "main"}, %{"type" => "baseBranch", "branch" => "main"}},
            {{:commit, "abc", "Title"},
             %{"type" => "commit", "sha" => "abc", "title" => "Title"}},
            {{:commit, "abc"}, %{"type" => "commit", "sha" => "abc"}},
            {{:custom, "look"}, %{"type" => "custom", "instructions" => "look"}},
            {"look", %{"type" => "custom", "instructions" => "look"}},
            {%{"type" => "baseBranch", "branch" => "b"},
             %{"type" => "baseBranch", "branch" => "b"}},
            {%{type: :base_branch, branch: "b"}, %{"type" => "baseBranch", "branch" => "b"}}
          ] do
        assert {:ok, %{}} = AppServer.review_start(conn, "t", target)
        assert sent() == {"review/start", %{"threadId" => "t", "target" => wire}, 300_000}
      end

      for delivery <- [:inline, "inline"] do
        assert {:ok, %{}} = AppServer.review_start(conn, "t", "look", delivery: delivery)
        assert {_, %{"delivery" => "inline"}, _} = sent()
      end

      assert %Codex.OptionError{path: [:target], value: {:nothing}} =
               refused(AppServer.review_start(conn, "t", {:nothing}))
    end

    test "lists and searches", %{conn: conn} do
      assert {:ok, %{}} = AppServer.skills_list(conn, cwds: [], force_reload: false)
      assert sent() == {"skills/list", %{}, 30_000}
      assert {:ok, %{}} = AppServer.skills_list(conn, cwds: ["/srv"], force_reload: true)
      assert sent() == {"skills/list", %{"cwds" => ["/srv"], "forceReload" => true}, 30_000}

      assert {:ok, %{}} = AppServer.fuzzy_file_search(conn, "needle")
      assert sent() == {"fuzzyFileSearch", %{"query" => "needle", "roots" => []}, 30_000}

      assert {:ok, %{}} =
               AppServer.fuzzy_file_search(conn, "needle",
                 roots: ["/srv"],
                 cancellation_token: "c"
               )

      assert sent() ==
               {"fuzzyFileSearch",
                %{"query" => "needle", "roots" => ["/srv"], "cancellationToken" => "c"}, 30_000}

      assert {:ok, %{}} = AppServer.model_list(conn, limit: 3, cursor: nil)
      assert sent() == {"model/list", %{"limit" => 3}, 30_000}
    end

    test "configuration", %{conn: conn} do
      assert {:ok, %{}} = AppServer.config_read(conn, include_layers: true)
      assert sent() == {"config/read", %{"includeLayers" => true}, 10_000}

      for value <- [nil, false, [], "x", %{"a" => 1}] do
        assert {:ok, %{}} = AppServer.config_write(conn, "a.b", value)

        assert sent() ==
                 {"config/value/write",
                  %{"keyPath" => "a.b", "value" => value, "mergeStrategy" => "replace"}, 10_000}
      end

      options = [merge_strategy: :upsert, file_path: "/c.toml", expected_version: "sha256:0"]
      assert {:ok, %{}} = AppServer.config_write(conn, "a", 1, options)

      assert sent() ==
               {"config/value/write",
                %{
                  "keyPath" => "a",
                  "value" => 1,
                  "mergeStrategy" => "upsert",
                  "filePath" => "/c.toml",
                  "expectedVersion" => "sha256:0"
                }, 10_000}

      edits = [
        %{key_path: "a", value: false},
        %{"keyPath" => "b", "value" => nil, "mergeStrategy" => "upsert"},
        [key_path: "c", value: [], merge_strategy: :upsert]
      ]

      assert {:ok, %{}} = AppServer.config_batch_write(conn, edits, expected_version: nil)

      assert sent() ==
               {"config/batchWrite",
                %{
                  "edits" => [
                    %{"keyPath" => "a", "value" => false, "mergeStrategy" => "replace"},
                    %{"keyPath" => "b", "value" => nil, "mergeStrategy" => "upsert"},
                    %{"keyPath" => "c", "value" => [], "mergeStrategy" => "upsert"}
                  ]
                }, 10_000}

      assert %Codex.OptionError{reason: :missing, path: [:edits, 0, :key_path]} =
               refused(AppServer.config_batch_write(conn, [%{value: 1}]))

      assert {:ok, %{}} =
               AppServer.config_value_write(conn,
                 key_path: "a",
                 value: 1,
                 merge_strategy: :replace
               )

      assert {"config/value/write", %{"value" => 1}, 10_000} = sent()
    end

    test "commands", %{conn: conn} do
      assert {:ok, %{}} = AppServer.command_exec(conn, ["ls", "-l"])
      assert sent() == {"command/exec", %{"command" => ["ls", "-l"]}, 30_000}

      options = [timeout_ms: 60_000, cwd: "/srv", sandbox_policy: %{"type" => "readOnly"}]
      assert {:ok, %{}} = AppServer.command_exec(conn, ["ls"], options)

      assert sent() ==
               {"command/exec",
                %{
                  "command" => ["ls"],
                  "timeoutMs" => 60_000,
                  "cwd" => "/srv",
                  "sandboxPolicy" => %{"type" => "readOnly"}
                }, 65_000}

      assert {:ok, %{}} = AppServer.command_exec(conn, ["ls"], disable_timeout: true)
      assert {_, _, :infinity} = sent()

      # The CLI has no command/writeStdin any more; this is its successor.
      assert {:ok, %{}} = AppServer.command_write_stdin(conn, "p", <<"ls", 0xFF>>)

      assert sent() ==
               {"command/exec/write",
                %{"processId" => "p", "deltaBase64" => Base.encode64(<<"ls", 0xFF>>)}, 30_000}

      assert {:ok, %{}} = AppServer.command_write_stdin(conn, "p", "", close_stdin: true)
      assert {_, %{"deltaBase64" => "", "closeStdin" => true}, _} = sent()

      assert %Codex.OptionError{reason: :unknown, path: [:yield_time_ms]} =
               refused(AppServer.command_write_stdin(conn, "p", "x", yield_time_ms: 1))
    end

    test "feedback_upload", %{conn: conn} do
      options = [classification: "bug", include_logs: false, reason: "slow", thread_id: "t"]
      assert {:ok, %{}} = AppServer.feedback_upload(conn, options)

      assert sent() ==
               {"feedback/upload",
                %{
                  "classification" => "bug",
                  "includeLogs" => false,
                  "reason" => "slow",
                  "threadId" => "t"
                }, 30_000}

      assert %Codex.OptionError{
               reason: :missing,
               path: [:classification]
             } = refused(AppServer.feedback_upload(conn, []))
    end
  end

  test "invalid options are errors before anything is sent", %{conn: conn} do
    assert %Codex.OptionError{reason: :unknown, path: [:sandboxx], nearest: :sandbox} =
             refused(AppServer.thread_start(conn, sandboxx: 1))

    assert %Codex.OptionError{path: [:sandbox], value: :none} =
             refused(AppServer.thread_start(conn, sandbox: :none))

    assert %Codex.OptionError{path: [:approval_policy], value: "on-failure", expected: expected} =
             refused(AppServer.thread_start(conn, approval_policy: :on_failure))

    assert expected =~ ~S("untrusted", "on-request", "never")

    assert %Codex.OptionError{path: [:input], value: 7} =
             refused(AppServer.turn_start(conn, "t", 7))

    assert %Codex.OptionError{path: [:input, 0], value: {:text, "x"}} =
             refused(AppServer.turn_start(conn, "t", text: "x"))

    assert %Codex.OptionError{reason: :missing, path: [:thread_id]} =
             refused(AppServer.turn_start(conn, nil, "x"))

    assert %Codex.OptionError{reason: :missing, path: [:thread_id]} =
             refused(AppServer.thread_fork(conn))

    assert %Codex.OptionError{reason: :not_options, value: :cwd} =
             refused(AppServer.thread_start(conn, [:cwd]))

    assert %Codex.OptionError{reason: :not_options, value: "[redacted]"} =
             refused(AppServer.thread_list(conn, "x"))

    # Parameters by position cannot be given twice.
    assert :ok = AppServer.thread_archive(conn, "t", thread_id: "other")
    assert {_, %{"threadId" => "t"}, _} = sent()
  end

  test "the time for an answer", %{conn: conn} do
    assert {:ok, _} = AppServer.thread_list(conn, [], timeout_ms: 5)
    assert {_, _, 5} = sent()
    assert :ok = AppServer.turn_interrupt(conn, "t", "u", [], timeout_ms: :infinity)
    assert {_, _, :infinity} = sent()

    for odd <- [0, -1, 1.5, "5", 0x100000000] do
      assert %Codex.OptionError{path: [:timeout_ms], value: ^odd} =
               refused(AppServer.thread_list(conn, [], timeout_ms: odd))
    end

    assert %Codex.OptionError{reason: :unknown, path: [:timeout], nearest: :timeout_ms} =
             refused(AppServer.thread_list(conn, [], timeout: 5))

    assert %Codex.OptionError{reason: :not_options, value: 5} =
             refused(AppServer.thread_list(conn, [], 5))
  end

  test "request/4 sends methods that this version does not know", %{conn: conn} do
    assert AppServer.request(conn, "thread/clone", %{"threadId" => "t"}, timeout_ms: 9) ==
             {:ok, %{}}

    assert sent() == {"thread/clone", %{"threadId" => "t"}, 9}
    assert AppServer.request(conn, "thread/clone") == {:ok, %{}}
    assert sent() == {"thread/clone", nil, 30_000}

    assert %Codex.OptionError{path: [:a, 0], value: {1, 2}} =
             refused(AppServer.request(conn, "x", %{a: [{1, 2}]}))

    assert %Codex.OptionError{reason: :argument, key: :params, value: "[redacted]"} =
             refused(AppServer.request(conn, "x", a: 1))
  end

  @tag answer: {:error, %{"code" => -32600, "message" => "thread not found: t"}}
  test "the server's error comes back whole, and has a kind", %{conn: conn} do
    assert {:error, %{"code" => -32600} = error} = AppServer.thread_archive(conn, "t")
    assert Codex.Error.normalize(error).kind == :thread_not_found
    assert {:error, ^error} = AppServer.thread_read(conn, thread_id: "t")
  end

  @tag answer: :stop
  test "a connection that ends, or has ended, is an error", %{conn: conn} do
    Process.flag(:trap_exit, true)
    assert AppServer.model_list(conn) == {:error, {:app_server_down, %{reason: :shutdown}}}
    assert_receive {:EXIT, ^conn, :shutdown}
    assert AppServer.model_list(conn) == {:error, {:app_server_down, %{reason: :noproc}}}
  end
end
