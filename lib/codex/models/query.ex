defmodule Codex.Models.Query do
  @moduledoc false
  # Checks the options of `Codex.Models.fetch/1`, and finds the home, the program and the
  # environment.

  alias Codex.{Error, FileSystem, Home}
  alias Codex.CLI.Program
  alias Codex.Options.Schema

  @schema Schema.new(
            [
              {:codex_home, :os_path,
               "the CLI's home, which must exist; else `CODEX_HOME`, else `~/.codex`. Not used " <>
                 "with a file"},
              {:codex_path, :os_path,
               "the CLI; else `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH",
               also: [:codex_path_override]},
              {:cwd, :os_path,
               "the working directory of the CLI, which reads the configuration of a trusted " <>
                 "project there", also: [:working_directory], shown: "the directory of the VM"},
              {:env, :env,
               "variables for the CLI; nil removes a variable. Of the VM's environment the CLI " <>
                 "gets only the variables for the login and the network",
               default: %{}, secret: true},
              {:source, :source,
               "`:auto`: the CLI, else its cache file if that is fresh. `:cli`: only the CLI. " <>
                 "`:cache`: only the cache file. `{:file, path}`: a file in the format of " <>
                 "`model_catalog_json`",
               default: :auto, expected: "`:auto`, `:cli`, `:cache` or `{:file, path}`"},
              {:bundled, :boolean,
               "returns the built-in catalog of the CLI (`codex debug models --bundled`); the " <>
                 "CLI then uses no network, whatever its login", default: false},
              {:refresh, :boolean, "accepted without effect: each call asks the CLI",
               default: false},
              {:timeout, :milliseconds,
               "the limit of the CLI. The CLI needs about 20 ms; with a login it may ask its " <>
                 "provider first, for up to 5 seconds", default: 15_000}
            ],
            duplicates: :first
          )

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
          program: {:ok, Path.t()} | {:error, Codex.Reason.program()} | nil,
          cwd: Path.t() | nil,
          env: [{String.t(), String.t()}]
        }

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc """
  Makes a query of options. Raises `Codex.OptionError` for invalid options. Returns an error if the
  home or the directory is missing.
  """
  @spec new(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def new(opts) do
    opts = Schema.validate!(@schema, opts, &cast/2)
    query = struct!(__MODULE__, Map.take(opts, [:source, :bundled, :timeout]))

    case opts.source do
      {:file, path} -> {:ok, %{query | source: {:file, Path.expand(path)}}}
      _ -> look_up(query, opts)
    end
  end

  defp look_up(query, opts) do
    env = merge(System.get_env(), opts.env)

    with {:ok, home} <- home(opts.codex_home, env),
         {:ok, cwd} <- cwd(opts.cwd) do
      env = System.get_env() |> Map.take(@inherited) |> merge(opts.env)
      env = env |> Map.put("CODEX_HOME", home) |> Enum.sort()
      {:ok, %{query | home: home, cwd: cwd, env: env, program: Program.find(opts.codex_path)}}
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

  defp cast(:source, {:file, path}) when is_binary(path), do: {:ok, {:file, path}}
  defp cast(:source, source) when source in [:auto, :cli, :cache], do: {:ok, source}
  defp cast(:source, _source), do: :error
end
