defmodule Codex.Hooks do
  @moduledoc """
  Functions of the application in the agent's loop: they see, refuse, rewrite and extend what the
  agent does, on `codex exec` and over an app-server, without a process of the system for each call.

      hooks = [
        pre_tool_use: fn
          %{tool_name: "Bash", tool_input: %{"command" => "rm " <> _}} -> {:deny, "no deletions"}
          _event -> :allow
        end,
        post_tool_use: fn event -> MyApp.Audit.write(event) && :allow end
      ]

      {:ok, thread} = Codex.start_thread([], hooks: hooks)

  The option `hooks` of a thread or a turn is a module with the callbacks of this behaviour, a
  keyword list of functions by event, or a list of both. Those of the turn come after those of the
  thread.

      defmodule MyApp.Hooks do
        use Codex.Hooks

        @impl true
        def stop(%{last_assistant_message: text}) do
          if MyApp.done?(text), do: :allow, else: {:continue, "Run the tests, too."}
        end
      end

  ## Events and answers

  #{for name <- Codex.Hooks.Table.names() do
    row = Codex.Hooks.Table.row(name)
    answers = Enum.map_join(row.answers, ", ", &Codex.Hooks.Answer.shape/1)
    "  * `#{name}` - `#{inspect(row.module)}`: #{answers}\n"
  end}
  The answers are:

    * `:allow` - no objection; `:ok` says the same, but for `permission_request`
    * `{:deny, reason}` - the tool, the prompt or the thread does not begin; the model reads the
      reason. A prompt that was denied is an error of the kind `:blocked`
    * `{:rewrite, input}` - the tool gets this input instead: a map, or the command as text
    * `{:context, text}` - the model reads the text, too
    * `{:replace_output, text}` - the model reads this instead of the tool's output. The events of
      the turn and the session file of the CLI keep the output
    * `{:continue, reason}` - the turn goes on, and the model reads the reason. The CLI has no limit
      for this: see the option `until`
    * `:ask` - the approval is asked for as if there were no hook

  Several functions of one event run in order. Each sees the input or output that the former has
  made of it; the first denial is the answer; texts add up.

  An answer that the event does not take, an exception, an exit, and an answer that is not there
  within `hook_timeout_ms` are a denial where the event has one, withhold the output after a tool,
  and are logged. Elsewhere the turn goes on.

  ## How they run

  Each call runs in a process of its own, which ends with the turn, and calls run at the same time.
  On `codex exec` the hooks belong to one run. Over an app-server they belong to the thread: the
  server learns the events when the thread is started, resumed or forked on a connection. Later
  turns may have hooks for these events.

  Before a tool runs, the CLI is known to call the hooks: an app-server lists them as trusted, and
  on `codex exec` the prompt has passed them. Otherwise the run ends with an error of the kind
  `:blocked`. Hooks of the user's configuration and of the administrator stay as they are.

  An action that was refused is a `Codex.Items.HookBlocked` in the stream, and `blocked` of
  `Codex.Turn.Result` counts these. The guide `guides/hooks.md` shows what no hook sees.

  The events and answers are those of the CLI; see its documentation of hooks.
  """

  alias Codex.DidYouMean
  alias Codex.Hooks.{PermissionRequest, PostCompact, PostModelRequest, PostToolUse, PreCompact}
  alias Codex.Hooks.{PreModelRequest, PreToolUse, SessionStart, Stop, SubagentStart, SubagentStop}
  alias Codex.Hooks.{Interrupt, Table, UserPromptSubmit}
  alias Codex.Options.Type

  @typedoc "The name of an event."
  @type name :: unquote(Enum.reduce(Table.names(), &{:|, [], [&1, &2]}))

  @typedoc "Functions by event, in order."
  @type functions :: [{name(), (struct() -> term())}]

  @typedoc "A module with this behaviour, functions by event, or a list of both."
  @type t :: module() | [module() | {name(), (struct() -> term())} | [{name(), function()}]]

  @typedoc "No objection."
  @type allow :: :ok | :allow
  @typedoc "A refusal; the model reads the reason."
  @type deny :: {:deny, String.t()}
  @typedoc "A text that the model reads, too."
  @type context :: {:context, String.t()}

  @doc "Answers before the first prompt of a thread, and after a compaction."
  @callback session_start(SessionStart.t()) :: allow() | deny() | context()
  @doc "Answers before a prompt."
  @callback user_prompt_submit(UserPromptSubmit.t()) :: allow() | deny() | context()
  @doc "Sees a request to the model before it leaves."
  @callback pre_model_request(PreModelRequest.t()) :: allow()
  @doc "Sees the answer of the model, with its tokens."
  @callback post_model_request(PostModelRequest.t()) :: allow()
  @doc "Answers before a call of a tool."
  @callback pre_tool_use(PreToolUse.t()) ::
              allow() | deny() | context() | {:rewrite, map() | String.t()}
  @doc "Answers instead of the person who would be asked for an approval."
  @callback permission_request(PermissionRequest.t()) :: :allow | deny() | :ask
  @doc "Answers after a call of a tool."
  @callback post_tool_use(PostToolUse.t()) ::
              allow() | context() | {:replace_output, String.t()}
  @doc "Sees the beginning of a compaction."
  @callback pre_compact(PreCompact.t()) :: allow()
  @doc "Sees the end of a compaction."
  @callback post_compact(PostCompact.t()) :: allow()
  @doc "Answers when a sub-agent starts."
  @callback subagent_start(SubagentStart.t()) :: allow() | context()
  @doc "Answers before a sub-agent ends."
  @callback subagent_stop(SubagentStop.t()) :: allow() | {:continue, String.t()}
  @doc "Answers before a turn ends."
  @callback stop(Stop.t()) :: allow() | {:continue, String.t()}
  @doc "Sees an interrupt of the turn."
  @callback interrupt(Interrupt.t()) :: allow()

  @optional_callbacks for name <- Table.names(), do: {name, 1}

  @session_end "the CLI runs no function of the application at the end of a session"

  @doc "Makes the calling module one with this behaviour."
  defmacro __using__(_opts) do
    quote do
      @behaviour Codex.Hooks
    end
  end

  @doc """
  Returns the functions of the option `hooks`, by event and in order. The error is a sentence.

      iex> {:ok, [stop: stop]} = Codex.Hooks.functions([[stop: fn _event -> :allow end]])
      iex> is_function(stop, 1)
      true
      iex> Codex.Hooks.functions(stopp: fn _event -> :allow end)
      {:error, "unknown event :stopp. Did you mean :stop?"}
  """
  @spec functions(t() | term()) :: {:ok, functions()} | {:error, String.t()}
  def functions(hooks) when is_list(hooks) do
    if List.improper?(hooks),
      do: {:error, "expected a proper list"},
      else: each(hooks, [])
  end

  def functions(module) when is_atom(module) and module not in [nil, true, false],
    do: of_module(module)

  def functions(other),
    do: {:error, "expected a module or functions by event, got: #{Type.kind(other)}"}

  defp each([], done), do: {:ok, done |> Enum.reverse() |> List.flatten()}

  defp each([entry | rest], done) do
    with {:ok, functions} <- entry(entry), do: each(rest, [functions | done])
  end

  defp entry({:session_end, _function}), do: {:error, "no event :session_end: #{@session_end}"}

  defp entry({name, function}) when is_atom(name) do
    cond do
      Table.row(name) == nil -> {:error, unknown(name)}
      is_function(function, 1) -> {:ok, [{name, function}]}
      true -> {:error, "expected a function of one argument for #{inspect(name)}"}
    end
  end

  defp entry(other), do: functions(other)

  defp unknown(name),
    do: "unknown event #{inspect(name)}" <> hint(DidYouMean.nearest(name, Table.names()))

  defp hint(nil), do: ""
  defp hint(name), do: ". Did you mean #{inspect(name)}?"

  defp of_module(module) do
    callbacks =
      case Code.ensure_loaded(module) do
        {:module, _} -> for name <- Table.names(), function_exported?(module, name, 1), do: name
        {:error, _} -> []
      end

    if callbacks == [],
      do: {:error, "expected a module with callbacks of Codex.Hooks, got: #{inspect(module)}"},
      else: {:ok, for(name <- callbacks, do: {name, Function.capture(module, name, 1)})}
  end
end
