defmodule Codex.Turn.Repair do
  @moduledoc false
  # Runs a turn and, with the options `output` and `repair`, further turns of its thread as long as
  # the answer does not fit the schema, as one series of elements. A further turn begins with
  # `{:repair, n}` and `{:attempts, n}`; its prompt names the faults.
  #
  # Only an answer is repaired: a turn that failed or was interrupted, and a turn without a message
  # (a model that refuses sends none), end the series.

  alias Codex.{Events, Turn}
  alias Codex.Retry.Plan
  alias Codex.Schema.{Decoder, Words}
  alias Codex.Turn.{Attempts, Cancellation, Job}

  # What a prompt names of the faults.
  @max_faults 20
  @max_message 500

  # The turn of a job without a thread.
  @no_thread %{
    thread_id: nil,
    resume: nil,
    fork_of: nil,
    thread_opts: nil,
    continuation_token: nil,
    rate_limits: nil,
    metadata: %{},
    labels: %{},
    usage: %{}
  }

  @enforce_keys [:job, :plan, :opts, :attempts, :left]
  defstruct [:job, :plan, :opts, :attempts, :left, :turn, number: 0, runs: 0]

  @typedoc """
    * `left` - how many further turns are allowed
    * `turn` - the running turn, nil if nothing depends on its result
    * `number`, `runs` - how many further turns began, and the attempts before the running turn
  """
  @type t :: %__MODULE__{}
  @type element :: Attempts.element() | {:repair, pos_integer()}

  @doc "Returns a series that has not begun. Arguments as for `Codex.Turn.Attempts.new/4`."
  @spec new(Job.t(), Plan.t() | nil, map()) :: t()
  def new(%{settings: settings} = job, plan, opts) do
    %__MODULE__{
      job: job,
      plan: plan,
      opts: opts,
      attempts: Attempts.new(job, plan, opts),
      left: settings.repair,
      turn: turn(settings, job.thread || @no_thread)
    }
  end

  # A check of the option `until` gets the events, too.
  defp turn(%{until: %{}} = settings, thread), do: Turn.new(thread, false, settings)
  defp turn(%{repair: 0}, _thread), do: nil
  defp turn(_settings, thread), do: %{Turn.new(thread, false) | keep?: false}

  @doc "Returns the next elements, perhaps none; `:halt` after the last."
  @spec next(t()) :: {[element()], t()} | :halt
  def next(state) do
    case Attempts.next(state.attempts) do
      {elements, attempts} -> observe(elements, %{state | attempts: attempts})
      :halt -> ended(state)
    end
  end

  @doc "Stops the attempt that runs."
  @spec stop(t()) :: t()
  def stop(state), do: %{state | attempts: Attempts.stop(state.attempts)}

  defp observe(elements, %{turn: nil} = state), do: {elements, state}
  defp observe(elements, state), do: Enum.flat_map_reduce(elements, state, &observe_one/2)

  # The last message may still be on its way.
  defp observe_one({:check, {pid, ref}, text}, %{turn: turn} = state) do
    read? = text == nil or (turn.message != nil and turn.message.text == text)
    send(pid, {ref, if(read?, do: {:ok, Turn.so_far(turn)}, else: :not_yet)})
    {[], state}
  end

  defp observe_one({:attempts, n}, state), do: {[{:attempts, state.runs + n}], state}

  # The reader knows the thread of a further turn.
  defp observe_one(%Events.ThreadStarted{thread_id: id}, %{number: n, turn: turn} = state)
       when n > 0 and id == turn.thread.thread_id,
       do: {[], state}

  defp observe_one(element, state) do
    {_element, turn} = Turn.add(state.turn, element)
    {[element], %{state | turn: turn}}
  end

  defp ended(%{left: 0}), do: :halt

  defp ended(state) do
    with {:ok, %{final_response: %{text: text}, thread: %{thread_id: id}}}
         when is_binary(text) and is_binary(id) <- Turn.result(state.turn),
         {:error, {:invalid_output, faults}} <- Decoder.decode(state.job.settings.output, text),
         false <- Cancellation.cancelled?(state.opts.call) or last?(state.job) do
      again(state, {:resume, id, prompt(faults)})
    else
      _fits_or_has_no_answer -> :halt
    end
  end

  defp last?(%{last?: nil}), do: false
  defp last?(%{last?: last?}), do: last?.()

  defp again(state, how) do
    number = state.number + 1
    runs = state.runs + state.attempts.number
    {_element, turn} = Turn.add(state.turn, {:repair, number})
    attempts = Attempts.new(state.job, state.plan, state.opts, how)

    {[{:repair, number}, {:attempts, runs + 1}],
     %{
       state
       | attempts: attempts,
         left: state.left - 1,
         number: number,
         runs: runs,
         turn: turn
     }}
  end

  defp prompt(faults) do
    lines = for fault <- Enum.take(faults, @max_faults), do: "- " <> line(fault)

    Enum.join(
      ["Your last answer does not fit the required JSON schema:"] ++
        lines ++ ["Answer again with the whole corrected JSON document, and nothing else."],
      "\n"
    )
  end

  defp line(fault),
    do: [fault] |> Words.faults("") |> Codex.Text.line() |> String.slice(0, @max_message)
end
