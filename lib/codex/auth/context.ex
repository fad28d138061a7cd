defmodule Codex.Auth.Context do
  @moduledoc false
  # The facts that all functions about credentials need: home, store, rules and timeout. They come
  # from the configuration of a run.

  alias Codex.Auth.Credentials
  alias Codex.{Config, FileSystem, Home}
  alias Codex.Options.Schema

  @enforce_keys [:home, :store, :env, :timeout]
  defstruct [:home, :store, :env, :timeout, :config, prompt: true, mcp_store: :auto]

  @type t :: %__MODULE__{
          home: Path.t(),
          store: Credentials.store(),
          mcp_store: Credentials.store(),
          env: %{String.t() => String.t()},
          timeout: pos_integer(),
          config: Config.t() | nil,
          prompt: boolean()
        }

  @stores %{"file" => :file, "keyring" => :keyring, "auto" => :auto, "ephemeral" => :ephemeral}

  @config [:codex_home, :cwd, :profile, :overrides, :ignore_user_config, :system_dir]

  @schema Schema.new(
            Enum.filter(Config.rows(), &(elem(&1, 0) in @config)) ++
              [
                {:env, :environment,
                 "the environment of the run: `CODEX_HOME`, keys, and the address of the bus",
                 secret: true, shown: "the environment of the VM"},
                {:store, {:one_of, Map.values(@stores)},
                 "replaces the store of the configuration"},
                {:timeout, :milliseconds,
                 "the time limit of a keyring, of the wait for a lock, and of reading the files " <>
                   "of the configuration", default: 15_000},
                {:prompt, :boolean,
                 "whether a locked keyring may ask its user. On macOS the system decides",
                 default: true}
              ],
            duplicates: :first
          )

  @doc "Returns the options of all functions about credentials as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @spec new(keyword()) :: {:ok, t()} | {:error, Config.Error.t()}
  def new(opts) do
    opts = Schema.validate!(@schema, opts, &Config.cast/2)
    env = opts.env || System.get_env()
    config = opts |> Map.take(@config) |> Map.merge(%{env: env, timeout: opts.timeout})

    with {:ok, config} <- load(Map.to_list(config)) do
      {:ok,
       %__MODULE__{
         home: config.home,
         store: opts[:store] || store(config, "cli_auth_credentials_store", "file"),
         mcp_store: opts[:store] || store(config, "mcp_oauth_credentials_store", "auto"),
         env: env,
         timeout: opts[:timeout],
         prompt: opts[:prompt],
         config: config
       }}
    end
  end

  # If the CLI was never used, `~/.codex` is missing. That equals an empty home: the CLI makes it.
  defp load(opts) do
    named? = opts[:codex_home] != nil or is_map_key(opts[:env], "CODEX_HOME")

    case Config.load(opts) do
      {:error, %{reason: :missing_home, file: home}} when not named? ->
        opts = Keyword.merge(opts, codex_home: "/", ignore_user_config: true, profile: nil)
        with {:ok, config} <- Config.load(opts), do: {:ok, %{config | home: home}}

      result ->
        result
    end
  end

  # The format of the CLI's encryption is private (a feature that is off by default).
  defp store(config, key, default) do
    store = @stores[Config.get(config, key, default)]
    encrypted? = Config.get(config, "features.secret_auth_storage") == true
    if encrypted? and store in [:keyring, :auto], do: :encrypted, else: store
  end

  @doc "Makes the home if it is missing, before a login is stored."
  @spec make_home(t()) :: :ok | {:error, {:unreadable, Path.t(), String.t()}}
  def make_home(%__MODULE__{home: home}), do: make_folder(home)

  @doc "Makes a folder of mode 0700 if it is missing."
  @spec make_folder(Path.t()) :: :ok | {:error, {:unreadable, Path.t(), String.t()}}
  def make_folder(folder) do
    with false <- FileSystem.dir?(folder),
         {:error, reason} <- FileSystem.make_private(folder) do
      # Another process may have made it in the meantime.
      if FileSystem.dir?(folder),
        do: :ok,
        else: {:error, {:unreadable, folder, FileSystem.message(reason)}}
    else
      _there -> :ok
    end
  end

  @doc """
  Makes a context without configuration, for functions that work with an invalid one: files only.
  """
  @spec plain(keyword()) :: {:ok, t()} | {:error, Config.Error.t()}
  def plain(opts) do
    opts = Schema.validate!(@schema, opts, &Config.cast/2)
    env = opts.env || System.get_env()

    with {:ok, home} <- Home.resolve(codex_home: opts[:codex_home], env: env),
         do: {:ok, %__MODULE__{home: home, store: :file, env: env, timeout: opts[:timeout]}}
  end
end
