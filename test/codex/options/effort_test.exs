defmodule Codex.Options.EffortTest do
  use ExUnit.Case, async: true

  alias Codex.Models
  alias Codex.Options.{Effort, Table}

  doctest Codex.Options.Effort

  test "every effort is read from its atom and its word, and written as its word" do
    for effort <- Models.reasoning_efforts() do
      word = Atom.to_string(effort)
      assert Models.reasoning_effort_to_string(effort) == word
      assert Models.reasoning_effort_to_string(word) == word

      for form <- [effort, word, String.upcase(word), "  #{word}\n"],
          do: assert(Models.normalize_reasoning_effort(form) == {:ok, effort})
    end
  end

  test "extra high has several spellings" do
    for form <- [:extra_high, "extra_high", "extra-high", "Extra High", "EXTRA-HIGH"] do
      assert Models.normalize_reasoning_effort(form) == {:ok, :xhigh}
      assert Models.reasoning_effort_to_string(form) == "xhigh"
    end
  end

  test "a blank value means not set; anything else is an error with the value" do
    for blank <- [nil, "", "  \n"],
        do: assert(Models.normalize_reasoning_effort(blank) == {:ok, nil})

    for bad <- ["turbo", :turbo, true, 3, %{}, ["low"], <<255>>, self()] do
      assert Models.normalize_reasoning_effort(bad) == {:error, {:invalid_reasoning_effort, bad}}
    end

    assert_raise ArgumentError, ~r/:minimal, .*got: :turbo/, fn ->
      Models.reasoning_effort_to_string(:turbo)
    end
  end

  test "a word from the wire never becomes a new atom" do
    word = "effort-#{System.unique_integer([:positive])}"
    assert Effort.from_wire(word) == word
    assert Effort.parse(word) == :error
    assert_raise ArgumentError, fn -> String.to_existing_atom(word) end
  end

  test "the option takes the same words, in any spelling, and others as they are" do
    for {given, sent} <- [
          {:xhigh, "xhigh"},
          {:extra_high, "xhigh"},
          {"Extra-High", "xhigh"},
          {" HIGH ", "high"},
          {:ultra, "ultra"},
          {"turbo", "turbo"},
          {"Turbo High", "Turbo High"}
        ] do
      # An atom stays an atom.
      kept = if is_atom(given), do: String.to_existing_atom(sent), else: sent
      assert {:ok, %{reasoning_effort: ^kept}} = Codex.Options.new(reasoning_effort: given)
      assert {:ok, %{reasoning_effort: ^kept}} = Codex.Thread.Options.new(reasoning: given)
    end

    assert {:error, %Codex.OptionError{key: :reasoning_effort, value: 3}} =
             Codex.Options.new(reasoning_effort: 3)

    # The documentation is made of the same list.
    for effort <- Effort.all(),
        do: assert(Table.docs(:global) =~ "`#{inspect(effort)}`")
  end
end
