defmodule Codex.AppServer.Connect do
  @moduledoc false
  # Starts connections: to a server of this package, or to one that listens. `connect/2` and
  # `connect_remote/2` of `Codex.AppServer` have the documentation.

  alias Codex.AppServer.{Child, DefaultSocket, Options, Server}
  alias Codex.JSONRPC.{Listening, Socket, Stdio}
  alias Codex.JSONRPC.Socket.Address
  alias Codex.Options.Table

  @typedoc "Supervised by this package, or linked to the caller."
  @type start :: :supervised | :linked

  @doc "Starts a server, and a connection to it."
  @spec child(term(), term(), start()) ::
          {:ok, pid()} | {:error, Codex.AppServer.connect_reason()}
  def child(client, options, start \\ :supervised) do
    with {:ok, client} <- Codex.Options.new(client),
         {:ok, options} <- Options.new(options, :child) do
      known = %{
        telemetry_prefix: client.telemetry_prefix,
        account: account(client, options),
        client: fingerprint(client),
        own_home?: own_home?(client, options),
        files: :local,
        # As a function: reports of a crash show the state.
        api_key: client.api_key && fn -> client.api_key end,
        surroundings: fn -> Child.surroundings(client, options) end
      }

      serve(start, &opener(client, options, &1), Map.merge(options, known))
    end
  end

  # Options that hold for the whole server process, and so for all threads of the connection.
  @of_process [:api_key, :base_url, :codex_path_override, :codex_home, :env]

  @doc """
  Returns digests of the client's options that a thread cannot have for itself, so that those of a
  connection and a thread can be compared.
  """
  @spec fingerprint(Codex.Options.t()) :: %{atom() => binary()}
  def fingerprint(%Codex.Options{} = client) do
    defaults = Table.defaults(:global)

    for name <- @of_process,
        value = Map.fetch!(client, name),
        value not in [nil, %{}, defaults[name]],
        into: %{},
        do: {name, :crypto.hash(:sha256, :erlang.term_to_binary(value))}
  end

  defp own_home?(client, options) do
    named = Map.merge(client.env || %{}, Map.new(options[:env] || %{}))["CODEX_HOME"]
    options[:isolation] == :hermetic and client.codex_home == nil and named == nil
  end

  # Called for each server: the configuration may have changed.
  defp opener(client, options, home) do
    client = if home, do: %{client | codex_home: home}, else: client

    with {:ok, argv, child} <- Child.new(client, options),
         do: transport(argv, child, options)
  end

  defp transport(argv, child, %{listen: nil} = options),
    do: {:ok, {Stdio, {argv, child, options}}}

  # The socket is that of this user.
  @own_socket %{secrets: [], token: nil, headers: [], tls: [], ping_interval_ms: :infinity}

  defp transport(argv, child, options) do
    with {:ok, url} <- listening(options.listen, child),
         {:ok, address} <- Address.new(url) do
      socket = Map.merge(@own_socket, %{address: address, send_timeout_ms: 10_000})
      argv = argv ++ ["--listen", options.listen]
      {:ok, {Listening, {argv, child, Map.merge(options, socket)}}}
    end
  end

  defp listening("unix://", child) do
    env = if child[:clear_env], do: %{}, else: System.get_env()

    env =
      for {name, value} <- Map.merge(env, child[:env]), value != nil, into: %{}, do: {name, value}

    with {:ok, home} <- Codex.Home.resolve(env: env),
         do: {:ok, "unix://" <> DefaultSocket.path(home, DefaultSocket.uid())}
  end

  defp listening(url, _child), do: {:ok, url}

  @doc "Connects to a server that listens."
  @spec remote(term(), term(), start()) ::
          {:ok, pid()} | {:error, Codex.AppServer.connect_reason()}
  def remote(url, options, start \\ :supervised) do
    with {:ok, options} <- Options.new(options, :remote),
         {:ok, url} <- default_socket(url, options),
         {:ok, address} <- Address.new(url),
         secrets = secrets(options),
         :ok <- private(address, secrets) do
      options = Map.merge(options, %{address: address, secrets: secrets, account: account(url)})
      ours = %{own_home?: false, client: %{}, files: :remote, api_key: nil, surroundings: nil}
      known = options |> Map.drop([:secrets]) |> Map.merge(ours)
      serve(start, fn _home -> {:ok, {Socket, options}} end, known)
    end
  end

  defp default_socket("unix://", options) do
    with {:ok, home} <- Codex.Home.resolve(codex_home: options.codex_home),
         do: {:ok, "unix://" <> DefaultSocket.path(home, DefaultSocket.uid())}
  end

  defp default_socket(_url, %{codex_home: home}) when home != nil,
    do:
      {:error, Codex.OptionError.invalid(:codex_home, home, "left out, except for unix:// alone")}

  defp default_socket(url, _options), do: {:ok, url}

  @secret_header ~r/authorization|cookie|token|secret|key|password/i

  defp secrets(%{token: token, headers: headers}) do
    values =
      for {name, value} <- headers,
          name =~ @secret_header,
          # In `Bearer abc`, `abc` is a secret, too.
          secret <- [value, value |> String.split() |> List.last()],
          secret not in [nil, ""],
          do: secret

    Enum.uniq(List.wrap(token) ++ values)
  end

  defp private(address, secrets) do
    if secrets == [] or Address.private?(address),
      do: :ok,
      else: {:error, Socket.Connect.insecure(address.authority)}
  end

  defp serve(start, opener, options) do
    :ok = Codex.Started.check!()
    ref = make_ref()
    from = {self(), ref}
    options = Map.put(options, :parent, if(start == :linked, do: self()))
    args = fn -> {opener, options, from} end

    case start(start, args, options.name) do
      {:ok, pid} -> hello(pid, ref)
      {:error, {:already_started, pid}} -> {:error, {:already_started, pid}}
      {:error, reason} -> {:error, {:app_server_down, %{reason: reason}}}
    end
  end

  defp start(:linked, args, name), do: Server.start_link({args, name})

  defp start(:supervised, args, name),
    do: DynamicSupervisor.start_child(Codex.AppServer.Supervisor, {Server, {args, name}})

  defp hello(pid, ref) do
    monitor = Process.monitor(pid)

    receive do
      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        with {:ok, _hello} <- result, do: {:ok, pid}

      {:DOWN, ^monitor, :process, _, reason} ->
        # The process replies before it ends, unless it was killed.
        receive do
          {^ref, {:error, reason}} -> {:error, reason}
        after
          0 -> {:error, {:app_server_down, %{reason: reason}}}
        end
    end
  end

  @doc "Returns the account of a connection's rate limits."
  @spec account(Codex.Options.t() | String.t(), map() | keyword()) :: String.t()
  def account(client, options \\ [])

  def account("unix://", options) do
    case default_socket("unix://", %{codex_home: Map.new(options)[:codex_home]}) do
      {:ok, url} -> account(url, options)
      {:error, _} -> "remote:url:none"
    end
  end

  def account(url, _options) when is_binary(url) do
    digest = :crypto.hash(:sha256, url) |> binary_part(0, 8) |> Base.encode16(case: :lower)
    "remote:url:" <> digest
  end

  def account(%Codex.Options{} = client, options) do
    options = Map.new(options)
    env = Map.merge(client.env || %{}, Map.new(options[:env] || %{}))
    # No other connection has its home.
    own = if own_home?(client, options), do: "own:#{System.unique_integer([:positive])}:"

    "#{own}" <>
      Codex.RateLimit.account(%{
        env: Map.put(env, "CODEX_API_KEY", nil),
        clear_env?: options[:clear_env] == true,
        api_key: nil,
        codex_home: client.codex_home,
        base_url: client.base_url,
        model_provider: nil,
        oss: nil,
        local_provider: nil
      })
  end
end
