defmodule Codex.Auth.Context do
  @moduledoc false
  # The facts that all functions about credentials need: home, store, rules and timeout. They come
  # from the configuration of a run.

  alias Codex.{Config, FileSystem, Home}
  alias Codex.Options.Keywords

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
    opts = Keywords.validate!(opts, @options)
    env = env(opts)

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
  def make_home(%__MODULE__{home: home}) do
    with false <- FileSystem.dir?(home),
         {:error, reason} <- FileSystem.make_private(home) do
      # Another process may have made it in the meantime.
      if FileSystem.dir?(home),
        do: :ok,
        else: {:error, {:unreadable, home, FileSystem.message(reason)}}
    else
      _there -> :ok
    end
  end

  @doc """
  Makes a context without configuration, for functions that work with an invalid one: files only.
  """
  @spec plain(keyword()) :: {:ok, t()} | {:error, Config.Error.t()}
  def plain(opts) do
    opts = Keywords.validate!(opts, @options)
    env = env(opts)

    with {:ok, home} <- Home.resolve(codex_home: opts[:codex_home], env: env),
         do: {:ok, %__MODULE__{home: home, store: :file, env: env, timeout: opts[:timeout]}}
  end

  # nil removes a variable, as in the options of a run.
  defp env(opts) do
    Keywords.check!(opts, :env, &(is_nil(&1) or variables?(&1)), "a map or keyword of variables")

    case opts[:env] do
      nil ->
        System.get_env()

      env ->
        for {name, value} <- env, value != nil, into: %{}, do: {to_string(name), value}
    end
  end

  defp variables?(env) when is_map(env) and not is_struct(env),
    do: Enum.all?(env, &variable?/1)

  defp variables?(env) when is_list(env),
    do: not List.improper?(env) and Enum.all?(env, &variable?/1)

  defp variables?(_other), do: false

  defp variable?({name, value}),
    do: (is_binary(name) or is_atom(name)) and (is_nil(value) or is_binary(value))

  defp variable?(_other), do: false

  defp check!(opts) do
    store? = &(&1 in [nil | Map.values(@stores)])
    Keywords.check!(opts, :store, store?, ":file, :keyring, :auto or :ephemeral")
    ms? = &(is_integer(&1) and &1 in 1..0xFFFFFFFF)
    Keywords.check!(opts, :timeout, ms?, "in milliseconds, from 1 to 2^32 - 1")
    Keywords.check!(opts, :prompt, &is_boolean/1, "a boolean")
  end
end
