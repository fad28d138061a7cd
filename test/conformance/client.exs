# The client under the conformance suite: the URL is the last argument, scenario and version are in
# the environment. It uses each listed tool, resource and prompt once, over `Codex.MCP.HTTP` with
# logins of `Codex.MCP.OAuth`.
{:ok, _} = Application.ensure_all_started(:codex_sdk)

defmodule Conformance.Client do
  alias Codex.{HTTP, JSON, MCP}

  @modern "2026-07-28"
  @meta "io.modelcontextprotocol/"
  # Scenarios that end with an error, as the client must stop.
  @stops ~r{/(iss-|.*mismatch|scope-retry-limit)}

  def run do
    scenario = System.get_env("MCP_CONFORMANCE_SCENARIO", "")
    home = Path.join(System.tmp_dir!(), "conformance-#{System.pid()}")
    File.mkdir_p!(home)
    result = try(do: scenario(scenario, home), after: File.rm_rf!(home))

    case result do
      :ok ->
        :ok

      {:error, reason} ->
        IO.puts(:stderr, "#{inspect(reason)} #{Codex.Error.normalize(reason).message}")
        unless scenario =~ @stops, do: System.halt(1)
    end
  end

  defp scenario(scenario, home) do
    url = List.last(System.argv())
    version = System.get_env("MCP_CONFORMANCE_PROTOCOL_VERSION") || "2025-11-25"
    {:ok, context} = JSON.decode(System.get_env("MCP_CONFORMANCE_CONTEXT") || "{}")

    auth =
      {MCP.OAuth.Bearer, MCP.OAuth.bearer("conformance", url, login(scenario, context, home))}

    {:ok, t} = MCP.HTTP.open(%{url: url, auth: auth})
    modern? = version == @modern
    t = if modern?, do: MCP.HTTP.protocol(t, version, :modern), else: t

    client = %{t: t, id: 0, version: version, modern?: modern?, context: context}

    with {:ok, server, client} <- hello(client),
         {:ok, client} <- tools(client, context["toolCalls"]),
         {:ok, client} <- use(client, server, "resources", "uri", "resources/read"),
         {:ok, client} <- use(client, server, "prompts", "name", "prompts/get") do
      _ = MCP.HTTP.stop(client.t)
      :ok
    end
  end

  defp login(scenario, context, home) do
    given = [
      client_id: context["client_id"],
      client_secret: context["client_secret"],
      client_issuer: context["issuer"],
      private_key: context["private_key_pem"],
      grant: if(scenario =~ "client-credentials", do: :client_credentials)
    ]

    [
      codex_home: home,
      cwd: false,
      store: :file,
      login: true,
      open: &browse/1,
      client_metadata_url: "https://conformance-test.local/client-metadata.json"
    ] ++ for {name, value} <- given, value, do: {name, value}
  end

  # The browser: the code stands in the redirect.
  defp browse(url) do
    with {:ok, %{status: 302, headers: headers}} <- HTTP.request(:get, url, []) do
      {"location", location} = List.keyfind(headers, "location", 0)
      {:redirect, location}
    end
  end

  # --- Steps ------------------------------------------------------------------------------------

  defp hello(%{modern?: true} = client), do: request(client, "server/discover", %{})

  defp hello(client) do
    params = %{
      "protocolVersion" => client.version,
      "capabilities" => %{"elicitation" => %{}},
      "clientInfo" => info()
    }

    with {:ok, server, client} <- request(client, "initialize", params) do
      t = MCP.HTTP.protocol(client.t, server["protocolVersion"], :legacy)
      t = MCP.HTTP.send(t, %{"jsonrpc" => "2.0", "method" => "notifications/initialized"})
      {:ok, server, %{client | t: t}}
    end
  end

  defp tools(client, calls) do
    with {:ok, %{"tools" => tools}, client} <- request(client, "tools/list", %{}) do
      tools =
        if client.modern?,
          do: Enum.filter(tools, &(MCP.HTTP.Parameters.check(&1) == :ok)),
          else: tools

      calls =
        calls ||
          for tool <- tools,
              do: %{"name" => tool["name"], "arguments" => arguments(tool["inputSchema"])}

      each(client, calls, fn client, call ->
        tool = Enum.find(tools, &(&1["name"] == call["name"]))
        request(client, "tools/call", call, %{tool: tool})
      end)
    end
  end

  defp use(client, server, kind, key, method) do
    if get_in(server, ["capabilities", kind]) do
      with {:ok, %{^kind => list}, client} <- request(client, kind <> "/list", %{}),
           do: each(client, list, &request(&1, method, Map.take(&2, [key])))
    else
      {:ok, client}
    end
  end

  defp each(client, list, step) do
    Enum.reduce_while(list, {:ok, client}, fn item, {:ok, client} ->
      case step.(client, item) do
        {:ok, _result, client} -> {:cont, {:ok, client}}
        error -> {:halt, error}
      end
    end)
  end

  defp arguments(%{"properties" => properties} = schema) do
    for {name, property} <- properties, name in (schema["required"] || []), into: %{} do
      {name, example(property)}
    end
  end

  defp arguments(_schema), do: %{}

  defp example(%{"type" => type}) when type in ["number", "integer"], do: 2
  defp example(%{"type" => "boolean"}), do: true
  defp example(_schema), do: "text"

  # --- Requests ---------------------------------------------------------------------------------

  defp request(client, method, params, meta \\ %{}) do
    {id, client} = {client.id + 1, %{client | id: client.id + 1}}
    own = if client.modern?, do: Map.put(params, "_meta", meta(client)), else: params
    message = %{"jsonrpc" => "2.0", "id" => id, "method" => method, "params" => own}
    t = MCP.HTTP.send(client.t, message, meta)

    case await(%{client | t: t}, id) do
      {:ok, %{"resultType" => "input_required"} = result, client} ->
        request(client, method, Map.merge(base(params), again(result)), meta)

      {:error, %{"code" => -32_022, "data" => %{"supported" => versions}}} ->
        if client.version in versions,
          do: request(client, method, params, meta),
          else: {:error, {:unsupported, "the server speaks #{inspect(versions)}"}}

      {:error, %{"code" => _code} = error} ->
        IO.puts(:stderr, "#{method}: #{inspect(error)}")
        {:ok, %{}, %{client | t: t}}

      other ->
        other
    end
  end

  defp base(params), do: Map.drop(params, ["inputResponses", "requestState"])

  defp again(result) do
    answers = Map.new(result["inputRequests"] || %{}, fn {key, asked} -> {key, answer(asked)} end)
    Map.merge(%{"inputResponses" => answers}, Map.take(result, ["requestState"]))
  end

  defp meta(client) do
    %{
      (@meta <> "protocolVersion") => client.version,
      (@meta <> "clientCapabilities") => %{"elicitation" => %{}},
      (@meta <> "clientInfo") => info()
    }
  end

  defp info, do: %{"name" => "codex_sdk", "version" => "0"}

  defp await(client, id) do
    receive do
      message ->
        case MCP.HTTP.stream(client.t, message) do
          {:ok, t, outputs} -> outputs(%{client | t: t}, id, outputs, nil)
          :unknown -> await(client, id)
        end
    after
      20_000 -> {:error, :timeout}
    end
  end

  defp outputs(client, id, [], nil), do: await(client, id)
  defp outputs(client, _id, [], {:ok, result}), do: {:ok, result, client}
  defp outputs(_client, _id, [], error), do: error

  defp outputs(client, id, [{:messages, messages, bytes} | rest], found) do
    {client, found} = Enum.reduce(messages, {client, found}, &message(&1, &2, id))
    client = if bytes > 0, do: %{client | t: MCP.HTTP.grant(client.t, bytes)}, else: client
    outputs(client, id, rest, found)
  end

  defp outputs(client, id, [{:lost, id, reason} | rest], _found),
    do: outputs(client, id, rest, {:error, reason})

  defp outputs(client, id, [_other | rest], found), do: outputs(client, id, rest, found)

  defp message({:result, id, result}, {client, _found}, id), do: {client, {:ok, result}}
  defp message({:error, id, error}, {client, _found}, id), do: {client, {:error, error}}

  defp message({:request, asked, method, params}, {client, found}, _id) do
    result = answer(%{"method" => method, "params" => params})
    reply = %{"jsonrpc" => "2.0", "id" => asked, "result" => result}
    {%{client | t: MCP.HTTP.send(client.t, reply)}, found}
  end

  defp message(_other, state, _id), do: state

  # An elicitation is accepted with the defaults of its schema.
  defp answer(%{"method" => "elicitation/create", "params" => params}) do
    properties = get_in(params, ["requestedSchema", "properties"]) || %{}

    content =
      for {name, property} <- properties,
          into: %{},
          do: {name, Map.get(property, "default", example(property))}

    %{"action" => "accept", "content" => content}
  end

  defp answer(_asked), do: %{}
end

Conformance.Client.run()
