defmodule Codex.Batch.PlacementTest do
  use ExUnit.Case, async: true

  alias Codex.Batch.{Job, Placement}
  alias Codex.Error

  @nodes [{:a@h, [{"repo", "shop"}]}, {:b@h, [{"repo", "shop"}, {"gpu", true}]}, {:c@h, []}]

  defp new(more \\ []) do
    {:ok, nodes} = Placement.nodes(@nodes)
    Placement.new(Map.merge(%{nodes: nodes, max_per_node: nil, node_wait_ms: 100}, Map.new(more)))
  end

  defp job(on \\ []) do
    {:ok, job} = Job.new(%{prompt: "x", on: on}, 0, %{thread: [], turn: []})
    job
  end

  defp place(placement, job, count) do
    Enum.map_reduce(1..count, placement, fn _, placement ->
      {:ok, node, placement} = Placement.place(placement, job)
      {node, placement}
    end)
  end

  test "a job goes to the node with its labels that runs the fewest" do
    {nodes, placement} = place(new(), job(), 6)
    assert nodes == [:a@h, :b@h, :c@h, :a@h, :b@h, :c@h]
    placement = Placement.ended(placement, :b@h, :ok)
    assert {:ok, :b@h, placement} = Placement.place(placement, job(repo: "shop"))
    assert {:ok, :b@h, _} = Placement.place(placement, job(%{"repo" => "shop", :gpu => true}))
    assert :wait = Placement.place(placement, job(repo: "other"))
  end

  test "a full node gets no job" do
    {[:b@h], placement} = place(new(max_per_node: 1), job(gpu: true), 1)
    assert :wait = Placement.place(placement, job(gpu: true))
    placement = Placement.ended(placement, :b@h, :ok)
    assert {:ok, :b@h, _} = Placement.place(placement, job(gpu: true))
  end

  test "a node that was lost is left alone for a while, longer each time" do
    {[:a@h], placement} = place(new(), job(), 1)
    placement = Placement.ended(placement, :a@h, :lost)
    assert {:ok, :b@h, _} = Placement.place(placement, job())
    assert %{away: %{a@h: {_until, ms, nil}}} = placement
    # Another job of the same moment.
    placement = Placement.ended(placement, :a@h, :lost)
    assert %{away: %{a@h: {_until, ^ms, nil}}} = placement

    placement = put_in(placement.away[:a@h], {System.monotonic_time(:millisecond) - 1, ms, nil})
    assert {:ok, :a@h, placement} = Placement.place(placement, job())
    placement = Placement.ended(placement, :a@h, :lost)
    assert {_until, longer, nil} = placement.away[:a@h]
    assert longer == 2 * ms
    assert %{away: away} = Placement.ended(placement, :a@h, :ok)
    assert away == %{}
  end

  test "a job fails when all of its nodes refuse it" do
    error = Error.new(:config, "another version")
    {[:b@h], placement} = place(new(), job(gpu: true), 1)
    placement = Placement.ended(placement, :b@h, {:refused, error})
    assert {:error, ^error} = Placement.place(placement, job(gpu: true))
    assert {:ok, :a@h, _} = Placement.place(placement, job(repo: "shop"))
  end

  test "a job that had begun goes back to its node" do
    begun = %{job() | state: {:begun, "id", :z@h}}
    assert {:ok, :z@h, _} = Placement.place(new(), begun)
    here = node()
    assert {:ok, ^here, _} = Placement.place(new(), %{begun | state: {:begun, "id", nil}})
  end
end
