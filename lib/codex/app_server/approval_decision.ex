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

  @doc """
  Whether these are options of a decision. Others are no decision: a word that is not known must not be more, or less, than was meant.

      iex> import Codex.AppServer.ApprovalDecision
      iex> Enum.map([[for_session: true], [for_sesion: true], [execpolicy_amendment: "mix"], %{}, [1]], &options?/1)
      [true, false, false, true, false]
  """
  @spec options?(term()) :: boolean()
  def options?(opts) when is_struct(opts), do: false

  def options?(opts) do
    (is_map(opts) or Keyword.keyword?(opts)) and Enum.all?(opts, &option?/1)
  end

  defp option?({name, value}) when name in [:for_session, :always], do: is_boolean(value)
  defp option?({:grant_root, root}), do: is_binary(root) or root in [nil, true, false]

  defp option?({:execpolicy_amendment, words}),
    do:
      is_list(words) and not List.improper?(words) and words != [] and
        Enum.all?(words, &is_binary/1)

  defp option?(_other), do: false

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
