defmodule Codex.Doctor.Check.Keyring do
  @moduledoc false
  # Whether there is a keyring, and whether it is open. What that means depends on who needs it.

  alias Codex.Auth.Store
  alias Codex.Doctor.{Check, Place}

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(%Place{context: nil} = place),
    do: {Check.new(:keyring, :skipped, "it takes the configuration to know who needs it"), place}

  def run(%Place{context: context, preflight: preflight} = place) do
    {state, words} = state(Store.probe(context))
    needed? = context.store == :keyring and not preflight.ready?

    detail = %{
      text: "logins: #{context.store}; tokens of MCP servers: #{context.mcp_store}",
      state: state,
      store: context.store,
      mcp_store: context.mcp_store
    }

    status = status(state, context, needed?)
    {Check.new(:keyring, status, words <> so(status, state, context.store), [detail]), place}
  end

  defp state(:ok), do: {:open, "open"}
  defp state({:error, {:locked, _words}}), do: {:locked, "locked"}
  defp state({:error, {:unavailable, words}}), do: {:unavailable, words}
  defp state({:error, {:timeout, words}}), do: {:timeout, words}
  defp state({:error, {_kind, words}}), do: {:failed, words}

  defp status(:open, _context, _needed?), do: :ok
  defp status(_state, _context, true), do: :error

  defp status(_state, %{store: store}, _needed?) when store in [:keyring, :auto, :encrypted],
    do: :warning

  defp status(_state, _context, _needed?), do: :ok

  defp so(:ok, :open, _store), do: ""
  defp so(:ok, _state, _store), do: "; no login is kept there"
  defp so(:error, _state, _store), do: "; the login is kept there"
  defp so(:warning, _state, :encrypted), do: "; what the CLI encrypts needs it"
  defp so(:warning, _state, _store), do: "; `codex exec` does without"
end
