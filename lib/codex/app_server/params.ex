defmodule Codex.AppServer.Params do
  @moduledoc false
  # Values that the functions of `Codex.AppServer` take in more forms than the protocol has. What is not known here is handed
  # on as it is: the check of the protocol says what is wrong with it.

  @doc """
      iex> alias Codex.AppServer.Params
      iex> Enum.map([:on_request, "on_failure", "later"], &Params.ask_for_approval/1)
      ["on-request", "on-failure", "later"]
  """
  @spec ask_for_approval(term()) :: term()
  def ask_for_approval({:granular, kinds}), do: [granular: kinds]

  def ask_for_approval(policy) do
    case word(policy) do
      known when known in ~w(untrusted on_failure on_request never) ->
        String.replace(known, "_", "-")

      _ ->
        policy
    end
  end

  @modes %{
    "strict" => "read-only",
    "read_only" => "read-only",
    "workspace_write" => "workspace-write",
    "permissive" => "danger-full-access",
    "danger_full_access" => "danger-full-access",
    "external_sandbox" => "external-sandbox",
    "default" => nil
  }

  @doc """
  The sandbox of a thread; nil for the default, which is not sent.

      iex> alias Codex.AppServer.Params
      iex> Enum.map([:strict, "workspaceWrite", :permissive, :default], &Params.sandbox_mode/1)
      ["read-only", "workspace-write", "danger-full-access", nil]
  """
  @spec sandbox_mode(term()) :: term()
  def sandbox_mode({:external_sandbox, _network}), do: "external-sandbox"
  def sandbox_mode(mode), do: Map.get(@modes, word(mode), mode)

  @doc """
  The sandbox of a turn: a map, a keyword, or the type alone. The network is a boolean, but for the external sandbox.

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
    case Codex.Options.Cast.pairs(policy) do
      {:ok, [_ | _] = pairs} ->
        members = Map.new(pairs, fn {key, value} -> {wire(key), value} end)
        type = members["type"] |> sandbox_mode() |> camel()
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
  What a user says: text, or a list of text and blocks.

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
  def user_input(text) when is_binary(text), do: [block(text)]

  def user_input(blocks) when is_list(blocks) do
    if List.improper?(blocks), do: blocks, else: Enum.map(blocks, &block/1)
  end

  def user_input(other), do: other

  defp block(text) when is_binary(text), do: %{"type" => "text", "text" => text}

  defp block(%{} = block) when not is_struct(block) do
    block = Map.new(block, fn {key, value} -> {wire(key), value} end)
    Map.put(block, "type", camel(block["type"] || "text"))
  end

  defp block(other), do: other

  @doc """
  What a review looks at.

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
  Edits of a configuration: `merge_strategy` is `replace` where it is not given, and a value is what it is, `false` and nil included.

      iex> Codex.AppServer.Params.edits([%{key_path: "a", value: false}])
      [%{"keyPath" => "a", "value" => false, "mergeStrategy" => "replace"}]
  """
  @spec edits(term()) :: term()
  def edits(edits) when is_list(edits) do
    if List.improper?(edits), do: edits, else: Enum.map(edits, &edit/1)
  end

  def edits(other), do: other

  defp edit(edit) do
    case Codex.Options.Cast.pairs(edit) do
      {:ok, pairs} ->
        members = Map.new(pairs, fn {key, value} -> {wire(key), value} end)
        Map.update(members, "mergeStrategy", "replace", &(&1 || "replace"))

      :error ->
        edit
    end
  end

  @doc """
  Input of a process as `command/exec/write` takes it.

      iex> Codex.AppServer.Params.base64("ls\\n")
      "bHMK"
  """
  @spec base64(term()) :: term()
  def base64(bytes) when is_binary(bytes), do: Base.encode64(bytes)
  def base64(other), do: other

  @doc """
  An effort in any spelling; the CLI takes any word.

      iex> Enum.map([:xhigh, "Extra High"], &Codex.AppServer.Params.reasoning_effort/1)
      ["xhigh", "xhigh"]
  """
  @spec reasoning_effort(term()) :: term()
  def reasoning_effort(effort) when is_atom(effort) and effort not in [nil, true, false],
    do: effort |> Atom.to_string() |> reasoning_effort()

  def reasoning_effort(effort) when is_binary(effort), do: Codex.Models.Effort.word(effort)
  def reasoning_effort(other), do: other

  # Longer ones are none of the words above.
  defp word(value) when is_atom(value) and value not in [nil, true, false],
    do: value |> Atom.to_string() |> word()

  defp word(value) when is_binary(value) and byte_size(value) <= 64,
    do: value |> Macro.underscore() |> String.replace("-", "_")

  defp word(_other), do: nil

  defp wire(key) when is_atom(key) and key != nil, do: key |> Atom.to_string() |> wire()

  defp wire(key) when key in ~w(local_image image_url key_path merge_strategy writable_roots
                  network_access exclude_tmpdir_env_var exclude_slash_tmp file_id),
    do: camel(key)

  defp wire(key), do: key

  # `workspace-write` and `workspace_write` are `workspaceWrite`.
  defp camel(word) when is_atom(word) and word != nil, do: word |> Atom.to_string() |> camel()

  defp camel(word) when is_binary(word) and byte_size(word) <= 64 do
    [first | rest] = String.split(word, ["_", "-"])
    Enum.join([first | Enum.map(rest, &upcase/1)])
  end

  defp camel(other), do: other

  defp upcase(<<first, rest::binary>>) when first in ?a..?z, do: <<first - 32, rest::binary>>
  defp upcase(other), do: other
end
