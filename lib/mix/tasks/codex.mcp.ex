defmodule Mix.Tasks.Codex.Mcp do
  @shortdoc "Lists, changes and calls the MCP servers of the Codex CLI"

  @moduledoc """
  Lists, changes and calls the MCP servers of the Codex CLI's configuration. No CLI runs.

      mix codex.mcp list
      mix codex.mcp get NAME
      mix codex.mcp add NAME --env TOKEN=abc -- npx -y server-filesystem /data
      mix codex.mcp add NAME --url https://mcp.example.com/mcp --bearer-token-env-var TOKEN
      mix codex.mcp remove|enable|disable NAME
      mix codex.mcp tools NAME
      mix codex.mcp call NAME TOOL '{"argument": "value"}'
      mix codex.mcp login|logout NAME

  `list` and `get` show the servers of all layers, with `*****` in place of the values of `env` and
  `http_headers`. The other commands change the user's `config.toml`; comments and other servers
  stay. `add` replaces a server of the same name, and writes nothing that the CLI would refuse.

  `tools` starts the server and lists its tools. `call` calls one, and prints the texts of the
  result. `login` opens a browser for a server with a URL, and prints its address; it takes
  `scopes`, `oauth`, `oauth_resource`, `mcp_oauth_callback_port` and `mcp_oauth_callback_url` of the
  configuration, and the CLI uses the same login.

  Options of all commands:

    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--json` - prints one object on each line: a server in the form of `codex mcp get --json`, the
      `file` and the `version` that a change made, a tool, or the result of a call

  `list`, `get`, `login` and `logout` take `--cwd DIR`, the working directory of a run (default: the
  current directory). `add` takes `--env NAME=VALUE` (repeatable) and `--cwd DIR` for commands, and
  `--bearer-token-env-var NAME` and `--env-http-header NAME=VARIABLE` (repeatable) for URLs.

  The exit status is 1 after an error, and if a tool says that it failed, and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.{JSON, Text}
  alias Codex.MCP.{Client, Config, Configured, OAuth}
  alias Mix.{CodexRun, CodexTable}

  @all [codex_home: :string, json: :boolean]
  @switches %{
    "list" => [cwd: :string],
    "get" => [cwd: :string],
    "add" => [
      url: :string,
      cwd: :string,
      env: [:string, :keep],
      bearer_token_env_var: :string,
      env_http_header: [:string, :keep]
    ],
    "remove" => [],
    "enable" => [],
    "disable" => [],
    "tools" => [],
    "call" => [],
    "login" => [cwd: :string],
    "logout" => [cwd: :string]
  }
  @usage "usage: mix codex.mcp list|get|add|remove|enable|disable|tools|call|login|logout " <>
           "(mix help codex.mcp shows the options)"

  @impl true
  def run(argv) do
    Mix.CodexCompile.run("compile")
    {command, arguments, opts} = CodexRun.parse_command(argv, @all, @switches, @usage)
    run(command, arguments, opts)
  end

  defp run("list", [], opts) do
    servers = :home |> Config.list_servers(reading_options(opts)) |> CodexRun.ok() |> Enum.sort()
    shown = for {name, server} <- servers, do: Config.show(name, server)

    cond do
      opts[:json] -> Enum.each(shown, &print_json/1)
      shown == [] -> info("There are no MCP servers.")
      true -> info(CodexTable.format(["name", "status", "transport"], Enum.map(shown, &row/1)))
    end
  end

  defp run("get", [name], opts) do
    shown = Config.show(name, CodexRun.ok(Config.get_server(:home, name, reading_options(opts))))
    if opts[:json], do: print_json(shown), else: print(shown)
  end

  defp run("add", [name | command], opts) do
    server =
      case {opts[:url], command} do
        {nil, [program | args]} -> stdio(program, args, opts)
        {url, []} when url != nil -> http(url, opts)
        _both_or_none -> CodexRun.wrong("expected --url URL, or a command after --\n#{@usage}")
      end

    changed(Config.add_server(:home, name, server, home(opts)), "Added #{Text.line(name)}", opts)
  end

  # A missing server is an error here: the name may be misspelled.
  defp run("remove", [name], opts) do
    servers = CodexRun.ok(Config.list_servers(:home, [cwd: false] ++ home(opts)))

    if not is_map_key(servers, name),
      do: Mix.raise("the user's configuration has no MCP server #{Text.line(name)}")

    changed(Config.remove_server(:home, name, home(opts)), "Removed #{Text.line(name)}", opts)
  end

  defp run("enable", [name], opts),
    do: changed(Config.enable_server(:home, name, home(opts)), "Enabled #{Text.line(name)}", opts)

  defp run("disable", [name], opts),
    do:
      changed(Config.disable_server(:home, name, home(opts)), "Disabled #{Text.line(name)}", opts)

  defp run("tools", [name], opts) do
    with_client(name, opts, fn client ->
      tools =
        case Client.list_tools(client) do
          {:ok, tools, _client} -> tools
          {:error, reason} -> Mix.raise(Codex.Error.normalize(reason).message)
        end

      cond do
        opts[:json] -> Enum.each(tools, &print_json/1)
        tools == [] -> info("The server has no tools.")
        true -> info(CodexTable.format(["name", "description"], Enum.map(tools, &tool_row/1)))
      end
    end)
  end

  defp run("call", [name, tool | rest], opts) when length(rest) < 2 do
    arguments = arguments(rest)

    with_client(name, opts, fn client ->
      result = CodexRun.ok(Client.call_tool(client, tool, arguments))
      if opts[:json], do: print_json(result), else: Enum.each(texts(result), &info/1)
      if result["isError"] == true, do: Mix.raise("the tool #{Text.line(tool)} failed")
    end)
  end

  defp run("login", [name], opts) do
    :ok = started()
    config = CodexRun.ok(Codex.Config.load(reading_options(opts)))
    login = Configured.login(config, name) ++ reading_options(opts)
    _tokens = CodexRun.ok(OAuth.login(name, url(name, opts), login))
    info("Logged in to #{Text.line(name)}")
  end

  defp run("logout", [name], opts) do
    words =
      if CodexRun.ok(OAuth.logout(name, url(name, opts), reading_options(opts))),
        do: "Logged out of"

    info("#{words || "There was no login to"} #{Text.line(name)}")
  end

  defp run(_command, _arguments, _opts), do: CodexRun.wrong(@usage)

  # --- Commands that reach a server -------------------------------------------------------------

  defp started do
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    :ok
  end

  # The client is linked: this process must outlive its failure to print the reason.
  defp with_client(name, opts, fun) do
    :ok = started()
    trapped = Process.flag(:trap_exit, true)
    client = CodexRun.ok(Client.start_link([server: name] ++ home(opts)))

    try do
      fun.(client)
    after
      :ok = Client.stop(client)
      Process.flag(:trap_exit, trapped)
    end
  end

  defp tool_row(tool) do
    description = if is_binary(tool["description"]), do: tool["description"], else: ""
    [tool["name"], description |> String.split("\n", parts: 2) |> hd() |> String.slice(0, 70)]
  end

  defp texts(%{"content" => content}) when is_list(content) do
    for item <- content do
      case item do
        %{"type" => "text", "text" => text} when is_binary(text) -> Text.printable(text)
        %{"type" => type} -> "[#{Text.line(to_string(type))}]"
      end
    end
  end

  defp texts(_result), do: []

  defp arguments([]), do: %{}

  defp arguments([json]) do
    case JSON.decode(json) do
      {:ok, %{} = arguments} -> arguments
      _other -> CodexRun.wrong("expected the arguments as a JSON object")
    end
  end

  defp url(name, opts) do
    case CodexRun.ok(Config.get_server(:home, name, reading_options(opts))) do
      %{"url" => url} -> url
      _command -> Mix.raise("#{Text.line(name)} has no URL: logins are for servers over HTTP")
    end
  end

  # --- Output -----------------------------------------------------------------------------------

  defp stdio(program, args, opts) do
    refuse(opts, [:bearer_token_env_var, :env_http_header], "a command")

    %{
      command: program,
      args: if(args != [], do: args),
      env: pairs(opts, :env, "--env"),
      cwd: opts[:cwd]
    }
  end

  defp http(url, opts) do
    refuse(opts, [:env, :cwd], "a URL")

    %{
      url: url,
      bearer_token_env_var: opts[:bearer_token_env_var],
      env_http_headers: pairs(opts, :env_http_header, "--env-http-header")
    }
  end

  defp refuse(opts, names, kind) do
    if name = Enum.find(names, &opts[&1]) do
      switch = name |> Atom.to_string() |> String.replace("_", "-")
      CodexRun.wrong("--#{switch} is not an option of a server with #{kind}")
    end
  end

  # A value may be a secret, so it is not shown.
  defp pairs(opts, name, switch) do
    pairs =
      for text <- Keyword.get_values(opts, name) do
        case String.split(text, "=", parts: 2) do
          [key, value] when key != "" -> {key, value}
          _other -> CodexRun.wrong("expected #{switch} NAME=VALUE, got: [redacted]")
        end
      end

    if pairs != [], do: Map.new(pairs)
  end

  defp changed(result, words, opts) do
    done = CodexRun.ok(result)
    if opts[:json], do: print_json(done), else: info("#{words} (#{done.file})")
  end

  defp home(opts), do: Keyword.take(opts, [:codex_home])
  defp reading_options(opts), do: Keyword.take(opts, [:codex_home, :cwd])

  defp row(%{"name" => name, "transport" => transport} = shown),
    do: [name, if(shown["enabled"], do: "enabled", else: "disabled"), place(transport)]

  defp place(%{"url" => url}), do: url
  defp place(%{"command" => command, "args" => args}), do: Enum.join([command | args], " ")

  defp print(%{"transport" => transport} = shown) do
    rows = shown |> Map.delete("transport") |> Map.merge(transport) |> Map.delete("name")
    info(Text.line(shown["name"]))

    for {key, value} <- Enum.sort(rows), value not in [nil, []] do
      text = if is_binary(value), do: value, else: JSON.encode!(value)
      info("  #{key}: #{Text.line(text)}")
    end
  end

  defp print_json(value), do: value |> JSON.encode!() |> Text.json() |> info()

  defp info(text), do: Mix.shell().info(text)
end
