defmodule Codex.Hooks.Set do
  @moduledoc false
  # The hooks of one turn: functions by event, and the process that reads the turn. Functions of one
  # argument are the host's. Those of two are of this package, and get the set, too.

  alias Codex.Hooks.Table

  @enforce_keys [:functions, :timeout_ms]
  defstruct [:functions, :timeout_ms, :reader, :counters, :spent, :ref, :context, more_ms: %{}]

  @typedoc """
    * `functions` - by event, in order
    * `timeout_ms`, `more_ms` - the time limit of a call, and what functions of this package need
      beyond it, by event
    * `reader` - gets `{reader, {:hook, ref, message}}`; nil without a turn
    * `counters` - the calls of the attempt; `spent` - what options count, for the whole call
    * `context` - data for telemetry and for policies of approvals
  """
  @type t :: %__MODULE__{
          functions: %{Table.name() => [function()]},
          timeout_ms: pos_integer(),
          more_ms: %{Table.name() => pos_integer()},
          reader: reference() | nil,
          ref: reference() | nil,
          counters: :atomics.atomics_ref() | nil,
          spent: :atomics.atomics_ref() | nil,
          context: map() | nil
        }

  @typedoc """
  A message to the reader of the turn:

    * `{:blocked, item}` - something was refused
    * `{:verdict, cause}` - the turn ends by itself, and has failed
    * `{:stop, cause}` - the turn is to end now
    * `{:check, from, text}` - `from` waits for the result so far, up to the message with this text
    * `{:masked, n}` - so many places of an output were masked
    * `:lost` - the CLI goes on without hooks
  """
  @type message ::
          {:blocked, struct()}
          | {:verdict | :stop, term()}
          | {:check, {pid(), reference()}, String.t() | nil}
          | {:masked, pos_integer()}
          | :lost

  # The CLI drops a hook after its limit, and goes on: a day is longer than any limit of ours.
  @day_s 86_400

  # Holds no words of a user, and no functions.
  defimpl Inspect do
    def inspect(set, _opts), do: "#Codex.Hooks.Set<#{Enum.join(Map.keys(set.functions), ", ")}>"
  end

  @doc "Returns a set of functions, each with its event and its time beyond the limit."
  @spec new([{Table.name(), function(), non_neg_integer()}, ...], pos_integer(), map()) :: t()
  def new(all, timeout_ms, context) do
    %__MODULE__{
      functions: Enum.group_by(all, &elem(&1, 0), &elem(&1, 1)),
      timeout_ms: timeout_ms,
      counters: counters(),
      spent: spent(),
      more_ms: Enum.reduce(all, %{}, fn {name, _f, ms}, more -> longer(more, name, ms) end),
      context: context
    }
  end

  defp longer(more, _name, 0), do: more
  defp longer(more, name, ms), do: Map.update(more, name, ms, &(&1 + ms))

  @doc """
  Returns the set for an attempt, whose reader gets messages by this alias. `spent` counts for all
  attempts of a call: see `spent/0`.
  """
  @spec begin(t(), reference(), :atomics.atomics_ref()) :: t()
  def begin(set, reader, spent),
    do: %{set | reader: reader, ref: make_ref(), counters: counters(), spent: spent}

  defp counters, do: :atomics.new(3, [])

  @doc "Returns counters for a call: what its attempts and turns use together."
  @spec spent() :: :atomics.atomics_ref()
  def spent, do: :atomics.new(4, [])

  @doc "Lists the events of the set."
  @spec events(t()) :: [Table.name()]
  def events(set), do: Map.keys(set.functions)

  @doc "Returns what a CLI of some versions lacks of these hooks, as `{name, first version}`."
  @spec parts(t()) :: [{String.t(), String.t()}]
  def parts(set) do
    for name <- events(set),
        version = Table.since(name),
        version != nil,
        do: {"the hook #{inspect(name)}", version}
  end

  @doc "Returns how long the CLI waits for each event, in seconds."
  @spec timeouts([Table.name()]) :: %{Table.name() => pos_integer()}
  def timeouts(events), do: Map.new(events, &{&1, @day_s})

  @doc "Returns the time limit of a call, in ms."
  @spec limit(t(), Table.name()) :: pos_integer()
  def limit(_set, :interrupt), do: 2_000
  def limit(set, name), do: min(set.timeout_ms + Map.get(set.more_ms, name, 0), max_ms())

  @doc "Returns the longest time limit, in ms."
  @spec max_ms() :: pos_integer()
  def max_ms, do: @day_s * 1_000

  @doc "Sends a message to the reader of the turn, if there is one."
  @spec tell(t(), message()) :: :ok
  def tell(%{reader: nil}, _message), do: :ok

  def tell(set, message) do
    send(set.reader, {set.reader, {:hook, set.ref, message}})
    :ok
  end

  @doc "Notes the beginning of a call."
  @spec begin_call(t()) :: :ok
  def begin_call(set), do: :atomics.add(set.counters, 2, 1)

  @doc "Notes the end of a call."
  @spec end_call(t()) :: :ok
  def end_call(set) do
    :ok = :atomics.put(set.counters, 3, System.monotonic_time(:millisecond))
    :atomics.sub(set.counters, 2, 1)
  end

  @doc "Returns whether a call was open within the last `ms`: it excuses the CLI's silence."
  @spec busy?(t(), non_neg_integer()) :: boolean()
  def busy?(set, ms) do
    :atomics.get(set.counters, 2) > 0 or
      (:atomics.get(set.counters, 1) > 0 and
         System.monotonic_time(:millisecond) - :atomics.get(set.counters, 3) < ms)
  end

  @doc "Notes that the CLI has called a hook."
  @spec called(t()) :: :ok
  def called(set), do: :atomics.add(set.counters, 1, 1)

  @doc "Returns whether the CLI has called a hook in this attempt."
  @spec called?(t()) :: boolean()
  def called?(set), do: :atomics.get(set.counters, 1) > 0

  @spent %{until: 1, tokens: 2, money: 3, begun: 4}

  @doc "Adds to a number of the call and returns the sum."
  @spec add(t(), :until | :tokens | :money | :begun, integer()) :: integer()
  def add(set, name, n), do: :atomics.add_get(set.spent, Map.fetch!(@spent, name), n)

  @doc "Returns a number of the call."
  @spec value(t(), :tokens | :money) :: integer()
  def value(set, name), do: :atomics.get(set.spent, Map.fetch!(@spent, name))
end
