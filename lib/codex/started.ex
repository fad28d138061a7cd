defmodule Codex.Started do
  @moduledoc false
  # Checks that the application runs. Every public function that needs one of its processes calls
  # this first, so that a release command or a script gets a sentence, and not the exit of a call to
  # a private name.

  @doc "Raises unless the application runs."
  @spec check!() :: :ok
  def check! do
    if Process.whereis(Codex.Supervisor) == nil do
      raise "the application :codex_sdk is not started: " <>
              "call Application.ensure_all_started(:codex_sdk) first"
    end

    :ok
  end
end
