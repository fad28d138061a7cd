defmodule Codex.Config.OverridesTest do
  use ExUnit.Case, async: true
  doctest Codex.Config.Overrides
  doctest Codex.Config.Constrained

  alias Codex.Config.{Constrained, ConstraintError, Overrides}

  defp options(global, thread) do
    {:ok, global} = Codex.Options.new(global)
    {:ok, thread} = Codex.Thread.Options.new(thread)
    {global, thread}
  end

  test "the thread's value beats the client's; nothing that was not set" do
    {global, thread} = options([model_verbosity: :low], model_verbosity: :high)
    assert Overrides.derived_overrides(global, thread) == [{"model_verbosity", "high"}]
    assert Overrides.derived_overrides(elem(options([], []), 0)) == []
    {global, thread} = options([], request_handler: fn _ -> :later end, personality: :none)
    assert Overrides.derived_overrides(global, thread) == [{"personality", "none"}]
    {global, thread} = options([], apply_patch_freeform_enabled: true)

    assert_raise ArgumentError, ~r/apply_patch_freeform_enabled/, fn ->
      Overrides.derived_overrides(global, thread)
    end
  end

  test "a configuration keeps its values under any kind of key" do
    {global, thread} = options([], network_access_enabled: true, personality: :none)

    for mine <- [
          %{"sandbox_workspace_write.network_access" => 1},
          %{sandbox_workspace_write: %{network_access: 1}},
          %{"sandbox_workspace_write" => %{"network_access" => 1}}
        ] do
      assert Overrides.merge_config(mine, global, thread) == Map.put(mine, "personality", "none")
    end

    {global, thread} = options([], [])
    assert Overrides.merge_config(nil, global, thread) == nil
    assert Overrides.merge_config(%{}, global, thread) == %{}
  end

  test "arguments" do
    assert Overrides.cli_args(["", "a=1", {"b.c", [1]}, {:d, %{"e.f" => true}}]) ==
             ["--config", "a=1", "--config", "b.c=[1]", "--config", ~S(d={"e.f" = true})]

    assert_raise ArgumentError, ~r/"k"/, fn -> Overrides.cli_args([{"k", nil}]) end
  end

  test "constraints" do
    any = Constrained.allow_any(1)
    assert Constrained.can_set?(any, 2)
    but = Constrained.allow_not(1, [2])
    assert {:ok, %{value: 3}} = Constrained.set(but, 3)

    assert {:error,
            %ConstraintError{type: :invalid_value, candidate: "2", disallowed: "[2]"} = error} =
             Constrained.set(but, 2)

    assert Exception.message(error) == "invalid value 2, not allowed: [2]"

    assert Exception.message(%ConstraintError{type: :empty_field, field_name: "model"}) ==
             "model must not be empty"
  end
end
