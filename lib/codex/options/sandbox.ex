defmodule Codex.Options.Sandbox do
  @moduledoc false
  # The names of sandboxes: as options spell them, and as the CLI and the app-server do.

  @modes [
    default: nil,
    strict: "read-only",
    read_only: "read-only",
    workspace_write: "workspace-write",
    permissive: "danger-full-access",
    danger_full_access: "danger-full-access",
    external_sandbox: "external-sandbox"
  ]

  @spellings for {name, mode} <- @modes, into: %{}, do: {Atom.to_string(name), mode}

  @doc "Lists the values of the option `sandbox`."
  @spec names() :: [atom()]
  def names, do: Keyword.keys(@modes)

  @doc "Lists the CLI's names."
  @spec modes() :: [String.t()]
  def modes, do: for({_name, mode} <- @modes, mode != nil, uniq: true, do: mode)

  @doc """
  Returns the CLI's name of a sandbox in any spelling; nil for the default, which is not sent.
  Other terms are returned as they are.

      iex> alias Codex.Options.Sandbox
      iex> Enum.map([:strict, "workspaceWrite", :permissive, :default], &Sandbox.mode/1)
      ["read-only", "workspace-write", "danger-full-access", nil]
  """
  @spec mode(term()) :: term()
  def mode({:external_sandbox, _network}), do: "external-sandbox"
  def mode(name), do: Map.get(@spellings, word(name), name)

  @doc "Returns a word in snake case, or nil. Longer words are no names."
  @spec word(term()) :: String.t() | nil
  def word(value) when is_atom(value) and value not in [nil, true, false],
    do: value |> Atom.to_string() |> word()

  def word(value) when is_binary(value) and byte_size(value) <= 64,
    do: value |> Macro.underscore() |> String.replace("-", "_")

  def word(_other), do: nil
end
