defmodule Codex.Approvals do
  @moduledoc """
  Policies that answer the agent's requests for approval. A thread gets one with the option
  `approval_hook` or `approval_policy`; the hook wins.

      # Compare the whole command as the shell gets it: a part of it proves nothing about the rest.
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

  Events are maps with atom keys. `type` is one of

    * `:command_execution_approval` - with `command`, `cwd`, `proposed_execpolicy_amendment`
    * `:file_change_approval` - with `grant_root`; the changes are in the item of that `item_id`,
      whose event came before
    * `:permissions_approval` - with `permissions`, as the server sent them, and `cwd`
    * `:mcp_tool_approval` - with `server_name`, `tool_name`, `arguments`: the agent wants to call a
      tool of an MCP server; a hook decides with `c:Codex.Approvals.Hook.review_tool/3`

  All have `thread_id`, `turn_id`, `item_id` and `reason` (nil if the server gives no reason), and
  `token` and `expires_at` of the request (`Codex.AppServer.Request`). The context is a map with
  `thread`, `metadata` and `transport` (`:app_server`).

  ## Decisions

    * `:allow`, `{:allow, opts}` - options: `for_session: true`, `grant_root: path` (for files, the
      same as `for_session`), `execpolicy_amendment: words` (allows commands with this beginning
      permanently), `always: true` (allows the MCP tool permanently)
    * `{:deny, reason}` - the turn continues without it; the reason `:cancel` ends the turn
    * `{:async, ref}`, `{:async, ref, metadata}` - `await/2` of the hook returns the decision
    * `{:rewrite, input}` - on `codex exec` only: the tool gets this input, a map or the command as
      text. Over an app-server, use the hook `pre_tool_use`
    * `:later` - any process answers the event's `token` with `Codex.AppServer.answer/2` before
      `expires_at`; no process waits for that

  Over an app-server the reason of a denial is not sent, because the protocol has no field for it.
  The request is
  denied if the policy returns anything else (also an unknown option), crashes, lacks the callback,
  or does not decide within `approval_timeout_ms`; the first two are logged. The idle timeout is
  suspended while a decision is pending. A policy runs in its own process, which ends with the
  reader of the turn.

  ## On codex exec

  `codex exec` asks for no approvals. There the policy is a hook (`Codex.Hooks`) and decides about
  every command, patch and call of an MCP tool, also those that an app-server would not ask about.
  `transports/0` returns the differences as data.
  """

  alias Codex.Approvals.{Crash, Spans, StaticPolicy}
  alias Codex.Options.Schema

  @typedoc """
  A module with the callbacks of `Codex.Approvals.Hook`, a function of the event, or a static
  policy.
  """
  @type policy :: module() | function() | StaticPolicy.t()
  @typedoc "The decision of a policy, with options of `:allow` or the reason of `:deny`. See above."
  @type decision :: :allow | {:allow, keyword() | map()} | {:deny, term()}

  @callbacks %{
    command_execution_approval: :review_command,
    file_change_approval: :review_file,
    permissions_approval: :review_permissions,
    mcp_tool_approval: :review_tool
  }

  @doc """
  Returns how a policy works on each transport.

    * `asked` - `:on_request`: about what the CLI wants an approval for, by `ask_for_approval` and
      sandbox. `:every_call`: about each command, patch and call of an MCP tool
    * `events` - the types of events
    * `decisions` - the decisions with an effect. On `codex exec`, `:later` denies
    * `reason` - whether the model reads the reason of a denial

        iex> Codex.Approvals.transports().exec.asked
        :every_call
  """
  @spec transports() :: %{
          (:exec | :app_server) => %{
            asked: :every_call | :on_request,
            events: [atom()],
            decisions: [atom()],
            reason: boolean()
          }
        }
  def transports do
    events = @callbacks |> Map.keys() |> Enum.sort()

    %{
      app_server: %{
        asked: :on_request,
        events: events,
        decisions: [:allow, :deny, :later],
        reason: false
      },
      exec: %{
        asked: :every_call,
        events: events -- [:permissions_approval],
        decisions: [:allow, :deny, :rewrite],
        reason: true
      }
    }
  end

  @doc """
  Decides whether a host tool may run: `:allow` or `{:deny, reason}`. An asynchronous decision is
  awaited; if the hook has no `await/2`, the result is its `{:async, …}`.

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
    opts = Schema.pairs!(opts)

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
  # Asks a policy about an event of the app-server. Always returns a decision or `:later`.
  @spec decide(policy(), map(), map(), timeout()) ::
          decision() | :later | {:rewrite, map() | String.t()}
  def decide(policy, event, context, timeout) do
    callback = Map.fetch!(@callbacks, event.type)

    case review(policy, callback, event, context, timeout: timeout) do
      async when is_tuple(async) and elem(async, 0) == :async -> later(policy, async, timeout)
      {:rewrite, _input} = decision when context.transport == :exec -> decision
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
    do: if(options?(opts), do: allowed, else: invalid())

  defp decision(:cancel), do: {:deny, :cancel}
  defp decision({:deny, _} = denied), do: denied
  defp decision(_other), do: invalid()

  defp invalid do
    Crash.invalid(
      "the approval policy",
      "returned no decision, so the request is denied: see Codex.Approvals"
    )

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
