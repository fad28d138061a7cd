defmodule Codex.Approvals do
  @moduledoc """
  Who decides what the agent may do, where it asks: the options `approval_hook` and `approval_policy` of a thread (the hook wins).

      # The whole command, as the shell gets it: a part of it says nothing of the rest.
      policy = fn
        %{command: "/bin/bash -lc 'mix test'"} -> :allow
        _event -> {:deny, "only tests"}
      end

      {:ok, thread} =
        Codex.start_thread([],
          transport: {:app_server, conn},
          ask_for_approval: :on_request,
          approval_policy: policy
        )

  A policy is

    * a module with the behaviour `Codex.Approvals.Hook`,
    * a function of the event; of event and context; or of event, context and options,
    * a `Codex.Approvals.StaticPolicy`.

  ## Events

  Maps with atom keys. `type` is

    * `:command_execution_approval` - with `command`, `cwd`, `proposed_execpolicy_amendment`
    * `:file_change_approval` - with `grant_root`; what changes is in the item of that `item_id`, which began before
    * `:permissions_approval` - with `permissions`, as the server sent them, and `cwd`
    * `:mcp_tool_approval` - with `server_name`, `tool_name`, `arguments`: a tool of an MCP server is to be called; a hook's `c:Codex.Approvals.Hook.review_tool/3`
      decides

  All have `thread_id`, `turn_id`, `item_id` and `reason`, nil where the server says none, and `token` and `expires_at` of the request
  (`Codex.AppServer.Request`). The context is a map of `thread`, `metadata` and `transport` (`:app_server`).

  ## Decisions

    * `:allow`, `{:allow, opts}` - options: `for_session: true`, `grant_root: path` (the same for files),
      `execpolicy_amendment: words` (commands that begin so are allowed from now on: it persists), `always: true` (of MCP tools, which persists, too)
    * `{:deny, reason}` - the turn goes on without it; with `:cancel` as the reason it ends
    * `{:async, ref}`, `{:async, ref, metadata}` - the hook's `await/2` tells it later
    * `:later` - somebody answers by the event's `token`, with `Codex.AppServer.answer/2`, before `expires_at`; no process waits for that

  The reason of a denial stays here: the server has no word for it (0.169). Anything else (also an option that is none), a crash, a hook without the callback, and no decision within `approval_timeout_ms` are a no; the log tells of the first two. While somebody decides, the
  clocks for silence stand still. A policy runs in a process of its own, which ends with the one that reads the turn.
  """

  alias Codex.Approvals.{Crash, Spans, StaticPolicy}

  @type policy :: module() | function() | StaticPolicy.t()
  @type decision :: :allow | {:allow, keyword() | map()} | {:deny, term()}

  @callbacks %{
    command_execution_approval: :review_command,
    file_change_approval: :review_file,
    permissions_approval: :review_permissions,
    mcp_tool_approval: :review_tool
  }

  @doc """
  Whether a tool of the host may run: `:allow` or `{:deny, reason}`. An asynchronous decision is awaited; a hook without `await/2`
  gives its `{:async, …}` back.

  No policy, an event with `requires_approval: false`, and an event with `approved` (or
  `approved_by_policy`) are `:allow`. The keys of the event are atoms or strings; the policy gets
  the event as it is. Option: `:timeout` (ms, default 30_000), for decisions that are awaited.

  If a policy is asked, `:telemetry` gets the events `[:codex, :approval, …]` of
  `Codex.Telemetry`, with `tool_name`, `call_id`, `thread_id` and `turn_id` of the event, else of
  the context or its `thread`.

      iex> Codex.Approvals.review_tool(fn _event -> {:deny, "no"} end, %{tool_name: "x"}, %{})
      {:deny, "no"}
      iex> Codex.Approvals.review_tool(nil, %{tool_name: "x"}, %{})
      :allow
  """
  @spec review_tool(policy() | nil, map(), map(), keyword()) ::
          :allow | {:deny, term()} | {:async, term()} | {:async, term(), term()}
  def review_tool(policy, event, context, opts \\ [])
  def review_tool(nil, _event, _context, _opts), do: :allow

  def review_tool(policy, event, context, opts) when is_map(event) do
    opts = Codex.Options.Keywords.list!(opts)

    if Spans.field(event, :requires_approval) == false or
         Spans.field(event, :approved) not in [nil, false] or
         Spans.field(event, :approved_by_policy) not in [nil, false],
       do: :allow,
       else: Spans.review(event, context, fn -> ask(policy, event, context, opts) end)
  end

  defp ask(policy, event, context, opts) do
    case review(policy, :review_tool, event, context, opts) do
      {:allow, _opts} -> :allow
      :allow -> :allow
      async when elem(async, 0) == :async -> awaited(policy, async, opts)
      other -> denial(other)
    end
  end

  defp awaited(policy, async, opts) do
    if is_atom(policy) and function_exported?(policy, :await, 2) do
      case await(policy, async, opts[:timeout] || 30_000) do
        {:error, :timeout} -> {:deny, "approval timeout"}
        {:error, reason} -> {:deny, "approval error: #{inspect(reason)}"}
        {:ok, {:allow, _opts}} -> :allow
        {:ok, :allow} -> :allow
        {:ok, other} -> denial(other)
      end
    else
      async
    end
  end

  defp denial({:deny, _} = denied), do: denied
  defp denial(_other), do: {:deny, "no decision"}

  @doc false
  @spec policy?(term()) :: boolean()
  def policy?(%StaticPolicy{}), do: true
  def policy?(policy) when is_function(policy), do: arity(policy) in 1..3
  def policy?(policy), do: is_atom(policy) and policy not in [nil, true, false]

  @doc false
  # Whether these are options of a decision. A decision with an unknown option is refused: it could
  # mean more, or less, than the host meant.
  @spec options?(term()) :: boolean()
  def options?(opts) when is_struct(opts), do: false

  def options?(opts),
    do: (is_map(opts) or Keyword.keyword?(opts)) and Enum.all?(opts, &option?/1)

  defp option?({name, value}) when name in [:for_session, :always], do: is_boolean(value)
  defp option?({:grant_root, root}), do: is_binary(root) or root in [nil, true, false]

  defp option?({:execpolicy_amendment, words}),
    do:
      is_list(words) and not List.improper?(words) and words != [] and
        Enum.all?(words, &is_binary/1)

  defp option?(_other), do: false

  @doc false
  # What a policy says to an event of the app-server, within this time. Whatever it does, the result is a decision, or `:later`.
  @spec decide(policy(), map(), map(), timeout()) :: decision() | :later
  def decide(policy, event, context, timeout) do
    callback = Map.fetch!(@callbacks, event.type)

    case review(policy, callback, event, context, timeout: timeout) do
      async when is_tuple(async) and elem(async, 0) == :async -> later(policy, async, timeout)
      decision -> decision(decision)
    end
  catch
    kind, reason ->
      Crash.log("the approval policy", kind, reason, __STACKTRACE__)
      {:deny, :failed}
  end

  defp later(policy, async, timeout) do
    with true <- is_atom(policy) and function_exported?(policy, :await, 2),
         {:ok, decision} <- await(policy, async, timeout) do
      decision(decision)
    else
      _ -> {:deny, :undecided}
    end
  end

  defp decision(decision) when decision in [:allow, :later], do: decision

  defp decision({:allow, opts} = allowed),
    do: if(options?(opts), do: allowed, else: odd())

  defp decision(:cancel), do: {:deny, :cancel}
  defp decision({:deny, _} = denied), do: denied
  defp decision(_other), do: odd()

  defp odd do
    Crash.odd("the approval policy", "gave no decision, which is a no: see Codex.Approvals")
    {:deny, :undecided}
  end

  defp await(policy, async, timeout), do: policy.await(elem(async, 1), timeout)

  defp review(%StaticPolicy{} = policy, _callback, event, context, _opts),
    do: StaticPolicy.review_tool(policy, event, context)

  defp review(fun, _callback, event, _context, _opts) when is_function(fun, 1), do: fun.(event)

  defp review(fun, _callback, event, context, _opts) when is_function(fun, 2),
    do: fun.(event, context)

  defp review(fun, _callback, event, context, opts) when is_function(fun, 3),
    do: fun.(event, context, opts)

  defp review(module, callback, event, context, opts) when is_atom(module) do
    _ = Code.ensure_loaded(module)

    case Enum.find([callback, :review_tool], &function_exported?(module, &1, 3)) do
      nil -> {:deny, "#{inspect(module)} has no #{callback}/3"}
      found -> apply(module, found, [event, prepared(module, event, context), opts])
    end
  end

  defp review(_other, _callback, _event, _context, _opts), do: {:deny, "no policy"}

  defp prepared(module, event, context) do
    with true <- function_exported?(module, :prepare, 2),
         {:ok, context} <- module.prepare(event, context) do
      context
    else
      _ -> context
    end
  end

  defp arity(fun), do: fun |> Function.info(:arity) |> elem(1)
end
