defmodule Codex.Batch.Node do
  @moduledoc """
  Offers a node for the jobs of batches: a process that makes the node a member of a group, with
  labels.

      children = [
        {Codex.Batch.Node, group: MyApp.Codex, labels: [repo: "shop", repo: "billing"]}
      ]

  A batch that any connected node reads with `nodes: {:group, MyApp.Codex}` then runs jobs here. A
  job with `on: [repo: "shop"]` runs on nodes that have this label. The node is a member while the
  process runs: end it to take the node out, for example before a deploy. Running jobs go on.

  The group is a process group of OTP (`:pg`), so it knows connected nodes only; the application
  connects its nodes. Only nodes that trust each other may be connected.

  ## Options

    * `:group` - any term that names the group (required)
    * `:labels` - a map or keyword list (default `[]`). Names are compared as strings
  """
  use GenServer

  alias Codex.Batch.Job
  alias Codex.OptionError
  alias Codex.Options.Schema

  # The scope of `:pg`, which the application starts.
  @scope __MODULE__

  @schema Schema.new([
            {:group, :any, "names the group", required: true, expected: "any term but nil"},
            {:labels, :labels, "labels of the node",
             default: [], expected: "labels, as a map or keyword"}
          ])

  @doc """
  Makes this node a member of a group, as long as the process runs, which is linked to the caller.

  Returns `{:error, error}` with a `Codex.OptionError` for invalid options.
  """
  @spec start_link(keyword() | map()) :: {:ok, pid()} | {:error, OptionError.t()}
  def start_link(options) do
    with {:ok, opts} <- Schema.validate(@schema, options, &cast/2) do
      :ok = Codex.Started.check!()
      GenServer.start_link(__MODULE__, opts)
    end
  end

  @doc "Returns the child specification for `start_link/1`. Its id has the group."
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(options) do
    group = options |> Schema.pairs!() |> Enum.find_value(fn {k, v} -> k == :group && v end)
    %{id: {__MODULE__, group}, start: {__MODULE__, :start_link, [options]}}
  end

  defp cast(:labels, value), do: Job.labels(value)
  defp cast(_type, _value), do: :error

  @doc """
  Lists the members of a group on connected nodes, with their labels. A node with several such
  processes is listed with the labels of all.
  """
  @spec list(term()) :: [{node(), [{String.t(), term()}]}]
  def list(group) do
    :ok = Codex.Started.check!()

    members =
      for {^group, labels} = name <- :pg.which_groups(@scope),
          pid <- :pg.get_members(@scope, name),
          do: {node(pid), labels}

    members
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.map(fn {node, labels} -> {node, labels |> Enum.concat() |> Enum.uniq()} end)
  end

  @doc false
  def scope, do: %{id: @scope, start: {:pg, :start_link, [@scope]}}

  @impl true
  def init(%{group: group, labels: labels}) do
    monitor = Process.monitor(@scope)
    :ok = :pg.join(@scope, {group, Enum.sort(labels)}, self())
    {:ok, monitor}
  end

  # The groups are gone: the supervisor restarts this process, which joins again.
  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, monitor),
    do: {:stop, :shutdown, monitor}

  def handle_info(_other, monitor), do: {:noreply, monitor}
end
