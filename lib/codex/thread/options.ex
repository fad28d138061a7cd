defmodule Codex.Thread.Options do
  @moduledoc """
  Options of a thread. They hold for each of its turns.

  #{Codex.Options.Table.docs(:thread)}

  Resuming keeps no settings: sandbox, model and folder are those of the new call.
  """

  alias Codex.Options.Table

  defstruct Table.defaults(:thread)

  @typedoc "Options of a thread."
  @type t :: %__MODULE__{}

  @doc """
  Checks options, given as map (atom or string keys), keyword list or changed struct.

      iex> {:ok, options} = Codex.Thread.Options.new(sandbox: "workspace-write", cd: "/srv/app")
      iex> {options.sandbox, options.working_directory}
      {:workspace_write, "/srv/app"}
      iex> {:error, error} = Codex.Thread.Options.new(sandbox: :none)
      iex> {error.key, error.value}
      {:sandbox, :none}

  The error is a `Codex.OptionError`.
  """
  @spec new(t() | map() | keyword()) :: {:ok, t()} | {:error, Codex.OptionError.t()}
  def new(attrs \\ %{})
  def new(%__MODULE__{} = options), do: Table.check_struct(:thread, options)

  def new(attrs),
    do: with({:ok, set} <- Table.check(:thread, attrs), do: {:ok, struct(__MODULE__, set)})

  defimpl Inspect do
    def inspect(options, opts), do: Table.inspect(options, :thread, opts)
  end
end
