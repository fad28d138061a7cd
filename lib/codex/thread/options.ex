defmodule Codex.Thread.Options do
  @moduledoc """
  Options of a thread: they hold for each of its turns.

  #{Codex.Options.Table.docs(:thread)}

  Resuming keeps no settings: sandbox, model and folder are those of the new call.
  """

  alias Codex.Options.Table

  defstruct Table.defaults(:thread)

  @type t :: %__MODULE__{}

  @doc """
  Checks options, given as map (atom or string keys) or keyword list.

      iex> {:ok, options} = Codex.Thread.Options.new(sandbox: "workspace-write", cd: "/srv/app")
      iex> {options.sandbox, options.working_directory}
      {:workspace_write, "/srv/app"}
      iex> Codex.Thread.Options.new(sandbox: :none)
      {:error, {:invalid_sandbox, :none}}

  Errors: `{:unknown_option, key, nearest}`, `{:misplaced_option, key, places}` (an option of a
  client, of a turn, …), `{:invalid_<option>, value}`, `{:invalid_list, option, value}`,
  `{:invalid_map, option, value}`, `{:invalid_config_overrides, key}`, those of a `shell_environment_policy`
  (`{:invalid_shell_environment_inherit, value}`, `…_ignore_default_excludes`, `…_list`, `…_set`), `:conflicting_auto_flags` (`full_auto` together with
  `dangerously_bypass_approvals_and_sandbox`), `{:invalid_options, value}`.
  """
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, Table.reason()}
  def new(attrs \\ %{})
  def new(%__MODULE__{} = options), do: {:ok, options}

  def new(attrs),
    do: with({:ok, set} <- Table.check(:thread, attrs), do: {:ok, struct(__MODULE__, set)})

  defimpl Inspect do
    def inspect(options, opts), do: Codex.Options.Table.inspect(options, :thread, opts)
  end
end
