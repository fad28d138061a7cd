defmodule Codex.Config do
  @moduledoc """
  Loads the configuration that the Codex CLI would run with, layer by layer, with the origin of each
  value.

      {:ok, config} = Codex.Config.load(cwd: "/srv/app")
      Codex.Config.get(config, "model")
      #=> "gpt-5.5"
      Codex.Config.origin(config, "model")
      #=> %{layer: :project, file: "/srv/app/.codex/config.toml", line: 3, column: 1, profile: nil}
      IO.puts(Codex.Config.explain(config, "model"))

  Layers, highest first:

    1. the administrator's `managed_config.toml`
    2. session flags (`-c`)
    3. `.codex/config.toml` of the project's directories, nearest first, up to the project root
    4. the profile
    5. the user's `config.toml`
    6. the system's `config.toml`

  Tables are merged key by key; any other value replaces the value of the layers below. Project
  files count only if the project is trusted. Otherwise their layers are listed with a
  `disabled_reason`.

  A file with invalid TOML or with a value of the wrong type is an error, as for the CLI. Unknown
  keys are warnings, even if the CLI ignores them. With `strict: true`, the unknown keys that the
  CLI then refuses are errors. If the installed CLI is newer than the data of this package, the
  warning says that codex_sdk does not know the key, and `strict: true` asks that CLI.

  Merging moves an old name of a key to its current name: `agents.max_threads` becomes
  `agents.max_concurrent_threads_per_session`. Names below `features` stay as they are written.

  Defaults that are built into the CLI are not included: a key that no layer sets has no value.
  """

  alias Codex.Config.{Error, Explain, Key, Layer, Loader, Schema, Unknown, Writer}
  alias Codex.{FileSystem, Home, Native}
  alias Codex.Options.Schema, as: Options
  alias Codex.Options.Type

  @enforce_keys [:home, :layers, :tree]
  defstruct [:home, :cwd, :layers, :tree, warnings: [], requirements: %{}]

  @typedoc "A loaded configuration. Later changes to the files are not seen; load it again."
  @type t :: %__MODULE__{
          home: Path.t(),
          cwd: Path.t() | nil,
          layers: [Layer.t()],
          tree: reference(),
          warnings: [Error.t()],
          requirements: map()
        }

  @typedoc "The layer and the position that set a key. `file` is nil for layers without a file."
  @type origin :: %{
          layer: Layer.name(),
          file: Path.t() | nil,
          line: pos_integer() | nil,
          column: pos_integer() | nil,
          profile: String.t() | nil
        }

  @rows [
    {:codex_home, :os_path, "the CLI's home", shown: "see `Codex.Home.resolve/1`"},
    {:env, :environment, "the environment that `CODEX_HOME` and `HOME` are read from",
     secret: true, shown: "the environment of the VM"},
    {:cwd, :directory, "the working directory of a run; `false` leaves out the project layers",
     expected: "a path or `false`", shown: "the current directory"},
    {:profile, :text,
     "the name of a profile, stored in `<name>.config.toml` of the home. A profile " <>
       "without a file is an empty layer", shown: "no profile"},
    {:overrides, {:list, :text},
     "the values of `-c`, such as `\"key=value\"`, parsed as the CLI parses them",
     default: [], secret: true},
    {:ignore_user_config, :boolean,
     "treats the user's `config.toml` as empty, as `--ignore-user-config` does. That " <>
       "file lists the trusted projects, so no project is trusted", default: false},
    {:strict, :boolean, "makes unknown keys errors, as `--strict-config` does", default: false},
    {:system_dir, :os_path, "the directory of the system's files", default: "/etc/codex"},
    {:system_config, :os_path, "the system's `config.toml` under another name",
     shown: "the file in `:system_dir`"},
    {:timeout, :milliseconds,
     "the time limit for reading all files, for a disk that does not answer", default: 5_000},
    {:max_nodes, {:integer, 1, 0xFFFFFFFF},
     "the maximum number of keys and values in a file. Reading 100_000 needs about " <>
       "100 MB for a moment", default: Loader.max_nodes(), expected: "a positive integer"}
  ]
  @schema Options.new(@rows, duplicates: :first)

  @doc false
  def rows, do: @rows

  @doc false
  def cast(:directory, false), do: {:ok, false}
  def cast(:directory, path), do: Type.cast(:os_path, path)

  @doc """
  Reads and merges all layers.

  Options:

  #{Options.docs(@schema)}

  Each file must be a regular file, or a link to one, of at most 16 MiB. Anything else (a named
  pipe, a device, a directory) is an error with the reason `:unreadable`. This includes files of
  untrusted projects, because the CLI does not start with them either.

  Returns `{:ok, config}` or `{:error, error}` with any reason of `Codex.Config.Error` except those
  about writing. Raises `Codex.OptionError`.
  """
  @spec load(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def load(opts \\ []) do
    opts = options!(opts)

    with {:ok, home} <- Home.resolve(codex_home: opts.codex_home, env: opts.env),
         opts = Map.merge(opts, %{home: home, deadline: FileSystem.deadline(opts.timeout)}),
         {:ok, loaded} <- Loader.load(opts),
         {:ok, requirements} <- read_requirements(opts) do
      merged(loaded, requirements, opts)
    end
  end

  defp options!(opts) do
    opts = Options.validate!(@schema, opts, &cast/2)
    Map.merge(opts, %{cwd: cwd(opts.cwd), user_home: user_home(opts.env)})
  end

  defp cwd(false), do: nil
  defp cwd(nil), do: File.cwd!()
  defp cwd(path), do: Path.expand(path)

  defp user_home(nil), do: System.user_home() || "/"
  defp user_home(env), do: env["HOME"] || "/"

  defp merged(loaded, requirements, opts) do
    layers = for {layer, _, _} <- loaded, do: layer
    tree = Loader.merge(layers)

    with [] <- invalid(tree, loaded),
         [] <- unknown(loaded, opts) do
      warnings = for {_, problems, _} <- loaded, {_weight, error} <- problems, do: error

      {:ok,
       %__MODULE__{
         home: opts.home,
         cwd: opts.cwd,
         layers: layers,
         tree: tree,
         warnings: Unknown.reworded(warnings),
         requirements: requirements
       }}
    else
      [error | _] -> {:error, error}
    end
  end

  # The CLI checks the merged result: a wrong value below a valid one does no harm, so warn only.
  defp invalid(tree, loaded) do
    problems = Native.config_check(Schema.ref(), tree)
    for {:error, error} <- Loader.problems(problems, source(loaded)), do: error
  end

  defp unknown(_loaded, %{strict: false}), do: []

  defp unknown(loaded, opts) do
    strict =
      for {layer, problems, _} <- loaded, counts?(layer), {:strict, error} <- problems, do: error

    Unknown.confirmed(strict, opts)
  end

  defp counts?(layer), do: layer.disabled_reason == nil

  defp source(loaded) do
    counting =
      for({layer, _, text} <- loaded, counts?(layer), do: {layer.file, text}) |> Enum.reverse()

    &Enum.at(counting, &1)
  end

  # The CLI does not start with a broken requirements file either.
  defp read_requirements(%{system_dir: dir, deadline: deadline, max_nodes: max_nodes}) do
    path = Path.join(dir, "requirements.toml")

    with {:ok, text} <- Loader.read(path, deadline: deadline),
         {:ok, tree} <- Loader.parse(path, text, max_nodes),
         do: {:ok, Native.config_term(tree)}
  end

  @doc "Returns all layers, highest first, including disabled layers."
  @spec layers(t()) :: [Layer.t()]
  def layers(%__MODULE__{layers: layers}), do: layers

  @doc """
  Returns the merged values as a map with string keys. Dates are strings; infinite floats and
  not-a-number are `"inf"`, `"-inf"` and `"nan"`.
  """
  @spec effective(t()) :: %{String.t() => term()}
  def effective(%__MODULE__{tree: tree}), do: Native.config_term(tree)

  @doc """
  Returns the value of a key, or `default` (nil) if no layer sets it.

  The key may also name a table or an element of an array. Raises `ArgumentError` for an invalid key
  (see `t:Codex.Config.Key.t/0`).
  """
  @spec get(t(), Key.t(), term()) :: term()
  def get(%__MODULE__{tree: tree}, key, default \\ nil) do
    case Native.config_get(tree, Key.parse!(key)) do
      {:ok, value, _layer, _place} -> value
      :none -> default
    end
  end

  @doc """
  Returns the layer that sets a key, with file and position, or nil if no layer sets it.

  For a table that several layers share, returns the highest of them. Raises `ArgumentError` for an
  invalid key.
  """
  @spec origin(t(), Key.t()) :: origin() | nil
  def origin(%__MODULE__{tree: tree, layers: layers}, key) do
    case Native.config_get(tree, Key.parse!(key)) do
      {:ok, _value, index, place} ->
        layers |> Loader.counting() |> Enum.at(index) |> origin_of(place)

      :none ->
        nil
    end
  end

  @doc """
  Returns the origins of all values: of each scalar and of each empty array or table. Elements of
  arrays have their index as a segment of the path.
  """
  @spec origins(t()) :: %{[String.t()] => origin()}
  def origins(%__MODULE__{tree: tree, layers: layers}) do
    layers = layers |> Loader.counting() |> List.to_tuple()

    for {path, index, place} <- Native.config_leaves(tree),
        path != [],
        into: %{},
        do: {path, origin_of(elem(layers, index), place)}
  end

  @doc """
  Returns the value of a key in every layer that sets it, highest first.

  Each entry is `%{origin: origin, value: value, disabled_reason: nil | reason}`. Raises
  `ArgumentError` for an invalid key.
  """
  @spec history(t(), Key.t()) :: [
          %{origin: origin(), value: term(), disabled_reason: String.t() | nil}
        ]
  def history(%__MODULE__{layers: layers}, key) do
    path = Key.parse!(key)

    for layer <- layers,
        {:ok, value, _index, place} <- [Native.config_get(layer.tree, path)],
        do: %{
          origin: origin_of(layer, place),
          value: value,
          disabled_reason: layer.disabled_reason
        }
  end

  defp origin_of(layer, {line, column}) do
    %{
      layer: layer.name,
      file: layer.file,
      line: if(line > 0, do: line),
      column: if(line > 0, do: column),
      profile: layer.profile
    }
  end

  @doc """
  Returns the problems that do not stop the CLI: unknown keys, wrong values that a higher layer
  replaces, keys that a project may not set, and all problems of disabled layers.
  """
  @spec warnings(t()) :: [Error.t()]
  def warnings(%__MODULE__{warnings: warnings}), do: warnings

  @doc """
  Returns the administrator's `requirements.toml` as a map with string keys. When the CLI runs, it
  replaces values that the requirements do not allow. `effective/1` shows the configured values, as
  the CLI's own `config/read` does.
  """
  @spec requirements(t()) :: %{String.t() => term()}
  def requirements(%__MODULE__{requirements: requirements}), do: requirements

  @doc "Formats the layers and the warnings for people to read. Values are not shown."
  @spec explain(t()) :: String.t()
  def explain(%__MODULE__{} = config), do: Explain.layers(config)

  @doc "Formats a key for people to read: its value, its origin and the values below."
  @spec explain(t(), Key.t()) :: String.t()
  def explain(%__MODULE__{} = config, key),
    do: Explain.key(Key.parse!(key), get(config, key), history(config, key), requirements(config))

  @typedoc """
  A change to a file. A value is any JSON value except nil; atoms become strings, except `true` and
  `false`. The fourth element decides how a table is written if the key already has one: `:replace`
  replaces it, `:upsert` merges into it.
  """
  @type edit ::
          {:put, Key.t(), term()}
          | {:put, Key.t(), term(), :replace | :upsert}
          | {:delete, Key.t()}

  @doc """
  Sets a key in the user's `config.toml`. See `batch/2`.

      {:ok, %{version: _}} = Codex.Config.put("history.persistence", "none")
  """
  @spec put(Key.t(), term(), keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def put(key, value, opts \\ []), do: batch([{:put, key, value}], opts)

  @doc "Removes a key from the user's `config.toml`. A missing key is no error. See `batch/2`."
  @spec delete(Key.t(), keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def delete(key, opts \\ []), do: batch([{:delete, key}], opts)

  @doc """
  Makes several changes to a file, all or none. Comments and the order of other lines are kept.

  Options:

  #{Writer.docs()}

  The file is replaced atomically: a new file is written, synced and renamed, so a reader sees the
  old or the new content. The file mode is kept, and a link stays a link. Writers of this library
  wait for each other, also in other VMs on the machine, by a lock on `.config.toml.lock` beside the
  file. The CLI takes no lock: if it writes at the same time, the changes are applied again to the
  new content.

  Returns `{:ok, %{file: path, version: version}}` with the new version. Returns `{:error, error}`
  if nothing was written, with the reason `:conflict` (`:expected` and `:found` hold the versions),
  `:bad_value`, `:bad_profile`, `:empty_home`, `:missing_home`, `:unreadable`, `:unwritable`,
  `:syntax`, or any reason that the schema gives for a value that the CLI would refuse. Unknown keys
  are written. Raises `ArgumentError` for an invalid edit or key, and `Codex.OptionError`.
  """
  @spec batch([edit()], keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def batch(edits, opts \\ []) do
    if is_list(edits) and not List.improper?(edits),
      do: Writer.write(edits, opts),
      else: raise(ArgumentError, "expected a list of edits, got: #{Type.kind(edits)}")
  end

  defimpl Inspect do
    # Values may hold keys and headers.
    def inspect(config, _opts),
      do: "#Codex.Config<#{config.home} layers: #{length(config.layers)}>"
  end
end
