defmodule Codex.Hooks.Call do
  @moduledoc false
  # Answers one call of the CLI: runs the functions of the event in order, in the process of the
  # call, and tells the reader of the turn what was refused. It fails closed: whatever is wrong is a
  # denial, if the event has one.

  alias Codex.Approvals.Crash
  alias Codex.Hooks.{Answer, Set, Table}
  alias Codex.Items.HookBlocked
  alias Codex.Telemetry

  @failed "the hook of the application failed"
  @late "the hook of the application took too long"
  @gone "the application is gone"
  @withheld "[the output is withheld: "

  @type why :: :crashed | :late | :too_many

  @doc "Returns the event of the arguments of a call, or nil."
  @spec event(map(), String.t() | nil) :: {Table.name(), struct()} | nil
  def event(%{"event" => named} = arguments, thread_id) do
    case Table.named(named) do
      nil ->
        nil

      name ->
        row = Table.row(name)
        fields = for {field, _doc} <- row.fields, do: {field, arguments["#{field}"]}
        {name, struct!(row.module, [{:thread_id, thread_id || arguments["session_id"]} | fields])}
    end
  end

  def event(_arguments, _thread_id), do: nil

  @doc "Returns the answer for a call that no hooks are known for."
  @spec closed(term()) :: String.t()
  def closed(%{"event" => named}) do
    name = Table.named(named) || :pre_tool_use
    Answer.encode(name, refusal(Answer.none(), name, @gone))
  end

  def closed(_arguments), do: closed(%{"event" => nil})

  @doc "Runs the functions of an event and returns the answer for the CLI."
  @spec run(Set.t(), Table.name(), struct()) :: String.t()
  def run(set, name, event) do
    :ok = Set.called(set)
    began = System.monotonic_time()
    functions = Map.get(set.functions, name, [])
    # Without a function of its own, an approval is the client's to decide.
    none = if functions == [], do: Answer.merge(Answer.none(), :ask), else: Answer.none()
    {answer, event} = Enum.reduce_while(functions, {none, event}, &step(&1, &2, name, set))
    done(set, name, event, answer, began, nil)
  end

  @doc "Returns the answer of a call without one. It runs outside of the process of the call."
  @spec failed(Set.t(), Table.name(), struct(), why()) :: String.t()
  def failed(set, name, event, why) do
    :ok = Set.called(set)
    words = if why == :late, do: @late, else: @failed
    :ok = Crash.invalid("the hook #{name}", log(why))
    done(set, name, event, refusal(Answer.none(), name, words), System.monotonic_time(), why)
  end

  defp log(:late), do: "gave no answer in time"
  defp log(:crashed), do: "was ended before its answer"
  defp log(:too_many), do: "was not asked, because too many calls run at the same time"

  defp step(function, {answer, event}, name, set) do
    with {:ok, returned} <- call(function, event, set, name),
         {:ok, checked} <- checked(event, name, returned) do
      answer = Answer.merge(answer, checked)
      {if(answer.deny, do: :halt, else: :cont), {answer, seen(event, checked)}}
    else
      :failed -> {:halt, {refusal(answer, name, @failed), event}}
    end
  end

  # The next function sees what this one has made of it.
  defp seen(event, {:rewrite, input}), do: %{event | tool_input: input}
  defp seen(event, {:replace_output, text}), do: %{event | tool_response: text}
  defp seen(event, _other), do: event

  defp call(function, event, set, name) do
    {:ok, if(is_function(function, 1), do: function.(event), else: function.(event, set))}
  catch
    kind, reason ->
      Crash.log("the hook #{name}", kind, reason, __STACKTRACE__)
      :failed
  end

  defp checked(event, name, returned) do
    with {:error, words} <- Answer.check(event, name, returned) do
      Crash.invalid("the hook #{name}", "returned no valid answer: #{words}")
      :failed
    end
  end

  defp refusal(answer, name, words) do
    takes = Table.row(name).answers

    cond do
      :deny in takes ->
        Answer.merge(answer, {:deny, words})

      :replace_output in takes ->
        Answer.merge(answer, {:replace_output, @withheld <> words <> "]"})

      true ->
        answer
    end
  end

  defp done(set, name, event, answer, began, why) do
    if answer.deny, do: blocked(set, name, event, answer.deny)
    observe(set, name, event, answer, began, why)
    Answer.encode(name, answer)
  end

  defp blocked(set, name, event, reason) do
    :ok = Set.tell(set, {:blocked, item(name, event, reason)})

    # The CLI ends the turn without a request, and as if it were completed.
    if name in [:session_start, :user_prompt_submit] and event.thread_id == event.session_id,
      do: Set.tell(set, {:verdict, {:blocked, name, reason}})
  end

  defp item(name, event, reason) do
    %HookBlocked{
      id: Map.get(event, :tool_use_id),
      event: name,
      tool: Map.get(event, :tool_name),
      input: Map.get(event, :tool_input),
      reason: reason,
      thread_id: event.thread_id,
      source: :host
    }
  end

  defp observe(%{context: context}, name, event, answer, began, why) do
    if Telemetry.listening?() do
      meta = %{
        event: name,
        tool: Map.get(event, :tool_name),
        answer: kinds(answer),
        failure: why,
        thread_id: event.thread_id,
        turn_id: Map.get(event, :turn_id)
      }

      measurements = Map.put(Telemetry.spent(began), :system_time, System.system_time())
      prefix = (context || %{})[:telemetry_prefix] || [:codex]
      Telemetry.execute(prefix ++ [:hook, :stop], measurements, meta)
    end
  end

  defp kinds(answer) do
    cond do
      answer.deny -> :deny
      answer.output -> :replace_output
      answer.input -> :rewrite
      answer.continue != [] -> :continue
      answer.context != [] -> :context
      answer.ask? -> :ask
      true -> :allow
    end
  end
end
