defmodule Codex.Files.Attachment do
  @moduledoc """
  A staged copy of a file: see `Codex.Files.stage/2`.
  """

  @enforce_keys [:id, :name, :path, :checksum, :size, :inserted_at]
  defstruct [:id, :name, :path, :checksum, :size, :inserted_at, :ttl_ms, persist: false]

  @typedoc """
    * `id`, `checksum` - the SHA-256 sum of the content, as 64 hexadecimal digits
    * `name` - the name of the copy
    * `path` - the absolute path of the copy
    * `size` - in bytes
    * `persist` - true if only `Codex.Files.reset!/0` removes the copy
    * `inserted_at` - when the content was staged last
    * `ttl_ms` - how long the copy is kept after that, in ms, or `:infinity`
  """
  @type t :: %__MODULE__{
          id: String.t(),
          name: String.t(),
          path: Path.t(),
          checksum: String.t(),
          size: non_neg_integer(),
          persist: boolean(),
          inserted_at: DateTime.t(),
          ttl_ms: non_neg_integer() | :infinity
        }

  @doc false
  # Whether the copy may be removed at a time, in ms since 1970.
  @spec expired?(t(), integer()) :: boolean()
  def expired?(%{persist: true}, _now), do: false
  def expired?(%{ttl_ms: :infinity}, _now), do: false

  def expired?(attachment, now),
    do: DateTime.to_unix(attachment.inserted_at, :millisecond) + attachment.ttl_ms <= now
end
