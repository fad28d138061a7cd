defmodule Codex.Batch.Placement do
  @moduledoc false
  # The nodes of a batch, and the number of jobs on each. A job goes to the node that may run it and
  # runs the fewest. A node that was lost, or refused a job, is left alone for a while.

  alias Codex.Batch.{Job, Result}
  alias Codex.{Error, OptionError}
  alias Codex.Options.Type

  # How long a node is left alone: doubled each time, until it has run a job.
  @least_ms 500
  @most_ms 30_000

  @enforce_keys [:nodes, :max, :wait_ms]
  defstruct @enforce_keys ++ [load: %{}, away: %{}]

  @typedoc "Labels of a node: names and values."
  @type labels :: [{String.t(), term()}]

  @typedoc """
    * `nodes` - the option of the batch; nil is this node
    * `max` - the most jobs of a node; `load` - the jobs of each
    * `away` - nodes that are left alone: until when, for how long, and the error of a refusal
  """
  @type t :: %__MODULE__{
          nodes: nil | [{node(), labels()}] | {:group, term()} | (map() -> node() | [node()]),
          max: pos_integer() | nil,
          wait_ms: timeout(),
          load: %{node() => pos_integer()},
          away: %{node() => {integer(), pos_integer(), Error.t() | nil}}
        }

  @doc "Checks the option `nodes`."
  @spec nodes(term()) :: {:ok, term()} | :error
  def nodes(fun) when is_function(fun, 1), do: {:ok, fun}
  def nodes({:group, name}), do: {:ok, {:group, name}}

  def nodes([_ | _] = list) do
    if List.improper?(list), do: :error, else: Type.each(list, &node_of/1)
  end

  def nodes(_other), do: :error

  defp node_of({node, labels}) do
    with {:ok, {node, []}} <- node_of(node), {:ok, labels} <- Job.labels(labels) do
      {:ok, {node, labels}}
    else
      _invalid -> :error
    end
  end

  defp node_of(node) when is_atom(node) do
    if node == node() or node |> Atom.to_string() |> String.contains?("@"),
      do: {:ok, {node, []}},
      else: :error
  end

  defp node_of(_other), do: :error

  @doc "Returns the placement of no job."
  @spec new(map()) :: t()
  def new(opts),
    do: %__MODULE__{nodes: opts.nodes, max: opts.max_per_node, wait_ms: opts.node_wait_ms}

  @doc """
  Chooses the node of a job, and counts it. A job that has begun goes to the node where it ran.
  Returns `:wait` if no node can run it now, and an error if no node will.
  """
  @spec place(t(), Job.t()) :: {:ok, node(), t()} | :wait | {:error, Error.t() | OptionError.t()}
  def place(placement, %{state: {:begun, _id, node}}) when node != nil,
    do: {:ok, node, count(placement, node)}

  # Without a node, the job ran on the node that read the batch.
  def place(placement, %{state: {:begun, _id, nil}}), do: {:ok, node(), count(placement, node())}

  def place(%{nodes: nil} = placement, %{on: []}), do: {:ok, node(), placement}

  def place(%{nodes: nil}, %{on: [_ | _]}),
    do: {:error, OptionError.invalid(:on, "[redacted]", "left out: the batch has no :nodes")}

  def place(placement, job) do
    nodes = candidates(placement.nodes, job)
    free = Enum.filter(nodes, &free?(placement, &1))

    cond do
      free != [] ->
        node = Enum.min_by(free, &{Map.get(placement.load, &1, 0), &1})
        {:ok, node, count(placement, node)}

      nodes != [] and Enum.all?(nodes, &refused?(placement, &1)) ->
        {_until, _ms, error} = placement.away[hd(nodes)]
        {:error, error}

      true ->
        :wait
    end
  end

  defp candidates({:group, name}, job), do: labelled(Codex.Batch.Node.list(name), job)
  defp candidates(nodes, job) when is_list(nodes), do: labelled(nodes, job)

  defp candidates(fun, job) do
    job = %{key: job.key, prompt: job.prompt, cwd: job.cwd, on: Map.new(job.on)}
    job |> fun.() |> List.wrap()
  end

  defp labelled(nodes, %{on: wanted}),
    do: for({node, labels} <- nodes, wanted -- labels == [], uniq: true, do: node)

  defp free?(placement, node) do
    away = placement.away[node]

    (away == nil or elem(away, 0) <= now()) and
      (placement.max == nil or Map.get(placement.load, node, 0) < placement.max)
  end

  defp refused?(placement, node), do: match?({_until, _ms, %{}}, placement.away[node])

  defp count(%{nodes: nil} = placement, _node), do: placement

  defp count(placement, node),
    do: %{placement | load: Map.update(placement.load, node, 1, &(&1 + 1))}

  @doc "Notes that a job left its node: it ended, or nothing of it ran, since the node was lost."
  @spec ended(t(), node(), :ok | :lost | {:refused, Error.t()}) :: t()
  def ended(%{nodes: nil} = placement, _node, _how), do: placement

  def ended(placement, node, how) do
    load = Map.update(placement.load, node, 0, &max(&1 - 1, 0))
    away(%{placement | load: load}, node, how)
  end

  defp away(placement, node, :ok), do: %{placement | away: Map.delete(placement.away, node)}
  defp away(placement, node, :lost), do: put_away(placement, node, nil)
  defp away(placement, node, {:refused, error}), do: put_away(placement, node, error)

  defp put_away(placement, node, error) do
    now = now()

    ms =
      case placement.away[node] do
        # Other jobs of the same moment.
        {until, ms, _error} when until > now -> ms
        {_until, ms, _error} -> min(ms * 2, @most_ms)
        nil -> @least_ms
      end

    %{placement | away: Map.put(placement.away, node, {now + ms, ms, error})}
  end

  @doc "Returns whether a job has waited long enough for a node."
  @spec expired?(t(), non_neg_integer()) :: boolean()
  # `:infinity` is above every number.
  def expired?(placement, waited_ms), do: waited_ms >= placement.wait_ms

  @doc "Returns the result of a job that no node can run."
  @spec nowhere(t(), Job.t()) :: Result.t()
  def nowhere(placement, job) do
    labels = if job.on == [], do: "", else: " with the labels #{words(job.on)}"
    message = "no node#{labels} could run the job within #{placement.wait_ms} ms"
    Result.without_turn(job, :failed, Error.new(:connection_refused, message))
  end

  defp words(labels),
    do:
      Enum.map_join(labels, ", ", fn {name, value} ->
        "#{name}: #{Codex.Text.line(inspect(value))}"
      end)

  defp now, do: System.monotonic_time(:millisecond)
end
