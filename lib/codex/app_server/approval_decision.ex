defmodule Codex.AppServer.ApprovalDecision do
  @moduledoc false
  # Decisions of the host as the app-server takes them.

  @doc """
  The decision about a command or a file change.

      iex> import Codex.AppServer.ApprovalDecision
      iex> Enum.map([:allow, {:allow, for_session: true}, {:deny, :cancel}, {:deny, "no"}, :what], &from_hook/1)
      ["accept", "acceptForSession", "cancel", "decline", "decline"]
      iex> from_hook({:allow, execpolicy_amendment: ["mix", "test"]})
      %{"acceptWithExecpolicyAmendment" => %{"execpolicy_amendment" => ["mix", "test"]}}
  """
  @spec from_hook(term()) :: String.t() | map()
  def from_hook(:allow), do: "accept"

  def from_hook({:allow, opts}) when is_list(opts) or is_map(opts) do
    case Map.new(opts) do
      %{execpolicy_amendment: [_ | _] = words} ->
        %{"acceptWithExecpolicyAmendment" => %{"execpolicy_amendment" => words}}

      %{for_session: true} ->
        "acceptForSession"

      %{grant_root: root} when root not in [nil, false] ->
        "acceptForSession"

      _ ->
        "accept"
    end
  end

  def from_hook(cancel) when cancel in [:cancel, {:deny, :cancel}, {:deny, "cancel"}],
    do: "cancel"

  def from_hook(_denied), do: "decline"

  # What can be granted.
  @kinds ["fileSystem", "network"]

  @doc "What a request for permissions gets: what was asked for, or none of it."
  @spec permissions(term(), map()) :: map()
  def permissions(decision, params) do
    case decision do
      :allow ->
        granted(params, "turn")

      {:allow, opts} ->
        granted(params, if(Map.new(opts)[:for_session], do: "session", else: "turn"))

      _denied ->
        %{"permissions" => %{}, "scope" => "turn"}
    end
  end

  defp granted(params, scope) do
    asked =
      with %{} = asked <- params["permissions"], do: Map.take(asked, @kinds), else: (_ -> %{})

    %{"permissions" => asked, "scope" => scope}
  end
end
