defmodule Codex.Surface.Shapes.Runs do
  @moduledoc false
  # Scripted runs of `codex exec` and of an app-server that produce the kinds of messages that a
  # model, a provider and a host can cause. Commands and patches run in a temporary workspace.

  import Codex.Test.Steps

  alias Codex.{AppServer, JSON}
  alias Codex.CLI.Command
  alias Codex.Surface.Program

  @mcp Path.expand("../../../../test/children/mcp.sh", __DIR__)

  @config """
  features.request_permissions_tool = true

  [mcp_servers.tiny]
  command = #{JSON.encode!(@mcp)}
  """

  @patch """
  *** Begin Patch
  *** Add File: new.txt
  +hello
  *** Update File: a.txt
  @@
  -alpha
  +ALPHA
  *** Update File: b.txt
  *** Move to: c.txt
  @@
  -beta
  +BETA
  *** Delete File: old.txt
  *** End Patch
  """

  @type message :: {kind :: String.t(), map()}

  @doc "Returns the messages of all runs with their kinds."
  @spec messages(Program.t()) :: {:ok, [message()]} | {:error, String.t()}
  def messages(program) do
    with {:ok, worked} <- exec(program, work() ++ ["Done."], []),
         {:ok, failed} <- exec(program, [cut([]), refused()], ["--model", "unknown"]),
         {:ok, served} <- serve(program) do
      {:ok, Enum.flat_map(Enum.map(worked ++ failed, &{:exec, &1}) ++ served, &kind/1)}
    end
  end

  # Sent at the start of the server, before or after the subscription.
  defp kind({:notification, method, _params})
       when method in ["configWarning", "remoteControl/status/changed"],
       do: []

  # An item is a message of its own.
  defp kind({:exec, %{"type" => type, "item" => %{"type" => item} = inner} = event}),
    do: [{"exec event " <> type, %{event | "item" => nil}}, {"exec item " <> item, inner}]

  defp kind({:exec, %{"type" => type} = event}), do: [{"exec event " <> type, event}]

  defp kind({:notification, method, %{"item" => %{"type" => item} = inner} = params}),
    do: [{"notification " <> method, %{params | "item" => nil}}, {"item " <> item, inner}]

  defp kind({kind, method, %{} = params}), do: [{"#{kind} #{method}", params}]

  # The steps of a turn that works.
  defp work do
    [
      respond([
        reasoning("think", deltas: ["th", "ink"], content: "thought"),
        update_plan([{"a", :in_progress}, "b"]),
        shell("for i in 1 2 3 4; do sleep 0.2; echo $i; done; exit 3")
      ]),
      respond([update_plan([{"a", :completed}, "b"]), apply_patch(@patch), shell("echo hi")]),
      respond([
        tool_call("echo", %{text: "x"}, namespace: "mcp__tiny"),
        tool_call("fail", %{}, namespace: "mcp__tiny"),
        web_search("q")
      ])
    ]
  end

  defp refused, do: http_error(400, %{error: %{message: "no"}})

  defp start(script, fun) do
    Program.with_model(script, [config: @config, default: "Done.", retries: 1], fn model ->
      for {name, text} <- [{"a.txt", "alpha\n"}, {"b.txt", "beta\n"}, {"old.txt", "old\n"}],
          do: File.write!(Path.join(model.workspace, name), text)

      fun.(model)
    end)
  end

  ## exec

  defp exec(program, script, flags) do
    start(script, fn model ->
      argv =
        [program.path, "exec", "--json", "--skip-git-repo-check"] ++
          ["--dangerously-bypass-approvals-and-sandbox" | flags] ++ ["go"]

      env = Map.put(model.env, "CODEX_HOME", model.home)

      case Command.run(argv, env: env, cwd: model.workspace) do
        {:ok, %{stdout: out, exit: %{status: status}}} when status in [0, 1] and out != "" ->
          events(out)

        {:ok, %{stderr: stderr}} ->
          {:error, "`codex exec` failed: #{Command.text(stderr)}"}

        {:error, reason} ->
          {:error, "`codex exec` failed: #{inspect(reason)}"}
      end
    end)
  end

  defp events(out) do
    Enum.reduce_while(String.split(out, "\n", trim: true), {:ok, []}, fn line, {:ok, events} ->
      case JSON.decode(line) do
        {:ok, %{"type" => _} = event} ->
          {:cont, {:ok, [event | events]}}

        _other ->
          text = "`codex exec --json` wrote a line that is no event: "
          {:halt, {:error, text <> String.slice(line, 0, 200)}}
      end
    end)
  end

  ## app-server

  @tool %{
    "type" => "function",
    "name" => "weather",
    "description" => "The weather",
    "inputSchema" => %{"type" => "object", "properties" => %{}}
  }
  @free %{"sandbox" => "danger-full-access", "approvalPolicy" => "never"}
  @asking %{"sandbox" => "read-only", "approvalPolicy" => "on-request", "dynamicTools" => [@tool]}
  @plan %{
    "collaborationMode" => %{
      "mode" => "plan",
      "settings" => %{
        "model" => "codex-test",
        "reasoning_effort" => nil,
        "developer_instructions" => nil
      }
    }
  }

  @add "*** Begin Patch\n*** Add File: added.txt\n+hello\n*** End Patch\n"
  @question %{
    id: "q",
    header: "Pick",
    question: "Which?",
    options: [%{label: "A", description: "a"}, %{label: "B", description: "b"}]
  }

  # A thread is its parameters and its turns: a method, parameters, and the steps of the model.
  defp threads do
    turn = &{"turn/start", Map.merge(%{"input" => [%{"type" => "text", "text" => "go"}]}, &1), &2}
    free = &turn.(%{}, &1)

    failures = [
      [refused()],
      [http_error(429, %{error: %{type: "usage_limit_reached", message: "no"}})],
      [failed("context_length_exceeded", "no")],
      [failed("server_is_overloaded", "no")],
      # These are tried twice.
      [http_error(401), http_error(401)],
      [http_error(429), http_error(429)],
      [http_error(500), http_error(500)],
      [cut([]), cut([])]
    ]

    [
      {@free,
       [
         free.(work() ++ [message("done", deltas: ["do", "ne"], phase: "final_answer")]),
         {"thread/compact/start", %{}, ["A summary."]},
         {"review/start",
          %{
            "target" => %{"type" => "custom", "instructions" => "Look"},
            "delivery" => "inline"
          }, [json(%{findings: [], overall_correctness: "patch is correct"})]},
         free.([cut([]), "Again."])
       ]},
      {@asking,
       [
         free.([
           shell("echo hi", sandbox_permissions: "require_escalated", justification: "why"),
           apply_patch(@add),
           tool_call("weather", %{}),
           tool_call("ask", %{}, namespace: "mcp__tiny"),
           tool_call("request_permissions", %{
             permissions: %{network: %{enabled: true}},
             reason: "why"
           }),
           "Done."
         ]),
         turn.(@plan, [
           tool_call("request_user_input", %{questions: [@question]}),
           "So:\n<proposed_plan>\n1. Look\n</proposed_plan>"
         ])
       ]},
      {@free, Enum.map(failures, free)}
    ]
  end

  defp serve(program) do
    script = for {_thread, turns} <- threads(), {_, _, steps} <- turns, step <- steps, do: step

    start(script, fn model ->
      options = Keyword.put(Codex.Test.options(model), :codex_path, program.path)

      case AppServer.connect(options, cwd: model.workspace, experimental_api: true) do
        {:ok, conn} ->
          try do
            :ok = AppServer.subscribe(conn)
            run(conn, model, threads())
          after
            AppServer.disconnect(conn)
          end

        {:error, error} ->
          {:error, "`codex app-server` did not start: #{Codex.Error.normalize(error).message}"}
      end
    end)
  end

  defp run(conn, model, threads) do
    Enum.reduce_while(threads, {:ok, []}, fn {params, turns}, {:ok, seen} ->
      params = Map.put(params, "cwd", model.workspace)

      with {:ok, %{"thread" => %{"id" => id}}} <-
             AppServer.request(conn, "thread/start", params),
           {:ok, more} <- turns(conn, id, turns) do
        {:cont, {:ok, seen ++ more}}
      else
        {:error, text} when is_binary(text) -> {:halt, {:error, text}}
        other -> {:halt, failed_request("thread/start", other)}
      end
    end)
  end

  defp turns(conn, id, turns) do
    Enum.reduce_while(turns, {:ok, []}, fn {method, params, _steps}, {:ok, seen} ->
      case turn(conn, id, method, params) do
        {:ok, more} -> {:cont, {:ok, seen ++ more}}
        error -> {:halt, error}
      end
    end)
  end

  defp turn(conn, id, method, params) do
    case AppServer.request(conn, method, Map.put(params, "threadId", id)) do
      {:ok, _started} -> collect(conn, id, method, [])
      other -> failed_request(method, other)
    end
  end

  defp failed_request(method, {:error, error}),
    do: {:error, "#{method} failed: #{Codex.Error.normalize(error).message}"}

  defp failed_request(method, other),
    do: {:error, "#{method} has an unexpected answer: #{inspect(other)}"}

  # The messages until the turn of the thread is over.
  defp collect(conn, id, started, seen) do
    receive do
      {:codex_notification, "turn/completed" = method, %{"threadId" => ^id} = params} ->
        {:ok, Enum.reverse([{:notification, method, params} | seen])}

      {:codex_notification, method, params} ->
        collect(conn, id, started, [{:notification, method, params || %{}} | seen])

      {:codex_request, request, method, params} ->
        _ = AppServer.respond(conn, request, answer(method))
        collect(conn, id, started, [{:request, method, params} | seen])
    after
      20_000 -> {:error, "the app-server sent no turn/completed of #{started}"}
    end
  end

  defp answer("item/tool/call"),
    do: %{"contentItems" => [%{"type" => "inputText", "text" => "warm"}], "success" => true}

  defp answer("item/tool/requestUserInput"), do: %{"answers" => %{"q" => %{"answers" => ["A"]}}}
  defp answer("item/permissions/requestApproval"), do: %{"permissions" => %{}, "scope" => "turn"}

  defp answer("mcpServer/elicitation/request"),
    do: %{"action" => "accept", "content" => %{"name" => "Ann"}}

  defp answer(_approval), do: %{"decision" => "accept"}
end
