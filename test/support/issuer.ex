defmodule Codex.Issuer do
  @moduledoc """
  Who issues tokens, on loopback: as much of it as a login with a code asks for. It answers `pending` times that nobody has typed the
  code yet.
  """

  alias Codex.{Http, JSON, Logins}

  @doc "Starts one, linked to the caller. Returns an agent, for `paths/1`, and the URL."
  def start!(opts \\ []) do
    opts = Map.merge(%{pending: 1, workspace: "acc-1", paths: []}, Map.new(opts))
    {:ok, agent} = Agent.start_link(fn -> opts end)

    {agent,
     Http.start!(fn path, _body -> Agent.get_and_update(agent, &answer(path, seen(&1, path))) end)}
  end

  @doc "Paths that were asked for, in order."
  def paths(agent), do: Agent.get(agent, &Enum.reverse(&1.paths))

  defp seen(state, path), do: %{state | paths: [path | state.paths]}

  defp answer("/api/accounts/deviceauth/usercode", state) do
    {{200, %{device_auth_id: "device-1", user_code: "ABCD-12345", interval: "1"}}, state}
  end

  defp answer("/api/accounts/deviceauth/token", %{pending: n} = state) when n > 0,
    do: {{403, %{error: "pending"}}, %{state | pending: n - 1}}

  defp answer("/api/accounts/deviceauth/token", state) do
    {{200, %{authorization_code: "code-1", code_challenge: "c", code_verifier: "v"}}, state}
  end

  defp answer("/oauth/token", state) do
    {:ok, %{"tokens" => tokens}} = JSON.decode(Logins.chatgpt(workspace: state.workspace))
    {{200, tokens}, state}
  end

  defp answer(_other, state), do: {{404, %{error: "unknown"}}, state}
end
