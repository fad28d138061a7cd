defmodule Codex.Config do
  @moduledoc """
  The configuration that the Codex CLI would run with, layer by layer, and where each value comes from.

      {:ok, config} = Codex.Config.load(cwd: "/srv/app")
      Codex.Config.get(config, "model")
      #=> "gpt-5.5"
      Codex.Config.origin(config, "model")
      #=> %{layer: :project, file: "/srv/app/.codex/config.toml", line: 3, column: 1, profile: nil}
      IO.puts(Codex.Config.explain(config, "model"))

  Layers, the highest first: the administrator's `managed_config.toml`, session flags (`-c`), `.codex/config.toml` of
  the project's directories (the nearest first, up to the root of the project), the profile, the user's `config.toml`,
  and that of the system. Tables are merged key by key; anything else replaces what lies beneath. Project files count
  only where the project is trusted; otherwise their layers are there, with a `disabled_reason`.

  A file that is no TOML, or sets a key to a value of another type, is an error, as it is for the CLI. Keys that do not exist
  are warnings, also where the CLI says nothing; with `strict: true` those that the CLI refuses then are errors.

  Where a key has an older name that the CLI takes as well, merging puts it under the newer one
  (`agents.max_threads` is `agents.max_concurrent_threads_per_session`); below `features` it stays as it is written.

  What the CLI has built in is not known here: a key that no layer sets has no value.
  """

  alias Codex.Config.{Error, Explain, Key, Layer, Loader, Schema, Writer}
  alias Codex.{FileSystem, Home, Native}
  alias Codex.Options.Keywords

  @enforce_keys [:home, :layers, :tree]
  defstruct [:home, :cwd, :layers, :tree, warnings: [], requirements: %{}]

  @typedoc "A loaded configuration. It does not change when files do; load it again."
  @type t :: %__MODULE__{
          home: Path.t(),
          cwd: Path.t() | nil,
          layers: [Layer.t()],
          tree: reference(),
          warnings: [Error.t()],
          requirements: map()
        }

  @typedoc "Which layer set a key, and where: nil where there is no file."
  @type origin :: %{
          layer: Layer.name(),
          file: Path.t() | nil,
          line: pos_integer() | nil,
          column: pos_integer() | nil,
          profile: String.t() | nil
        }

  @options [
    codex_home: nil,
    env: nil,
    cwd: nil,
    profile: nil,
    overrides: [],
    ignore_user_config: false,
    strict: false,
    system_dir: "/etc/codex",
    system_config: nil,
    timeout: 5_000,
    max_nodes: Loader.max_nodes()
  ]

  @doc """
  Reads and merges all layers.

  Options (keyword list):

    * `:codex_home` - the home (path, default: see `Codex.Home.resolve/1`)
    * `:env` - the environment to take `CODEX_HOME` and `HOME` from (map of strings, default that of the VM)
    * `:cwd` - the directory that a run would work in (path, default the current directory); `false` for none: then
      there are no project layers
    * `:profile` - the name of a profile, which stands in `<name>.config.toml` of the home (string, default none). A
      profile without a file is an empty layer
    * `:overrides` - what `-c` would be given (list of `"key=value"` strings, default `[]`), read as the CLI reads it
    * `:ignore_user_config` - whether the user's `config.toml` counts as empty, as with `--ignore-user-config` (boolean, default
      `false`). Projects are trusted there, so none is then
    * `:strict` - whether unknown keys are errors, as with `--strict-config` (boolean, default `false`)
    * `:system_dir` - where the system's files are (path, default `"/etc/codex"`)
    * `:system_config` - the system's `config.toml` under another name (path, default: the one in
      `:system_dir`)
    * `:timeout` - how long reading all files may take, for a disk that does not answer
      (milliseconds, default 5000)
    * `:max_nodes` - how many keys and values a file may have (positive integer, default 100_000).
      Reading 100_000 takes about 100 MB for a moment

  Each file must be a regular file, or a link to a regular file, of at most 16 MiB. Anything else (a
  named pipe, a device, a directory) is an error with the reason `:unreadable`, also in a project
  that is not trusted: the CLI does not start there, either.

  Returns `{:ok, config}` or `{:error, error}` with any reason of `Codex.Config.Error` but those about writing. Raises
  `ArgumentError` for an option that does not exist or has a value of another type.
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
    opts = opts |> Keywords.validate!(@options) |> Map.new()

    Keywords.check!(opts, :overrides, &Keywords.strings?/1, "a list of strings")
    Keywords.check!(opts, :ignore_user_config, &is_boolean/1, "a boolean")
    Keywords.check!(opts, :strict, &is_boolean/1, "a boolean")
    Keywords.check!(opts, :profile, &(is_nil(&1) or is_binary(&1)), "a string")
    Keywords.check!(opts, :cwd, &(&1 in [nil, false] or is_binary(&1)), "a path or false")
    Keywords.check!(opts, :system_dir, &is_binary/1, "a path")
    Keywords.check!(opts, :system_config, &(is_nil(&1) or is_binary(&1)), "a path")
    positive? = &(is_integer(&1) and &1 in 1..0xFFFFFFFF)
    Keywords.check!(opts, :timeout, positive?, "in milliseconds, above 0")
    Keywords.check!(opts, :max_nodes, positive?, "a number above 0")
    Keywords.check!(opts, :env, &(is_nil(&1) or is_map(&1)), "a map of strings")

    Map.merge(opts, %{cwd: cwd(opts.cwd), user_home: user_home(opts.env)})
  end

  defp cwd(false), do: nil
  defp cwd(nil), do: File.cwd!()
  defp cwd(path), do: Path.expand(path)

  defp user_home(nil), do: System.user_home() || "/"
  defp user_home(env), do: env["HOME"] || "/"

  # The CLI checks what remains after merging: a wrong value beneath a good one harms nobody. It is a warning here.
  defp merged(loaded, requirements, opts) do
    layers = for {layer, _, _} <- loaded, do: layer
    tree = Loader.merge(layers)
    problems = Native.config_check(Schema.ref(), tree)
    errors = for {:error, error} <- Loader.problems(problems, source(loaded)), do: error

    strict =
      for {layer, problems, _} <- loaded, counts?(layer), {:strict, error} <- problems, do: error

    case {errors, opts.strict and strict != []} do
      {[error | _], _} ->
        {:error, error}

      {[], true} ->
        {:error, hd(strict)}

      {[], false} ->
        warnings = for {_, problems, _} <- loaded, {_weight, error} <- problems, do: error

        {:ok,
         %__MODULE__{
           home: opts.home,
           cwd: opts.cwd,
           layers: layers,
           tree: tree,
           warnings: warnings,
           requirements: requirements
         }}
    end
  end

  defp counts?(layer), do: layer.disabled_reason == nil

  defp source(loaded) do
    counting =
      for({layer, _, text} <- loaded, counts?(layer), do: {layer.file, text}) |> Enum.reverse()

    &Enum.at(counting, &1)
  end

  # A broken file of requirements stops the CLI as well.
  defp read_requirements(%{system_dir: dir, deadline: deadline, max_nodes: max_nodes}) do
    path = Path.join(dir, "requirements.toml")

    with {:ok, text} <- Loader.read(path, deadline: deadline),
         {:ok, tree} <- Loader.parse(path, text, max_nodes),
         do: {:ok, Native.config_term(tree)}
  end

  @doc "All layers, the highest first, also those that do not count."
  @spec layers(t()) :: [Layer.t()]
  def layers(%__MODULE__{layers: layers}), do: layers

  @doc "The merged values: a map with string keys. Dates are strings, infinite floats `\"inf\"`, `\"-inf\"` and `\"nan\"`."
  @spec effective(t()) :: %{String.t() => term()}
  def effective(%__MODULE__{tree: tree}), do: Native.config_term(tree)

  @doc """
  The value of a key, or `default` (nil) where no layer sets it.

  The key is `t:Codex.Config.Key.t/0`, also that of a table or of an element of an array. Raises `ArgumentError` for what is
  no key.
  """
  @spec get(t(), Key.t(), term()) :: term()
  def get(%__MODULE__{tree: tree}, key, default \\ nil) do
    case Native.config_get(tree, Key.parse!(key)) do
      {:ok, value, _layer, _place} -> value
      :none -> default
    end
  end

  @doc """
  Which layer set a key, in which file and where in it; nil where none does.

  A table that several layers share is of the highest that has it. Raises `ArgumentError` for what is no key.
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
  The origins of all values: of each that is neither array nor table, and of each empty one of those. Elements of arrays
  have their index as a segment.
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
  What every layer says about a key, the highest first: layers that do not set it are left out.

  Each is `%{origin: origin, value: value, disabled_reason: nil | reason}`. Raises `ArgumentError` for what is no key.
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
  What is wrong without stopping the CLI: unknown keys, wrong values that a higher layer sets anew, keys that a project may
  not set, and everything in layers that do not count.
  """
  @spec warnings(t()) :: [Error.t()]
  def warnings(%__MODULE__{warnings: warnings}), do: warnings

  @doc """
  The values of the administrator's `requirements.toml`, a map with string keys. The CLI replaces values that they do not
  allow when it runs; `effective/1` shows the values as they are configured, as the CLI's own `config/read` does.
  """
  @spec requirements(t()) :: %{String.t() => term()}
  def requirements(%__MODULE__{requirements: requirements}), do: requirements

  @doc "The layers and the warnings, for people to read. It shows no values."
  @spec explain(t()) :: String.t()
  def explain(%__MODULE__{} = config), do: Explain.layers(config)

  @doc "The value of a key, where it comes from, and what lies beneath, for people to read."
  @spec explain(t(), Key.t()) :: String.t()
  def explain(%__MODULE__{} = config, key),
    do: Explain.key(Key.parse!(key), get(config, key), history(config, key), requirements(config))

  @typedoc """
  A change to a file. A value is what JSON can hold, without nil; atoms are strings, but for `true` and `false`. The fourth
  element says what a table does to one that is there: `:replace` it, or `:upsert`, be merged into it.
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

  @doc "Removes a key from the user's `config.toml`; one that is not there is no error. See `batch/2`."
  @spec delete(Key.t(), keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def delete(key, opts \\ []), do: batch([{:delete, key}], opts)

  @doc """
  Makes several changes to a file, all or none. Comments and order of everything else stay.

  Options (keyword list):

    * `:codex_home`, `:env` - as for `load/1`
    * `:profile` - changes `<name>.config.toml` instead of `config.toml` (string, default none)
    * `:expected_version` - the `version` of the layer that the changes are made for (string, default none: any)
    * `:merge` - what a table does to one that is there, where an edit does not say it: `:replace` (default) or
      `:upsert`
    * `:timeout` - how long to wait for another writer (milliseconds, default 5000)

  The file is replaced at once (a new one is written, synced and renamed; its mode stays, and a link stays a link), so a
  reader sees the old or the new one. Writers of this library wait for each other, also in other VMs on the machine,
  by a lock on `.config.toml.lock` beside the file. The CLI takes no lock: when it writes meanwhile, the changes are made
  anew to what it wrote.

  Returns `{:ok, %{file: path, version: version}}` with the new version, or `{:error, error}`, and then nothing is written:
  `:conflict` (`:expected` and `:found` have the versions), `:bad_value`, `:bad_profile`, `:empty_home`, `:missing_home`,
  `:unreadable`, `:unwritable`, `:syntax` of the file, and any reason that the schema gives for a value that the CLI would
  refuse. Unknown keys are written. Raises `ArgumentError` for what is no edit, key or option.
  """
  @spec batch([edit()], keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def batch(edits, opts \\ [])

  def batch(edits, opts) when is_list(edits) and length(edits) >= 0,
    do: Writer.write(edits, opts)

  def batch(other, _opts),
    do: raise(ArgumentError, "expected a list of edits, got: #{Keywords.shown(other)}")

  defimpl Inspect do
    # Values hold keys and headers.
    def inspect(config, _opts),
      do: "#Codex.Config<#{config.home} layers: #{length(config.layers)}>"
  end
end
