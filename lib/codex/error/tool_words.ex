defmodule Codex.Error.ToolWords do
  @moduledoc false
  # Words about host tools that a thread cannot have, for `Codex.Error.Words`.

  alias Codex.Options.Type

  @doc """
  Returns the predicate of a sentence about a refused tool.

      iex> Codex.Error.ToolWords.refusal({:reserved_name, "view_image"})
      ~S(cannot be named "view_image": the CLI has a tool of this name; choose another :name)
  """
  @spec refusal(term()) :: String.t() | nil
  def refusal(:not_a_tool),
    do: "is no tool; expected a module, {module, options}, a registered name or a handle"

  def refusal(:not_loaded), do: "does not exist; expected a module that uses Codex.Tool"
  def refusal(:no_invoke), do: "has no invoke/2; see Codex.Tool"
  def refusal(:not_registered), do: "is not registered; see Codex.Tools.register/2"

  def refusal({:invalid_name, name}),
    do: "must have a name of 1 to 64 letters, digits, _ or -, got: #{show(name)}"

  def refusal({:invalid_namespace, name}),
    do: "must have a namespace of 1 to 64 letters, digits, _ or -, got: #{show(name)}"

  def refusal({:reserved_name, "mcp__" <> _ = name}),
    do:
      "cannot be named #{show(name)}: tools of MCP servers have such names; choose another :name"

  def refusal({:reserved_name, name}),
    do: "cannot be named #{show(name)}: the CLI has a tool of this name; choose another :name"

  def refusal({:reserved_namespace, name}),
    do: "cannot be in the namespace #{show(name)}: the CLI uses it; choose another :namespace"

  def refusal({:duplicate_name, name}),
    do: "has the name #{show(name)} of another tool of the thread; choose another :name"

  def refusal(:defer_without_namespace), do: "has defer: true, which needs a :namespace"

  def refusal({:invalid_metadata, :timeout_ms, value}),
    do: "must have a timeout_ms that is a positive integer, got: #{shown(value)}"

  def refusal({:invalid_metadata, :description, value}),
    do: "must have a description that is a UTF-8 string, got: #{shown(value)}"

  def refusal({:invalid_metadata, :defer, value}),
    do: "must have a boolean as defer, got: #{shown(value)}"

  def refusal({:invalid_metadata, key, value}),
    do: "must have a JSON schema (a map) as #{key}, got: #{shown(value)}"

  def refusal({:unknown_metadata, key, nearest}),
    do: "has unknown metadata #{inspect(key)}; did you mean #{inspect(nearest)}?"

  def refusal({:metadata_failed, exception}),
    do: "has a metadata/0 that raised #{show(exception)}"

  def refusal(_other), do: nil

  @doc "Returns a sentence about such a reason, or nil."
  @spec reason(term()) :: String.t() | nil
  def reason(reason), do: if(words = refusal(reason), do: "the tool " <> words)

  # Metadata may hold secrets of the application.
  defp shown(value),
    do: if(is_atom(value) or is_number(value), do: show(value), else: Type.kind(value))

  defp show(value), do: inspect(value, limit: 10, printable_limit: 200)
end
