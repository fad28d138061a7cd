defmodule Codex.AppServer.Params do
  @moduledoc false
  # Values that the functions of `Codex.AppServer` take in more forms than the protocol has. Unknown
  # values stay as they are: the check of the protocol names them.

  alias Codex.Input
  alias Codex.Options.{Effort, Sandbox, Type}

  @doc """
      iex> alias Codex.AppServer.Params
      iex> Enum.map([:on_request, "on_failure", "later"], &Params.ask_for_approval/1)
      ["on-request", "on-failure", "later"]
  """
  @spec ask_for_approval(term()) :: term()
  def ask_for_approval({:granular, kinds}), do: [granular: kinds]

  def ask_for_approval(policy) do
    case Sandbox.word(policy) do
      known when known in ~w(untrusted on_failure on_request never) ->
        String.replace(known, "_", "-")

      _ ->
        policy
    end
  end

  @doc "Returns the sandbox of a thread; see `Codex.Options.Sandbox.mode/1`."
  @spec sandbox_mode(term()) :: term()
  defdelegate sandbox_mode(mode), to: Sandbox, as: :mode

  @doc """
  Returns the sandbox of a turn, from a map, a keyword list, or the type alone. The network is a
  boolean, but for the external sandbox.

      iex> alias Codex.AppServer.Params
      iex> Params.sandbox_policy(%{"type" => "workspace-write", network_access: :enabled})
      %{"type" => "workspaceWrite", "networkAccess" => true}
      iex> Params.sandbox_policy(type: :external_sandbox, network_access: true)
      %{"type" => "externalSandbox", "networkAccess" => "enabled"}
      iex> Params.sandbox_policy(:strict)
      %{"type" => "readOnly"}
  """
  @spec sandbox_policy(term()) :: term()
  def sandbox_policy({:external_sandbox, network}),
    do: sandbox_policy(type: :external_sandbox, network_access: network)

  def sandbox_policy(type) when is_atom(type) or is_binary(type),
    do: with(%{"type" => nil} <- sandbox_policy(type: type), do: nil)

  def sandbox_policy(policy) do
    case Type.pairs(policy) do
      {:ok, [_ | _] = pairs} ->
        members = Map.new(pairs, fn {key, value} -> {wire(key), value} end)
        type = members["type"] |> sandbox_mode() |> Input.camel()
        members = if members["type"], do: Map.put(members, "type", type), else: members

        case members do
          %{"networkAccess" => network} ->
            %{members | "networkAccess" => network(network, type)}

          _ ->
            members
        end

      _ ->
        policy
    end
  end

  defp network(value, "externalSandbox") when value in [true, :enabled], do: "enabled"
  defp network(value, "externalSandbox") when value in [false, :restricted], do: "restricted"
  defp network(value, "externalSandbox"), do: value
  defp network(value, _type) when value in [:enabled, "enabled"], do: true
  defp network(value, _type) when value in [:restricted, "restricted"], do: false
  defp network(value, _type), do: value

  @doc """
  Returns the blocks of an input: text, or a list of text and blocks.

      iex> alias Codex.AppServer.Params
      iex> Params.user_input("hi")
      [%{"type" => "text", "text" => "hi"}]
      iex> Params.user_input(["hi", %{type: :local_image, path: "/a.png"}, %{"text" => "you"}])
      [
        %{"type" => "text", "text" => "hi"},
        %{"type" => "localImage", "path" => "/a.png"},
        %{"type" => "text", "text" => "you"}
      ]
  """
  @spec user_input(term()) :: term()
  defdelegate user_input(input), to: Input, as: :wire

  @doc """
  Returns the target of a review.

      iex> alias Codex.AppServer.Params
      iex> Params.review_target(:uncommitted_changes)
      %{"type" => "uncommittedChanges"}
      iex> Params.review_target({:base_branch, "main"})
      %{"type" => "baseBranch", "branch" => "main"}
      iex> Params.review_target({:commit, "abc"})
      %{"type" => "commit", "sha" => "abc"}
      iex> Params.review_target("look at the tests")
      %{"type" => "custom", "instructions" => "look at the tests"}
  """
  @spec review_target(term()) :: term()
  def review_target(all) when all in [:uncommitted_changes, {:uncommitted_changes}],
    do: %{"type" => "uncommittedChanges"}

  def review_target({:base_branch, branch}), do: %{"type" => "baseBranch", "branch" => branch}
  def review_target({:commit, sha}), do: %{"type" => "commit", "sha" => sha}
  def review_target({:commit, sha, nil}), do: review_target({:commit, sha})

  def review_target({:commit, sha, title}),
    do: %{"type" => "commit", "sha" => sha, "title" => title}

  def review_target({:custom, text}), do: %{"type" => "custom", "instructions" => text}
  def review_target(text) when is_binary(text), do: review_target({:custom, text})
  def review_target(other), do: other

  @doc """
  Returns edits of a configuration. `merge_strategy` is `replace` unless it is given. Values stay as
  they are, `false` and nil included.

      iex> Codex.AppServer.Params.edits([%{key_path: "a", value: false}])
      [%{"keyPath" => "a", "value" => false, "mergeStrategy" => "replace"}]
  """
  @spec edits(term()) :: term()
  def edits(edits) when is_list(edits) do
    if List.improper?(edits), do: edits, else: Enum.map(edits, &edit/1)
  end

  def edits(other), do: other

  defp edit(edit) do
    case Type.pairs(edit) do
      {:ok, pairs} ->
        members = Map.new(pairs, fn {key, value} -> {wire(key), value} end)
        Map.update(members, "mergeStrategy", "replace", &(&1 || "replace"))

      :error ->
        edit
    end
  end

  @doc """
  Returns the input of a process as `command/exec/write` takes it.

      iex> Codex.AppServer.Params.base64("ls\\n")
      "bHMK"
  """
  @spec base64(term()) :: term()
  def base64(bytes) when is_binary(bytes), do: Base.encode64(bytes)
  def base64(other), do: other

  @doc """
  Returns an effort given in any spelling; the CLI takes any word.

      iex> Enum.map([:xhigh, "Extra High"], &Codex.AppServer.Params.reasoning_effort/1)
      ["xhigh", "xhigh"]
  """
  @spec reasoning_effort(term()) :: term()
  def reasoning_effort(effort) when is_atom(effort) and effort not in [nil, true, false],
    do: effort |> Atom.to_string() |> reasoning_effort()

  def reasoning_effort(effort) when is_binary(effort), do: Effort.word(effort)
  def reasoning_effort(other), do: other

  defp wire(key) when is_atom(key) and key != nil, do: key |> Atom.to_string() |> wire()

  defp wire(key) when key in ~w(key_path merge_strategy writable_roots network_access
                  exclude_tmpdir_env_var exclude_slash_tmp),
    do: Input.camel(key)

  defp wire(key), do: key
end
