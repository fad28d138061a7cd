defmodule Codex.Doctor.Check do
  @moduledoc """
  The result of one check of `Codex.Doctor`.

    * `name` - the check
    * `status` - `:ok`; `:warning` if a run works, but perhaps not as intended; `:error` if a run
      would fail; `:skipped`
    * `summary` - the result as one line of text
    * `details` - the facts behind the result: maps with a `:text` for people, a `:status` unless it
      is `:ok`, and the same facts as members for programs. Values are strings, numbers, booleans,
      nil, atoms, and lists of these
  """

  @typedoc "The subject of a check."
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
  @typedoc "The result, from good to bad; `:skipped` if an earlier check failed."
  @type status :: :ok | :warning | :error | :skipped
  @typedoc "A fact behind a result."
  @type detail :: %{:text => String.t(), optional(atom()) => term()}

  @typedoc "A check. Fields: see above."
  @type t :: %__MODULE__{
          name: name(),
          status: status(),
          summary: String.t(),
          details: [detail()]
        }

  @enforce_keys [:name, :status, :summary]
  defstruct [:name, :status, :summary, details: []]

  @doc false
  # The worst status of the details.
  @spec worst([detail()]) :: status()
  def worst(details) do
    statuses = Enum.map(details, & &1[:status])
    Enum.find([:error, :warning], :ok, &(&1 in statuses))
  end
end
