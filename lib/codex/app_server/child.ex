defmodule Codex.AppServer.Child do
  @moduledoc false
  # Builds argv and environment of a server, and checks that its configuration can be read.
  # Otherwise the server starts with defaults, and so with the built-in provider.

  alias Codex.CLI.Program
  alias Codex.Config
  alias Codex.Error.Redact
  alias Codex.Exec.{Files, Flags, Secrets, Servers}
  alias Codex.Options.{Merge, Overrides}

  # Closing stdin makes the server end immediately, with all that it has started.
  @ladder [{:close_stdin, 2_000}, {:signal, :term, 1_000}]

  @type reason ::
          Codex.Reason.program()
          | Config.Error.t()
          | Codex.Reason.option()
          | {:invalid_working_directory, Path.t()}

  @doc """
  Returns arguments and options of `Codex.Subprocess.open/2`, with `secrets`: a function that
  returns the texts to redact.
  """
  @spec new(Codex.Options.t(), map()) :: {:ok, [String.t()], keyword()} | {:error, reason()}
  def new(%Codex.Options{} = client, options) do
    options = %{options | clear_env: clear_env?(options)}
    env = env(client, options)

    with {:ok, hidden} <- overrides(client, options),
         {:ok, overrides} <- arguments(hidden.overrides),
         {:ok, program} <- Program.find(client.codex_path_override),
         :ok <- guard(env, options),
         :ok <- Codex.FileSystem.working_directory(options.cwd),
         env = Map.merge(env, hidden.vars),
         load = load(env, overrides, options),
         :ok <- config(load, options),
         {:ok, started, file} <- Servers.wrap(hidden.servers, load),
         {:ok, overrides} <- arguments(hidden.overrides ++ started) do
      strict = if options.strict_config, do: ["--strict-config"], else: []
      argv = [program, "app-server"] ++ strict ++ Enum.flat_map(overrides, &["-c", &1])
      {argv, files} = Files.name(argv ++ file)

      {:ok, argv,
       [
         secrets: fn -> Redact.secrets(Map.merge(System.get_env(), env), hidden.servers) end,
         files: files,
         env: Program.put_path(env, program),
         clear_env: options.clear_env,
         cwd: options.cwd,
         ladder: @ladder,
         start_timeout: options.init_timeout_ms
       ]}
    end
  end

  defp guard(env, options) do
    host = if options.clear_env, do: %{}, else: System.get_env()
    Codex.Home.guard(Map.merge(host, env))
  end

  @doc """
  Returns the options of `Codex.Auth.preflight/1` for this server, except `:codex_home`.
  """
  @spec surroundings(Codex.Options.t(), map()) :: keyword()
  def surroundings(client, options) do
    options = %{options | clear_env: clear_env?(options)}
    host = if options.clear_env, do: %{}, else: System.get_env()
    # The server was started with these.
    {:ok, hidden} = overrides(client, options)
    {:ok, overrides} = arguments(hidden.overrides)
    key = if client.api_key, do: [api_key: client.api_key], else: []
    env = host |> Map.merge(env(client, options)) |> Map.merge(hidden.vars)
    [env: env, cwd: options.cwd, overrides: overrides] ++ key
  end

  defp clear_env?(options), do: options.clear_env or options.isolation == :hermetic

  # Secrets of MCP servers and providers are left out, because every user can read arguments.
  defp overrides(client, options) do
    with {:ok, ours} <- of_client(client) do
      config = if options.config == %{}, do: [], else: options.config
      Secrets.hide(ours ++ isolation(options) ++ login(client) ++ config)
    end
  end

  defp arguments(overrides) do
    with {:error, name} <- Overrides.arguments(overrides),
         do: {:error, Overrides.invalid(name)}
  end

  # Options of the client about the model apply to all threads of the server.
  defp of_client(client) do
    model = if client.model, do: [{["model"], client.model}], else: []

    with {:ok, settings} <- Merge.settings(client, nil, %{}),
         {:ok, sent} <- Flags.all(settings),
         do: {:ok, Flags.overrides(sent, settings) ++ model}
  end

  # The connection logs in with the key, in the memory of its server: the home keeps its login.
  defp login(%{api_key: nil}), do: []

  defp login(_client),
    do: [{["cli_auth_credentials_store"], elem(Overrides.value("ephemeral"), 1)}]

  defp isolation(%{isolation: :hermetic}),
    do: [{["project_doc_max_bytes"], elem(Overrides.value(0), 1)}]

  defp isolation(_options), do: []

  # The server itself does not use a key from its environment: see `login/1`. Providers with an
  # `env_key` and tools do.
  defp env(client, options) do
    keys =
      if client.api_key,
        do: %{"CODEX_API_KEY" => client.api_key, "OPENAI_API_KEY" => client.api_key},
        else: %{}

    home = if client.codex_home, do: %{"CODEX_HOME" => client.codex_home}, else: %{}
    host = if options.clear_env, do: Map.take(System.get_env(), ["PATH", "HOME"]), else: %{}

    [host, keys, home, client.env || %{}, Map.new(options.env)] |> Enum.reduce(&Map.merge(&2, &1))
  end

  defp config(_load, %{broken_config: :allow}), do: :ok

  defp config(load, options) do
    with {:ok, _config} <- Config.load([strict: options.strict_config] ++ load), do: :ok
  end

  defp load(env, overrides, options) do
    host = if options.clear_env, do: %{}, else: System.get_env()
    env = for {name, value} <- Map.merge(host, env), value != nil, into: %{}, do: {name, value}
    [env: env, cwd: options.cwd, overrides: overrides, timeout: options.init_timeout_ms]
  end
end
