defmodule Codex.Models.Query do
  @moduledoc false
  # Checks the options of `Codex.Models.fetch/1`, and finds the home, the program and the
  # environment.

  alias Codex.{CLI, Error, FileSystem, Home}
  alias Codex.Options.{Cast, Keywords}

  # {name, default, doc, expected value}
  @table [
    {:codex_home, nil,
     "the CLI's home, which must exist; else `CODEX_HOME`, else `~/.codex`. Not used with a file",
     "a path"},
    {:codex_path, nil, "the CLI; else `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH",
     "a path"},
    {:cwd, nil,
     "the working directory of the CLI, which reads the configuration of a trusted project " <>
       "there; default: the directory of the VM", "a path"},
    {:env, %{},
     "variables for the CLI, as map or keyword; nil removes a variable. Of the VM's environment
     the " <>
       "CLI gets only the variables for the login and the network",
     "a map or keyword list of variables"},
    {:source, :auto,
     "`:auto`: the CLI, else its cache file if that is fresh. `:cli`: only the CLI. `:cache`: only
     " <>
       "the cache file. `{:file, path}`: a file in the format of `model_catalog_json`",
     ":auto, :cli, :cache or {:file, path}"},
    {:bundled, false,
     "whether to return the built-in catalog of the CLI (`codex debug models --bundled`); the CLI
     " <>
       "then uses no network, whatever its login", "true or false"},
    {:refresh, false, "accepted without effect: each call asks the CLI", "true or false"},
    {:timeout, 15_000,
     "the limit of the CLI, in ms. The CLI needs about 20 ms; with a login it may ask its provider
     " <>
       "first, for up to 5 seconds", "a positive integer"}
  ]

  # `codex_path_override` is the option's name on a client.
  @also %{working_directory: :cwd, codex_path_override: :codex_path}

  # The variables of the VM that the CLI needs for its files, its login and the network. The CLI
  # gets no others, so it gets no key of another service.
  @inherited ~w(HOME USER LOGNAME PATH LANG LC_ALL TMPDIR XDG_CONFIG_HOME XDG_CACHE_HOME) ++
               ~w(CODEX_API_KEY CODEX_ACCESS_TOKEN) ++ ~w(HTTP_PROXY HTTPS_PROXY ALL_PROXY
               NO_PROXY http_proxy https_proxy all_proxy no_proxy) ++ ~w(SSL_CERT_FILE
               SSL_CERT_DIR CODEX_CA_CERTIFICATE)

  @enforce_keys [:source, :bundled, :timeout]
  @derive {Inspect, except: [:env]}
  defstruct [:source, :bundled, :timeout, :home, :program, :cwd, env: []]

  @type t :: %__MODULE__{
          source: :auto | :cli | :cache | {:file, Path.t()},
          bundled: boolean(),
          timeout: pos_integer(),
          home: Path.t() | nil,
          program: {:ok, Path.t()} | {:error, CLI.path_error()} | nil,
          cwd: Path.t() | nil,
          env: [{String.t(), String.t()}]
        }

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs do
    Enum.map_join(@table, "\n", fn
      {name, default, doc, _} when default in [nil, %{}] -> "  * `:#{name}` - #{doc}"
      {name, default, doc, _} -> "  * `:#{name}` - #{doc}. Default `#{inspect(default)}`"
    end)
  end

  @doc """
  Makes a query of options. Raises `ArgumentError` for invalid options. Returns an error if the
  home or the directory is missing.
  """
  @spec new(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def new(opts) do
    opts = check!(opts)
    query = struct!(__MODULE__, Map.take(opts, [:source, :bundled, :timeout]))

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

  # --- Options ----------------------------------------------------------------------------------

  defp check!(opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{Keywords.shown(opts)}")

    defaults = Map.new(@table, fn {name, default, _, _} -> {name, default} end)

    # The first of two equal keys counts.
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
