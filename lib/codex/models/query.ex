defmodule Codex.Models.Query do
  @moduledoc false
  # What is asked for: the options of `Codex.Models.fetch/1`, checked, with all that the answer depends on looked up.

  alias Codex.{CLI, Error, FileSystem, Home}
  alias Codex.Options.{Cast, Keywords}

  # {name, default, doc, what is expected}
  @table [
    {:codex_home, nil,
     "the CLI's home; else `CODEX_HOME`, else `~/.codex`. It must exist, unless a file is read",
     "a path"},
    {:codex_path, nil, "the CLI; else `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH",
     "a path"},
    {:cwd, nil,
     "where the CLI runs: a trusted project's configuration counts; default: the VM's own directory",
     "a path"},
    {:env, %{},
     "variables for the CLI, as map or keyword; nil takes one away. It gets these, and of the VM's own those that say who is logged in, and how the network is reached",
     "a map or keyword list of variables"},
    {:source, :auto,
     "`:auto`: the CLI, else a fresh cache file. `:cli`: only the CLI. `:cache`: only the cache file. `{:file, path}`: a file like that of `model_catalog_json`",
     ":auto, :cli, :cache or {:file, path}"},
    {:bundled, false,
     "what the CLI has built in (`codex debug models --bundled`): it then reaches for no network whatever the login",
     "true or false"},
    {:refresh, false, "do not take what is kept in the VM", "true or false"},
    {:timeout, 15_000,
     "how long the CLI may take, in ms. It takes some 20 ms; with a login it asks its provider first, and gives up on that after 5 seconds",
     "a positive integer"}
  ]

  # `codex_path_override` is the option's name on a client.
  @also %{working_directory: :cwd, codex_path_override: :codex_path}

  # What the CLI needs of the VM's environment: to find its way, and to know who is logged in. Nothing else, so no key of
  # another service: the CLI asks for models only.
  @inherited ~w(HOME USER LOGNAME PATH LANG LC_ALL TMPDIR XDG_CONFIG_HOME XDG_CACHE_HOME CODEX_API_KEY CODEX_ACCESS_TOKEN) ++
               ~w(HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy) ++
               ~w(SSL_CERT_FILE SSL_CERT_DIR CODEX_CA_CERTIFICATE)

  @small 1024 * 1024

  @enforce_keys [:source, :bundled, :refresh, :timeout]
  @derive {Inspect, except: [:env]}
  defstruct [:source, :bundled, :refresh, :timeout, :home, :program, :cwd, env: []]

  @type t :: %__MODULE__{
          source: :auto | :cli | :cache | {:file, Path.t()},
          bundled: boolean(),
          refresh: boolean(),
          timeout: pos_integer(),
          home: Path.t() | nil,
          program: {:ok, Path.t()} | {:error, CLI.path_error()} | nil,
          cwd: Path.t() | nil,
          env: [{String.t(), String.t()}]
        }

  @doc "The options as a Markdown list."
  @spec docs() :: String.t()
  def docs do
    Enum.map_join(@table, "\n", fn
      {name, default, doc, _} when default in [nil, %{}] -> "  * `:#{name}` - #{doc}"
      {name, default, doc, _} -> "  * `:#{name}` - #{doc}. Default `#{inspect(default)}`"
    end)
  end

  @doc "Raises `ArgumentError` for what is no option; the error is about what is missing on this machine."
  @spec new(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def new(opts) do
    opts = check!(opts)
    query = struct!(__MODULE__, Map.take(opts, [:source, :bundled, :refresh, :timeout]))

    case opts.source do
      {:file, path} -> {:ok, %{query | source: {:file, Path.expand(path)}}}
      _ -> look_up(query, opts)
    end
  end

  defp look_up(query, opts) do
    {:ok, given} = Cast.cast(:env, opts.env)
    env = merge(System.get_env(), given)

    with {:ok, home} <- home(opts.codex_home, env),
         {:ok, cwd} <- cwd(opts.cwd) do
      env = System.get_env() |> Map.take(@inherited) |> merge(given)
      env = env |> Map.put("CODEX_HOME", home) |> Enum.sort()
      {:ok, %{query | home: home, cwd: cwd, env: env, program: CLI.find(opts.codex_path)}}
    end
  end

  defp merge(env, given) do
    Enum.reduce(given, env, fn
      {name, nil}, env -> Map.delete(env, name)
      {name, value}, env -> Map.put(env, name, value)
    end)
  end

  defp home(given, env) do
    with {:error, error} <- Home.resolve(codex_home: given, env: env),
         do: {:error, Error.new(:config, Exception.message(error), %{code: error.reason})}
  end

  defp cwd(nil), do: {:ok, nil}

  defp cwd(dir) do
    dir = Path.expand(dir)

    if FileSystem.dir?(dir),
      do: {:ok, dir},
      else: {:error, Error.new(:config, "there is no directory #{dir}", %{code: :missing_cwd})}
  end

  @doc """
  What the answer depends on, as far as it can be seen at once: another configuration, login, CLI or environment makes another
  key. Of files and environment only digests are kept, as there may be secrets in them.
  """
  @spec key(t()) :: term()
  def key(%__MODULE__{source: {:file, path}}), do: {:file, path, stamp(path)}

  def key(%__MODULE__{source: :cache, home: home}),
    do: {:cache, home, stamp(Home.path(home, :models_cache))}

  def key(%__MODULE__{home: home, program: program} = query) do
    env = :crypto.hash(:sha256, :erlang.term_to_binary(query.env))
    read = for entry <- [:config, :auth], do: home |> Home.path(entry) |> digest()
    # Who waits shorter than the others gets a run of its own, as it would end theirs.
    {query.source, query.bundled, query.timeout, home, query.cwd, program(program), env, read}
  end

  defp program({:ok, path}), do: {path, stamp(path)}
  defp program(error), do: error

  # Not the time of change: it is in seconds, and both files are small and written by programs.
  defp digest(path) do
    case FileSystem.read(path, limit: @small) do
      {:ok, content} -> :crypto.hash(:sha256, content)
      {:error, _} -> stamp(path)
    end
  end

  defp stamp(path) do
    with {:ok, stat} <- FileSystem.stat(path), do: {stat.size, stat.modified, stat.inode}
  end

  # --- Options ------------------------------------------------------------------------------------------------------

  defp check!(opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{Keywords.shown(opts)}")

    defaults = Map.new(@table, fn {name, default, _, _} -> {name, default} end)

    # As everywhere, the first of two counts.
    for {name, value} <- Enum.reverse(opts), reduce: defaults do
      checked ->
        name = Map.get(@also, name, name)
        if value == nil, do: checked, else: Map.put(checked, name, value!(name, value))
    end
  end

  defp value!(name, value) do
    case List.keyfind(@table, name, 0) do
      nil ->
        known = for {name, _, _, _} <- @table, do: name
        raise ArgumentError, Codex.Suggest.unknown_key(name, known)

      {_, _, _, expected} ->
        if valid?(name, value),
          do: value,
          else:
            raise(
              ArgumentError,
              "expected :#{name} to be #{expected}, got: #{Keywords.shown(value)}"
            )
    end
  end

  defp valid?(name, path) when name in [:codex_home, :codex_path, :cwd], do: is_binary(path)
  defp valid?(:env, env), do: match?({:ok, _}, Cast.cast(:env, env))
  defp valid?(:source, {:file, path}), do: is_binary(path)
  defp valid?(:source, source), do: source in [:auto, :cli, :cache]
  defp valid?(:timeout, ms), do: match?({:ok, _}, Cast.cast(:milliseconds, ms))
  defp valid?(_switch, value), do: is_boolean(value)
end
