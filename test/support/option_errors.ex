defmodule Codex.OptionErrors do
  @moduledoc "Option errors as short terms, to compare them."

  alias Codex.OptionError

  @doc """
  Replaces a `Codex.OptionError` in a result by `{reason, path, detail}`: the nearest key of an
  unknown option, the value of an invalid option or argument, else nil.
  """
  def short({:error, reason}), do: {:error, short(reason)}
  def short(%OptionError{reason: :unknown} = error), do: {:unknown, error.path, error.nearest}

  def short(%OptionError{reason: reason} = error) when reason in [:misplaced, :unsupported],
    do: {reason, error.path, nil}

  def short(%OptionError{} = error), do: {error.reason, error.path, error.value}
  def short(other), do: other

  @doc "Whether an error has the fields that are set in a template."
  def like?(%OptionError{} = error, %OptionError{} = template) do
    template
    |> Map.from_struct()
    |> Enum.all?(fn {name, value} -> value in [nil, []] or Map.fetch!(error, name) == value end)
  end

  @doc "Returns the short form of the error that a function raises."
  def raised(fun) do
    fun.()
    :nothing
  rescue
    error in OptionError -> short(error)
  end
end
