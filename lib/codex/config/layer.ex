defmodule Codex.Config.Layer do
  @moduledoc """
  A source of configuration.

    * `:name` - the kind of source, see `t:name/0`
    * `:file` - the path of its file, nil for session flags. A layer whose file is missing is empty
    * `:profile` - the name of the profile, for the layer `:profile`
    * `:version` - `sha256:` and the digest of the values, equal to the version of the CLI's
      `config/read`. Comments, order and layout do not change it
    * `:config` - the values as the CLI sees them: a map with string keys, relative paths made
      absolute
    * `:disabled_reason` - nil, or the reason why the layer does not count
    * `:dropped` - keys of a project's file that the CLI does not read from project files
  """

  @typedoc """
  Layers from the highest to the lowest: `:managed` is the administrator's `managed_config.toml`,
  `:session_flags` are `-c` overrides, `:project` is a `.codex/config.toml` (there may be several;
  the nearest is the highest), `:profile` is `<name>.config.toml` in the home, `:user` is the home's
  `config.toml`, `:system` is `/etc/codex/config.toml`.
  """
  @type name :: :managed | :session_flags | :project | :profile | :user | :system

  @typedoc "A source of configuration. Fields: see above."
  @type t :: %__MODULE__{
          name: name(),
          file: Path.t() | nil,
          profile: String.t() | nil,
          version: String.t(),
          config: %{String.t() => term()},
          disabled_reason: String.t() | nil,
          dropped: [String.t()],
          tree: reference()
        }

  @enforce_keys [:name, :version, :config, :tree]
  defstruct [:name, :file, :profile, :version, :config, :disabled_reason, :tree, dropped: []]

  defimpl Inspect do
    # Values may hold keys and headers.
    def inspect(layer, _opts) do
      state = if layer.disabled_reason, do: " disabled", else: ""
      "#Codex.Config.Layer<#{layer.name} #{layer.file || "-c"}#{state} #{layer.version}>"
    end
  end

  @doc """
  Returns the label of a layer for people.

      iex> Codex.Config.Layer.label(:session_flags)
      "session flags"
  """
  @spec label(name()) :: String.t()
  def label(:session_flags), do: "session flags"
  def label(name), do: Atom.to_string(name)
end
