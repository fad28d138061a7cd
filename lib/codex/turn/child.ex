defmodule Codex.Turn.Child do
  @moduledoc """
  A sub-agent of a turn, in `children` of `Codex.Turn.Result`.

    * `thread_id` - its thread; `Codex.resume_thread/3` takes the id
    * `parent_thread_id` - the thread of the agent that started it
    * `agent_path` - its place in the tree of agents, if the CLI names it
    * `prompt` - the task that it got first
    * `model`, `reasoning_effort` - those that it runs with; `codex exec` does not report them
    * `status` - `"pending_init"`, `"running"`, `"interrupted"`, `"completed"`, `"errored"`,
      `"shutdown"` or `"not_found"`, as far as the CLI has reported it
    * `message` - its answer, or the text of its error, as the parent got it
    * `usage` - its tokens during this turn, by the names of `usage` of the result. nil without the
      option `children: true`, and on `codex exec`

  A field is nil until the CLI has reported it.
  """

  alias Codex.{Events, Items}
  alias Codex.Turn.Usage

  @enforce_keys [:thread_id]
  defstruct [
    :thread_id,
    :parent_thread_id,
    :agent_path,
    :prompt,
    :model,
    :reasoning_effort,
    :status,
    :message,
    :usage
  ]

  @typedoc "A sub-agent of a turn. Fields: see above."
  @type t :: %__MODULE__{
          thread_id: String.t(),
          parent_thread_id: String.t() | nil,
          agent_path: String.t() | nil,
          prompt: String.t() | nil,
          model: String.t() | nil,
          reasoning_effort: String.t() | nil,
          status: String.t() | nil,
          message: String.t() | nil,
          usage: map() | nil
        }

  # A turn has a few sub-agents. More are not listed.
  @most 4096

  @typedoc false
  @type seen :: %{
          String.t() => {order :: non_neg_integer(), t(), before :: map() | :unknown | nil}
        }

  @doc false
  @spec note(seen(), Codex.Events.t() | term()) :: seen()
  def note(seen, %{item: %Items.CollabToolCall{} = call}), do: call(seen, call)

  def note(seen, %{item: %Items.SubAgentActivity{} = item} = event) do
    update(seen, item.agent_thread_id, %{
      parent_thread_id: if(item.kind == "started", do: event.thread_id),
      agent_path: item.agent_path,
      model: item.model,
      reasoning_effort: item.reasoning_effort,
      status: status(item.kind)
    })
  end

  def note(seen, %Events.Child{thread_id: id, event: event}),
    do: seen |> update(id, of_event(event)) |> usage(id, event) |> note(event)

  def note(seen, _event), do: seen

  @doc false
  @spec list(seen()) :: [t()]
  def list(seen) when seen == %{}, do: []
  def list(seen), do: for({_, child, _} <- Enum.sort(Map.values(seen)), do: child)

  # The agents that a call names, and those whose state its answer has.
  defp call(seen, %{tool: tool, agents_states: states} = call) do
    started =
      if tool == "spawn_agent" do
        %{
          parent_thread_id: call.sender_thread_id,
          prompt: call.prompt,
          model: call.model,
          reasoning_effort: call.reasoning_effort
        }
      else
        %{}
      end

    seen = Enum.reduce(List.wrap(call.receiver_thread_ids), seen, &update(&2, &1, started))
    states = if is_map(states), do: states, else: %{}
    Enum.reduce(states, seen, fn {id, state}, seen -> update(seen, id, state(state)) end)
  end

  defp state(%{"status" => status} = state) when is_binary(status),
    do: %{status: Macro.underscore(status), message: state["message"]}

  defp state(_other), do: %{}

  defp status("started"), do: "running"
  defp status("interacted"), do: "running"
  defp status(kind) when kind in ["interrupted", "completed"], do: kind
  defp status(_other), do: nil

  defp of_event(%Events.TurnStarted{}), do: %{status: "running"}

  defp of_event(%Events.TurnCompleted{status: status}) when is_binary(status),
    do: %{status: Macro.underscore(status)}

  defp of_event(%Events.TurnFailed{error: error}) do
    message = if is_map(error), do: error["message"]
    %{status: "errored", message: message}
  end

  defp of_event(%Events.ItemCompleted{item: %Items.AgentMessage{text: text}}),
    do: %{message: text}

  defp of_event(%Events.ThreadSettingsUpdated{thread_settings: %{} = settings}),
    do: %{model: settings["model"], reasoning_effort: settings["effort"]}

  defp of_event(_event), do: %{}

  # The first report of a thread shows the tokens from before this turn.
  defp usage(seen, id, %Events.ThreadTokenUsageUpdated{usage: %{} = total, delta: last}) do
    case seen do
      %{^id => {order, child, before}} ->
        before = before || if(is_map(last), do: elem(Usage.share(total, last), 0), else: :unknown)
        {usage, _scope} = Usage.share(total, before)
        %{seen | id => {order, %{child | usage: usage}, before}}

      _too_many ->
        seen
    end
  end

  defp usage(seen, _id, _event), do: seen

  defp update(seen, id, news) when is_binary(id) do
    case seen do
      %{^id => {order, child, before}} ->
        %{seen | id => {order, merge(child, news), before}}

      _ when map_size(seen) < @most ->
        Map.put(seen, id, {map_size(seen), merge(%__MODULE__{thread_id: id}, news), nil})

      _too_many ->
        seen
    end
  end

  defp update(seen, _id, _news), do: seen

  # Only texts are news: older servers send an empty model first.
  defp merge(child, news) do
    Enum.reduce(news, child, fn {name, value}, child ->
      if is_binary(value) and value != "", do: Map.replace!(child, name, value), else: child
    end)
  end
end
