# The client under the conformance suite: the URL is the last argument, scenario and version are in
# the environment. It uses each listed tool, resource and prompt once.
{:ok, _} = Application.ensure_all_started(:codex_sdk)

defmodule Conformance.Client do
  alias Codex.{HTTP, JSON}
  alias Codex.MCP.Client

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
    {:ok, context} = JSON.decode(System.get_env("MCP_CONFORMANCE_CONTEXT") || "{}")

    with {:ok, client} <- start(login(scenario, context, home)),
         :ok <- tools(client, context["toolCalls"]),
         :ok <- use(client, :resources, &Client.read_resource(client, &1["uri"])),
         :ok <- use(client, :prompts, &Client.get_prompt(client, &1["name"])),
         do: Client.stop(client)
  end

  # The process of a client that fails to start ends with its starter.
  defp start(login) do
    Process.flag(:trap_exit, true)

    Client.start_link(
      url: List.last(System.argv()),
      server_name: "conformance",
      oauth: login,
      timeout_ms: 30_000,
      elicitation: fn _asked, _context -> {:accept, %{}} end
    )
  end

  defp login(scenario, context, home) do
    given = [
      client_id: context["client_id"],
      client_secret: context["client_secret"],
      client_issuer: context["issuer"],
      private_key: context["private_key_pem"],
      identity_url: context["idp_token_endpoint"],
      identity_client_id: context["idp_client_id"],
      identity_token: context["idp_id_token"],
      grant: grant(scenario)
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

  defp grant("auth/client-credentials" <> _), do: :client_credentials
  defp grant("auth/cross-app-access" <> _), do: :identity
  defp grant(_scenario), do: nil

  # The browser: the code stands in the redirect.
  defp browse(url) do
    with {:ok, %{status: 302, headers: headers}} <- HTTP.request(:get, url, []) do
      {"location", location} = List.keyfind(headers, "location", 0)
      {:redirect, location}
    end
  end

  # --- Steps ------------------------------------------------------------------------------------

  defp tools(client, calls) do
    with {:ok, tools, _client} <- Client.list_tools(client) do
      calls =
        calls ||
          for tool <- tools,
              do: %{"name" => tool["name"], "arguments" => arguments(tool["inputSchema"])}

      each(calls, &Client.call_tool(client, &1["name"], &1["arguments"]))
    end
  end

  defp use(client, kind, fun) do
    if Client.capabilities(client)[Atom.to_string(kind)],
      do: client |> Client.stream(kind) |> each(fun),
      else: :ok
  end

  # An error of the server is an answer.
  defp each(list, step) do
    Enum.find_value(list, :ok, fn item ->
      case step.(item) do
        {:ok, _result} -> nil
        {:error, %{"code" => _code} = error} -> IO.puts(:stderr, inspect(error)) && nil
        error -> error
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
end

Conformance.Client.run()
