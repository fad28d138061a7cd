defmodule Codex.MCP.Transport.StreamableHTTP do
  @moduledoc """
  Reaches an MCP server over HTTP: Streamable HTTP, and the older HTTP+SSE of version 2024-11-05.

      {:ok, transport} =
        Codex.MCP.Transport.StreamableHTTP.start_link(
          url: "https://mcp.example/mcp",
          server_name: "example"
        )

  Certificates are verified. Proxies come from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. A
  redirect is followed only within the origin of the URL, so that no other server gets the token.

  Options:

    * `:url` (required) - an `http://` or `https://` URL
    * `:server_name` (required) - the name of the server in the configuration
    * `:bearer_token` - the token of each request
    * `:bearer_token_env_var` - the variable that holds the token
    * `:http_headers` - headers of each request, as a map
    * `:env_http_headers` - names of headers, and the variables with their values; a header with a
      missing or empty variable is left out
    * `:oauth` - options of `Codex.MCP.OAuth.login/3` for the stored login of the server; `false`
      for none. The default is the stored login, unless a bearer token is given. Without a login, no
      token is sent. With `login: true`, a refusal starts a login
    * `:max_message_bytes` - the largest message of the server (32 MiB)
    * `:connect_timeout_ms` - the time to connect (10 seconds)
    * `:tls` - options of `:ssl`, and `:cacertfile`
  """

  @behaviour GenServer

  alias Codex.{DidYouMean, MCP, OptionError}
  alias Codex.Error.Redact

  @names [:url, :server_name, :bearer_token, :bearer_token_env_var, :http_headers] ++
           [:env_http_headers, :oauth, :max_message_bytes, :connect_timeout_ms, :tls]
  @passed [:url, :max_message_bytes, :connect_timeout_ms, :tls]

  @typedoc "An option of `start_link/1`. See above."
  @type option ::
          {:url, String.t()}
          | {:server_name, String.t()}
          | {:bearer_token, String.t()}
          | {:bearer_token_env_var, String.t()}
          | {:http_headers, %{String.t() => String.t()}}
          | {:env_http_headers, %{String.t() => String.t()}}
          | {:oauth, keyword() | false}
          | {:max_message_bytes, pos_integer()}
          | {:connect_timeout_ms, pos_integer()}
          | {:tls, keyword()}

  @doc """
  Starts a transport, linked to the caller. It connects with the first message.

  Returns `Codex.OptionError` for an invalid option, and `{:missing_env, name}` for a variable of
  `:bearer_token_env_var` that is not set.
  """
  @spec start_link([option()]) ::
          {:ok, pid()} | {:error, OptionError.t() | {:missing_env, String.t()}}
  def start_link(opts) do
    with {:ok, {module, arg}} <- opener(opts),
         {:ok, _transport} <- module.open(arg),
         do: GenServer.start_link(__MODULE__, {module, arg})
  end

  @doc "Returns the specification of a transport in a supervision tree. Takes the options."
  @spec child_spec([option()]) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc "Sends a message, a map of JSON. Returns without waiting for the server."
  @spec send(pid(), map()) :: :ok
  def send(transport, %{} = message), do: GenServer.call(transport, {:send, message})

  @doc """
  Waits for the next message of the server.

  Returns `{:error, :timeout}` after `timeout_ms`, and `{:error, reason}` for a request that has no
  answer, with reasons such as `{:http_error, status, body}`.
  """
  @spec recv(pid(), timeout()) :: {:ok, map()} | {:error, term()}
  def recv(transport, timeout_ms \\ 30_000) do
    GenServer.call(transport, {:recv, timeout_ms}, :infinity)
  end

  @doc false
  # Returns the transport of this process for a connection of its own.
  @spec held(pid()) :: {module(), map()}
  def held(transport), do: GenServer.call(transport, :opener).()

  @doc false
  # Returns the transport of a connection process.
  @spec opener(keyword()) ::
          {:ok, {module(), map()}} | {:error, OptionError.t() | {:missing_env, String.t()}}
  def opener(opts) do
    with :ok <- known(opts),
         :ok <- required(opts, :url),
         :ok <- required(opts, :server_name),
         {:ok, token} <- token(opts) do
      headers = headers(opts, token)
      secrets = for {_name, value} <- headers, secret <- [value, last(value)], do: secret
      redact = fn text -> Redact.redact(text, Enum.filter(secrets, &(&1 != ""))) end
      own = %{headers: headers, redact: redact, auth: auth(opts, token)}
      {:ok, {MCP.HTTP, opts |> Keyword.take(@passed) |> Map.new() |> Map.merge(own)}}
    end
  end

  defp last(value), do: value |> String.split() |> List.last("")

  defp known(opts) do
    case Enum.find(opts, fn {name, _value} -> name not in @names end) do
      nil ->
        :ok

      {name, _value} ->
        {:error, OptionError.new(:unknown, name, nearest: DidYouMean.nearest(name, @names))}
    end
  end

  defp required(opts, name) do
    case opts[name] do
      text when is_binary(text) and text != "" -> :ok
      other -> {:error, OptionError.invalid(name, other, "a string")}
    end
  end

  defp token(opts) do
    case {opts[:bearer_token], opts[:bearer_token_env_var]} do
      {nil, nil} ->
        {:ok, nil}

      {token, _name} when is_binary(token) ->
        {:ok, token}

      {nil, name} ->
        case System.get_env(name) do
          value when value in [nil, ""] -> {:error, {:missing_env, name}}
          value -> {:ok, value}
        end
    end
  end

  defp auth(opts, token) do
    login = Keyword.get(opts, :oauth, if(token, do: false, else: []))

    if login do
      {MCP.OAuth.Bearer, MCP.OAuth.bearer(opts[:server_name], opts[:url], login)}
    end
  end

  defp headers(opts, token) do
    fixed = for {name, value} <- opts[:http_headers] || %{}, do: {name, value}

    variable =
      for {name, variable} <- opts[:env_http_headers] || %{},
          value = System.get_env(variable),
          value != "",
          do: {name, value}

    if(token, do: [{"authorization", "Bearer " <> token}], else: []) ++ fixed ++ variable
  end

  # --- The process ------------------------------------------------------------------------------

  @impl true
  def init({module, arg}) do
    _ = Process.flag(:trap_exit, true)
    {:ok, transport} = module.open(arg)
    opener = fn -> {module, arg} end

    {:ok,
     %{
       opener: opener,
       module: module,
       transport: transport,
       came: :queue.new(),
       waiting: :queue.new()
     }}
  end

  @impl true
  def handle_call(:opener, _from, state), do: {:reply, state.opener, state}

  def handle_call({:send, message}, _from, state) do
    transport = state.module.send(state.transport, message, %{})
    {:reply, :ok, %{state | transport: transport}}
  end

  def handle_call({:recv, timeout}, from, state) do
    timer = if timeout != :infinity, do: Process.send_after(self(), {:expired, from}, timeout)
    {:noreply, deliver(%{state | waiting: :queue.in({from, timer}, state.waiting)})}
  end

  @impl true
  def handle_info({:expired, from}, state) do
    {expired, waiting} =
      state.waiting |> :queue.to_list() |> Enum.split_with(&(elem(&1, 0) == from))

    for {from, _timer} <- expired, do: GenServer.reply(from, {:error, :timeout})
    {:noreply, %{state | waiting: :queue.from_list(waiting)}}
  end

  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}

  def handle_info(message, state) do
    case state.module.stream(state.transport, message) do
      {:ok, transport, outputs} ->
        state = %{state | transport: transport}

        {:noreply,
         outputs |> Enum.flat_map(&results/1) |> Enum.reduce(state, &came/2) |> deliver()}

      :unknown ->
        {:noreply, state}
    end
  end

  @impl true
  def terminate(_reason, state) do
    _ = state.module.stop(state.transport)
    :ok
  end

  # The bytes are granted when the last message of its output is fetched.
  defp results({:messages, messages, bytes}) do
    list = messages |> Enum.flat_map(&flat/1) |> Enum.map(&{:ok, map(&1)})
    {last, first} = List.pop_at(list, -1)
    Enum.map(first, &{&1, 0}) ++ [{last || :none, bytes}]
  end

  defp results({:lost, _id, reason}), do: [{{:error, reason}, 0}]

  defp results({:session_lost, _ids}),
    do: [{{:error, {:http_error, 404, "the session is lost"}}, 0}]

  defp results({:down, info}), do: [{{:error, info.reason}, 0}]

  defp flat({:batch, messages}), do: messages
  defp flat(message), do: [message]

  defp map({:request, id, method, params}),
    do: rpc(%{"id" => id, "method" => method, "params" => params})

  defp map({:notification, method, params}), do: rpc(%{"method" => method, "params" => params})
  defp map({:result, id, result}), do: rpc(%{"id" => id, "result" => result})
  defp map({:error, id, error}), do: rpc(%{"id" => id, "error" => error})
  defp map(_malformed), do: rpc(%{})

  defp rpc(map), do: Map.put(map, "jsonrpc", "2.0")

  defp came({:none, bytes}, state), do: granted(state, bytes)
  defp came(result, state), do: %{state | came: :queue.in(result, state.came)}

  defp deliver(state) do
    if :queue.is_empty(state.came) or :queue.is_empty(state.waiting) do
      state
    else
      {{:value, {from, timer}}, waiting} = :queue.out(state.waiting)
      {{:value, {result, bytes}}, came} = :queue.out(state.came)
      _ = if timer, do: Process.cancel_timer(timer)
      GenServer.reply(from, result)
      deliver(granted(%{state | waiting: waiting, came: came}, bytes))
    end
  end

  defp granted(state, 0), do: state
  defp granted(state, bytes), do: %{state | transport: state.module.grant(state.transport, bytes)}
end
