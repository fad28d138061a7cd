defmodule Codex.Config.Loader do
  @moduledoc false
  # Reads files into layers. Each layer comes with its problems and its text. Invalid TOML is an
  # error unless the layer is disabled.

  alias Codex.Config.{Error, Layer, Project, Schema}
  alias Codex.{FileSystem, Home, Native}

  require FileSystem

  # Each key or value takes some hundred bytes while a file is read, so the peak is about 100 MB.
  # The CLI itself knows some hundred keys.
  @max_nodes 100_000
  @max_line 400

  @typedoc """
  A problem and its effect on the CLI: `:error` stops it, `:strict` stops it with `--strict-config`,
  `:silent` has no effect.
  """
  @type problem :: {:error | :strict | :silent, Error.t()}
  @type loaded :: {Layer.t(), [problem()], text :: binary()}

  @doc "Loads the layers, highest first, each with the problems of that layer alone."
  @spec load(map()) :: {:ok, [loaded()]} | {:error, Error.t()}
  def load(%{home: home, system_dir: system_dir} = opts) do
    opts = Map.put_new_lazy(opts, :deadline, fn -> FileSystem.deadline(5_000) end)
    managed = Path.join(system_dir, "managed_config.toml")

    system = opts[:system_config] || Path.join(system_dir, "config.toml")

    with {:ok, system} <- file(:system, system, opts),
         {:ok, user} <- user(Home.path(home, :config), opts),
         {:ok, profile} <- profile(opts),
         {:ok, flags} <- flags(opts),
         {:ok, managed} <- if_there(:managed, managed, opts),
         base = managed ++ flags ++ profile ++ user ++ system,
         {:ok, projects} <- projects(base, opts) do
      {:ok, managed ++ flags ++ projects ++ profile ++ user ++ system}
    end
  end

  defp user(path, %{ignore_user_config: true} = opts),
    do: {:ok, [parsed(:user, path, "", opts)]}

  defp user(path, opts), do: file(:user, path, opts)

  defp profile(%{profile: nil}), do: {:ok, []}

  defp profile(%{profile: name, home: home} = opts) do
    if name =~ ~r/\A[A-Za-z0-9_-]+\z/ do
      with {:ok, [loaded]} <- file(:profile, Path.join(home, name <> ".config.toml"), opts),
           do: {:ok, [put_elem(loaded, 0, %{elem(loaded, 0) | profile: name})]}
    else
      {:error,
       %Error{
         reason: :bad_profile,
         found: name,
         message: "a profile cannot be called #{inspect(name)}"
       }}
    end
  end

  defp flags(%{overrides: []}), do: {:ok, []}

  defp flags(%{overrides: overrides} = opts) do
    case Native.config_overrides(overrides) do
      {:ok, tree} ->
        base = opts.cwd || opts.home
        prepared = Native.config_prepare(Schema.ref(), tree, base, opts.user_home)
        {:ok, [layer(:session_flags, nil, prepared, "")]}

      {:error, {kind, override}} ->
        {:error,
         %Error{reason: :bad_override, found: override, message: override_words(kind, override)}}
    end
  end

  # The CLI's own words, except for the last clause.
  defp override_words(:missing_equals, override),
    do: "Invalid override (missing '='): #{override}"

  defp override_words(:empty_key, override), do: "Empty key in override: #{override}"

  defp override_words(:too_deep, override),
    do: "Too many dots in override: #{String.slice(override, 0, 80)}…"

  defp projects(_base, %{cwd: nil}), do: {:ok, []}

  defp projects(base, %{cwd: cwd, home: home} = opts) do
    layers = for {layer, _, _} <- base, do: layer
    config = layers |> merge(Project.keys()) |> Native.config_term()
    project = Project.find(cwd, config, deadline: opts.deadline)

    each(Project.folders(project, home, deadline: opts.deadline), fn folder ->
      project(folder, Project.trust(project, folder, config, Home.path(home, :config)), opts)
    end)
  end

  defp project(folder, trust, opts) do
    case {file(:project, Path.join(folder, "config.toml"), opts), trust} do
      {{:ok, layers}, :trusted} -> {:ok, layers}
      {{:ok, layers}, {:disabled, why}} -> {:ok, Enum.map(layers, &disable(&1, why))}
      {{:error, error}, :trusted} -> {:error, error}
      # The CLI does not start then, whether the project is trusted or not.
      {{:error, %{reason: :unreadable} = error}, {:disabled, _why}} -> {:error, error}
      {{:error, error}, {:disabled, why}} -> {:ok, [broken(error, why, opts)]}
    end
  end

  defp disable(loaded, why),
    do: put_elem(loaded, 0, %{elem(loaded, 0) | disabled_reason: why})

  # The CLI lists the layer as empty.
  defp broken(error, why, opts) do
    :project |> parsed(error.file, "", opts) |> disable(why) |> put_elem(1, [{:error, error}])
  end

  defp each(list, fun) do
    Enum.reduce_while(list, {:ok, []}, fn item, {:ok, done} ->
      case fun.(item) do
        {:ok, layers} -> {:cont, {:ok, done ++ layers}}
        error -> {:halt, error}
      end
    end)
  end

  defp if_there(name, path, opts) do
    case FileSystem.stat(path, deadline: opts.deadline) do
      {:error, reason} when FileSystem.is_missing(reason) -> {:ok, []}
      _there -> file(name, path, opts)
    end
  end

  defp file(name, path, opts) do
    with {:ok, text} <- read(path, deadline: opts.deadline) do
      case parsed(name, path, text, opts) do
        {:error, _} = error -> error
        layer -> {:ok, [layer]}
      end
    end
  end

  @doc "Reads a file; a missing file is empty."
  @spec read(Path.t(), FileSystem.opts()) :: {:ok, binary()} | {:error, Error.t()}
  def read(path, opts \\ []) do
    case FileSystem.read(path, opts) do
      {:ok, text} -> {:ok, text}
      {:error, reason} when FileSystem.is_missing(reason) -> {:ok, ""}
      {:error, reason} -> {:error, unreadable(path, reason)}
    end
  end

  defp unreadable(path, reason) do
    message = "it cannot be read: #{FileSystem.message(reason)}"
    %Error{reason: :unreadable, file: path, found: found(reason), message: message}
  end

  defp found({:not_regular, kind}), do: FileSystem.kind_words(kind)
  defp found({:too_large, _limit}), do: nil
  defp found({:native, _words}), do: nil
  defp found(reason), do: to_string(reason)

  defp parsed(name, path, text, opts) do
    {base, max, project?} = {Path.dirname(path), opts.max_nodes, name == :project}

    case Native.config_layer(Schema.ref(), text, max, base, opts.user_home, project?) do
      {:ok, prepared} -> layer(name, path, prepared, text)
      {:error, fault} -> {:error, fault(path, fault, max)}
    end
  end

  @doc "Returns the default of the option `:max_nodes`."
  @spec max_nodes() :: pos_integer()
  def max_nodes, do: @max_nodes

  @doc "Parses a text into a tree. Errors name `path`: invalid syntax, or too many keys and values."
  @spec parse(Path.t(), binary(), pos_integer()) :: {:ok, reference()} | {:error, Error.t()}
  def parse(path, text, max_nodes \\ @max_nodes) do
    with {:error, fault} <- Native.config_parse(text, max_nodes),
         do: {:error, fault(path, fault, max_nodes)}
  end

  defp fault(path, :too_large, max_nodes), do: too_large(path, max_nodes)

  defp fault(path, {{line, column}, message, source_line}, _max_nodes) do
    %Error{
      reason: :syntax,
      file: path,
      line: line,
      column: column,
      message: message,
      source_line: shortened(source_line)
    }
  end

  @doc "Builds the error for a file with too many keys and values."
  @spec too_large(Path.t(), pos_integer()) :: Error.t()
  def too_large(path, max_nodes) do
    message = "it has more than #{max_nodes} keys and values (max_nodes)"
    %Error{reason: :too_large, file: path, expected: to_string(max_nodes), message: message}
  end

  defp layer(name, path, {tree, config, version, problems, dropped}, text) do
    layer = %Layer{
      name: name,
      file: path,
      version: version,
      config: config,
      tree: tree,
      dropped: dropped
    }

    {layer, problems(problems, fn _index -> {path, text} end) ++ dropped_keys(dropped, path),
     text}
  end

  defp dropped_keys(dropped, path) do
    for key <- dropped do
      message = "`#{key}` is not taken from a project's file; set it in the user's config.toml"
      {:silent, %Error{reason: :project_key, file: path, path: [key], message: message}}
    end
  end

  @doc """
  Merges the layers that count: all of their keys, or some of those at the top of the files. The
  list begins with the highest layer.
  """
  @spec merge([Layer.t()], [String.t()] | nil) :: reference()
  def merge(layers, keys \\ nil),
    do: layers |> counting() |> Enum.map(& &1.tree) |> Native.config_merge(keys)

  @doc """
  Returns the layers that count, lowest first: the order that indices of merged trees refer to.
  """
  @spec counting([Layer.t()]) :: [Layer.t()]
  def counting(layers), do: layers |> Enum.filter(&(&1.disabled_reason == nil)) |> Enum.reverse()

  @doc "Returns the problems of a tree; `source` maps a layer's index to its file and text."
  @spec problems([tuple()], (non_neg_integer() -> {Path.t() | nil, binary()})) :: [problem()]
  def problems([], _source), do: []

  def problems(problems, source) do
    indices =
      for {{_reason, _weight, index, _place}, _path, _words} <- problems, uniq: true, do: index

    # Split and shortened once, because there may be as many problems as lines.
    sources =
      for index <- indices, {file, text} = source.(index), into: %{} do
        {index, {file, text |> String.split("\n") |> Enum.map(&shortened/1) |> List.to_tuple()}}
      end

    Enum.map(problems, &problem(&1, sources))
  end

  defp problem({{reason, weight, index, {line, column}}, path, words}, sources) do
    {message, found, expected, nearest} = words
    %{^index => {file, lines}} = sources

    {weight,
     %Error{
       reason: reason,
       file: file,
       line: if(line > 0, do: line),
       column: if(line > 0, do: column),
       path: path,
       message: message,
       found: found,
       expected: if(expected != "", do: expected),
       nearest: nearest,
       source_line: source_line(lines, line)
     }}
  end

  defp source_line(lines, line) when line >= 1 and line <= tuple_size(lines),
    do: elem(lines, line - 1)

  defp source_line(_lines, _line), do: nil

  defp shortened(line) when byte_size(line) <= @max_line, do: String.trim_trailing(line, "\r")

  defp shortened(line) do
    line |> binary_part(0, @max_line) |> String.chunk(:valid) |> hd() |> Kernel.<>("…")
  end
end
