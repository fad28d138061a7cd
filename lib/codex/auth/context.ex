defmodule Codex.Auth.Context do
  @moduledoc false
  # What every function about credentials has to know: which home, where credentials are kept, which rules hold, and how long
  # a keyring may take. All of it comes from the configuration that a run would have.

  alias Codex.{Config, FileSystem, Home}

  @enforce_keys [:home, :store, :env, :timeout]
  defstruct [:home, :store, :env, :timeout, :config, prompt: true, mcp_store: :auto]

  @type store :: :file | :keyring | :auto | :ephemeral | :encrypted
  @type t :: %__MODULE__{
          home: Path.t(),
          store: store(),
          mcp_store: store(),
          env: %{String.t() => String.t()},
          timeout: pos_integer(),
          config: Config.t() | nil,
          prompt: boolean()
        }

  @stores %{"file" => :file, "keyring" => :keyring, "auto" => :auto, "ephemeral" => :ephemeral}

  @options [
    codex_home: nil,
    env: nil,
    cwd: nil,
    profile: nil,
    overrides: [],
    ignore_user_config: false,
    system_dir: "/etc/codex",
    store: nil,
    timeout: 15_000,
    prompt: true
  ]

  @spec new(keyword()) :: {:ok, t()} | {:error, Config.Error.t()}
  def new(opts) do
    opts = Keyword.validate!(opts, @options)
    env = env(opts[:env])

    config =
      Keyword.take(opts, [
        :codex_home,
        :cwd,
        :profile,
        :overrides,
        :ignore_user_config,
        :system_dir
      ])

    check!(opts)

    with {:ok, config} <- load([env: env, timeout: opts[:timeout]] ++ config) do
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

  # On a machine where the CLI has not been used yet there is no `~/.codex`. It is as good as an empty one: the CLI makes it.
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

  # What the CLI encrypts then is its own (0.169: a feature that is off).
  defp store(config, key, default) do
    store = @stores[Config.get(config, key, default)]
    encrypted? = Config.get(config, "features.secret_auth_storage") == true
    if encrypted? and store in [:keyring, :auto], do: :encrypted, else: store
  end

  @doc "Makes the home where it is missing, for what is to be kept there."
  @spec make_home(t()) :: :ok | {:error, {:unreadable, Path.t(), String.t()}}
  def make_home(%__MODULE__{home: home}) do
    with false <- FileSystem.dir?(home),
         {:error, reason} <- FileSystem.make_private(home) do
      # Another process may have made it just now.
      if FileSystem.dir?(home),
        do: :ok,
        else: {:error, {:unreadable, home, FileSystem.message(reason)}}
    else
      _there -> :ok
    end
  end

  @doc "The same without a configuration, for what must go on where that is broken: everything is in files."
  @spec plain(keyword()) :: {:ok, t()} | {:error, Config.Error.t()}
  def plain(opts) do
    opts = Keyword.validate!(opts, @options)
    env = env(opts[:env])

    with {:ok, home} <- Home.resolve(codex_home: opts[:codex_home], env: env),
         do: {:ok, %__MODULE__{home: home, store: :file, env: env, timeout: opts[:timeout]}}
  end

  # nil takes a variable away, as in the options of a run.
  defp env(nil), do: System.get_env()

  defp env(env) do
    env = Map.new(env, fn {name, value} -> {to_string(name), value} end)
    for {name, value} <- env, value != nil, into: %{}, do: {name, value}
  end

  defp check!(opts) do
    unless opts[:store] in [nil | Map.values(@stores)],
      do:
        raise(
          ArgumentError,
          "expected :store to be :file, :keyring, :auto or :ephemeral, got: #{inspect(opts[:store])}"
        )

    unless is_integer(opts[:timeout]) and opts[:timeout] in 1..0xFFFFFFFF,
      do:
        raise(
          ArgumentError,
          "expected :timeout in milliseconds, from 1 to 2^32 - 1, got: #{inspect(opts[:timeout])}"
        )

    unless is_boolean(opts[:prompt]),
      do: raise(ArgumentError, "expected :prompt to be a boolean, got: #{inspect(opts[:prompt])}")
  end
end
