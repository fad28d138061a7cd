defmodule Codex.Approvals.StaticPolicy do
  @moduledoc """
  A policy with the same decision for every event.

      iex> alias Codex.Approvals.StaticPolicy
      iex> Codex.Approvals.review_tool(StaticPolicy.deny(reason: "read only"), %{}, %{})
      {:deny, "read only"}
      iex> Codex.Approvals.review_tool(StaticPolicy.allow(), %{}, %{})
      :allow
  """

  alias Codex.Options.Schema

  defstruct mode: :deny, reason: "denied"

  @typedoc "A decision, with the reason of a denial."
  @type t :: %__MODULE__{mode: :allow | :deny, reason: term()}

  @doc "Returns a policy that allows everything. `opts` is ignored."
  @spec allow(keyword()) :: t()
  def allow(_opts \\ []), do: %__MODULE__{mode: :allow}

  @doc "Returns a policy that denies everything. Option: `:reason` (default `\"denied\"`)."
  @spec deny(keyword()) :: t()
  def deny(opts \\ []) do
    opts = Schema.pairs!(opts)
    %__MODULE__{mode: :deny, reason: opts[:reason] || "denied"}
  end

  @doc "Returns the decision of the policy."
  @spec review_tool(t(), map(), map()) :: :allow | {:deny, term()}
  def review_tool(%__MODULE__{mode: :allow}, _event, _context), do: :allow
  def review_tool(%__MODULE__{reason: reason}, _event, _context), do: {:deny, reason}
end
