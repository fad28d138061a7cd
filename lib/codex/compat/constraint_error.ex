defmodule Codex.Config.ConstraintError do
  @moduledoc """
  The error of `Codex.Config.Constrained.set/2`. Kept for callers of 0.4.5.

  `type` is `:invalid_value` or `:empty_field`. `candidate`, `allowed` and `disallowed` are
  inspected terms.
  """
  defexception [:type, :candidate, :allowed, :disallowed, :field_name]

  @typedoc "A refused value."
  @type t :: %__MODULE__{
          type: :invalid_value | :empty_field,
          candidate: String.t() | nil,
          allowed: String.t() | nil,
          disallowed: String.t() | nil,
          field_name: String.t() | nil
        }

  @impl true
  def message(%{type: :empty_field, field_name: field}), do: "#{field} must not be empty"

  def message(%{candidate: candidate, allowed: nil, disallowed: no}),
    do: "invalid value #{candidate}, not allowed: #{no}"

  def message(%{candidate: candidate, allowed: allowed}),
    do: "invalid value #{candidate}, allowed: #{allowed}"
end
