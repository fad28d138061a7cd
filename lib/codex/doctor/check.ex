defmodule Codex.Doctor.Check do
  @moduledoc """
  One check of `Codex.Doctor`.

    * `name` - which one
    * `status` - `:ok`; `:warning`, where a run works, but perhaps not as meant; `:error`, where it would fail; `:skipped`
    * `summary` - the outcome in words, on one line
    * `details` - what it rests on: maps with a `:text` for people, a `:status` where that is not `:ok`, and for programs the same as
      members. They hold strings, numbers, booleans, nil, atoms, and lists of those
  """

  @type name ::
          :native
          | :cli
          | :home
          | :directory
          | :config
          | :auth
          | :keyring
          | :sandbox
          | :environment
  @type status :: :ok | :warning | :error | :skipped
  @type detail :: %{:text => String.t(), optional(atom()) => term()}

  @type t :: %__MODULE__{
          name: name(),
          status: status(),
          summary: String.t(),
          details: [detail()]
        }

  @enforce_keys [:name, :status, :summary]
  defstruct [:name, :status, :summary, details: []]

  @doc false
  @spec new(name(), status(), String.t(), [detail()]) :: t()
  def new(name, status, summary, details \\ []),
    do: %__MODULE__{name: name, status: status, summary: summary, details: details}

  @doc false
  # The worst of the details decides.
  @spec worst([detail()]) :: status()
  def worst(details) do
    statuses = Enum.map(details, & &1[:status])

    cond do
      :error in statuses -> :error
      :warning in statuses -> :warning
      true -> :ok
    end
  end
end
