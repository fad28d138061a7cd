defmodule Codex.Config.Constrained do
  @moduledoc """
  Holds a value and the values that may replace it. Kept for callers of 0.4.5.

      iex> alias Codex.Config.Constrained
      iex> allowed = [:never, :on_request]
      iex> {:ok, policy} = :never |> Constrained.allow_only(allowed) |> Constrained.set(:on_request)
      iex> Constrained.value(policy)
      :on_request
      iex> {:error, error} = Constrained.set(policy, :always)
      iex> Exception.message(error)
      "invalid value :always, allowed: [:never, :on_request]"
  """

  alias Codex.Config.ConstraintError

  @enforce_keys [:value, :constraint]
  defstruct [:value, :constraint]

  @typedoc "A value with its constraint."
  @type t :: %__MODULE__{value: term(), constraint: :any | {:only, [term()]} | {:not, [term()]}}

  @doc "Allows every value. The first value is not checked, here and below."
  @spec allow_any(term()) :: t()
  def allow_any(value), do: %__MODULE__{value: value, constraint: :any}

  @doc "Allows the values of a list."
  @spec allow_only(term(), [term()]) :: t()
  def allow_only(value, allowed) when is_list(allowed),
    do: %__MODULE__{value: value, constraint: {:only, allowed}}

  @doc "Allows all values but those of a list."
  @spec allow_not(term(), [term()]) :: t()
  def allow_not(value, disallowed) when is_list(disallowed),
    do: %__MODULE__{value: value, constraint: {:not, disallowed}}

  @doc "Returns the value."
  @spec value(t()) :: term()
  def value(%__MODULE__{value: value}), do: value

  @doc "Returns whether a value is allowed."
  @spec can_set?(t(), term()) :: boolean()
  def can_set?(%__MODULE__{constraint: :any}, _value), do: true
  def can_set?(%__MODULE__{constraint: {:only, allowed}}, value), do: value in allowed
  def can_set?(%__MODULE__{constraint: {:not, disallowed}}, value), do: value not in disallowed

  @doc "Sets the value. The error has the type `:invalid_value`."
  @spec set(t(), term()) :: {:ok, t()} | {:error, ConstraintError.t()}
  def set(%__MODULE__{} = constrained, value) do
    if can_set?(constrained, value),
      do: {:ok, %{constrained | value: value}},
      else: {:error, refused(constrained.constraint, value)}
  end

  defp refused({:only, allowed}, value),
    do: %ConstraintError{
      type: :invalid_value,
      candidate: inspect(value),
      allowed: inspect(allowed)
    }

  defp refused({:not, disallowed}, value),
    do: %ConstraintError{
      type: :invalid_value,
      candidate: inspect(value),
      disallowed: inspect(disallowed)
    }
end
