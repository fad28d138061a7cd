defmodule Codex.MCP.Options do
  @moduledoc false
  # The options of a client, and those that the configuration of the CLI has for a server.

  alias Codex.MCP.{Configured, Handlers, Protocol, Transport}
  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}

  @rows [
    {:name, :any, "a name of the process, as of `GenServer`", expected: "a name of a process"},
    {:client, :string, "the name of this client", default: "codex-elixir"},
    {:client_title, :string, "its title for people"},
    {:version, :string, "its version", default: "0.0.0"},
    {:capabilities, :map, "capabilities besides those of the handlers", default: %{}},
    {:protocol_version, :protocol_version,
     "the version to speak: one of #{Enum.map_join(Protocol.versions(), ", ", &"`\"#{&1}\"`")}. " <>
       "Otherwise the client finds it", expected: "a known version of the protocol"},
    {:server_name, :string, "the name of the server, for qualified names of tools"},
    {:timeout_ms, :milliseconds, "the limit of the start", default: 10_000},
    {:probe_ms, :wait,
     "how long a server may be silent after `server/discover`, before `initialize` is sent",
     default: 1_000},
    {:elicitation, :any, "a function that answers like `c:Codex.MCP.Handler.elicit/2`"},
    {:roots, :any, "a list of roots, or a function like `c:Codex.MCP.Handler.roots/1`"},
    {:sampling, :any, "a function that answers like `c:Codex.MCP.Handler.sample/2`"},
    {:handler, :module, "a module with the behaviour `Codex.MCP.Handler`"},
    {:handler_timeout_ms, :milliseconds, "the limit of a handler", default: 300_000},
    {:tool_timeout_ms, :milliseconds, "the default limit of a call", default: 60_000},
    {:enabled_tools, {:list, :string}, "the only tools to list and call"},
    {:disabled_tools, {:list, :string}, "tools that are neither listed nor called", default: []},
    {:log_level, :string, "the least level of `notifications/message`, in the modern era"},
    {:required, :boolean, "`false`: if the start fails, `start_link/1` returns `:ignore`",
     default: true},
    {:max_restarts, :count, "how often the server is started again within the window",
     default: 0},
    {:restart_window_ms, :milliseconds, "the window", default: 60_000},
    {:max_requests, :positive, "how many requests may wait at once", default: 4_096},
    {:max_queue, :positive, "messages in the mailbox of a subscriber above which it is full",
     default: 1_000},
    {:max_spool_bytes, :bytes, "bytes that wait for a full subscriber before it is cut off",
     default: 8 * 1024 * 1024},
    {:telemetry_prefix, :atoms, "the first part of event names", default: [:codex]},
    {:telemetry_content, :boolean, "whether events have arguments", default: false}
  ]
  @schema Schema.new(@rows)
  @names Enum.map(@rows, &elem(&1, 0))

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks the options of a client."
  @spec new(keyword() | map()) :: {:ok, map()} | {:error, OptionError.t()}
  def new(opts) do
    with {:ok, options} <- Schema.validate(@schema, opts, &cast/2) do
      handlers = Handlers.new(options)
      info = %{"name" => options.client, "version" => options.version}
      info = if options.client_title, do: Map.put(info, "title", options.client_title), else: info
      capabilities = Map.merge(Handlers.capabilities(handlers), options.capabilities)

      {:ok,
       options
       |> Map.drop([:elicitation, :roots, :sampling, :handler, :client, :client_title, :version])
       |> Map.merge(%{handlers: handlers, client_info: info, capabilities: capabilities})
       |> Map.put(:max_message_bytes, nil)}
    end
  end

  defp cast(:protocol_version, version),
    do: if(Protocol.era(version), do: {:ok, version}, else: :error)

  @doc """
  Splits the options of `start_link/1`: the transport and the options of the client. A `:server` is
  looked up in the configuration, and options of the call replace its values. `:ignore` if a server
  that is not required cannot be started.
  """
  @spec split(keyword()) :: {:ok, Transport.opener(), keyword()} | :ignore | {:error, term()}
  def split(opts) do
    with {:ok, pairs} <- Schema.pairs(opts),
         pairs = Enum.map(pairs, &named/1),
         {lookup, opts} = Enum.split_with(pairs, &(elem(&1, 0) in [:server, :codex_home])),
         {:ok, configured} <- configured(lookup),
         opts = merged(configured, opts),
         {client, rest} = Enum.split_with(opts, &(elem(&1, 0) in @names)),
         {:ok, opener} <- rest |> opener(client) |> optional(client),
         do: {:ok, opener, client}
  end

  # A server that cannot be reached, as opposed to an invalid option.
  defp optional({:error, reason}, client) when is_tuple(reason),
    do: if({:required, false} in client, do: :ignore, else: {:error, reason})

  defp optional(result, _client), do: result

  # Names as strings are taken, too.
  defp named({name, value}) when is_binary(name),
    do: {Enum.find(all(), name, &(Atom.to_string(&1) == name)), value}

  defp named(pair), do: pair

  defp all do
    [:server, :codex_home, :transport | @names] ++
      Transport.Stdio.names() ++ Transport.StreamableHTTP.names()
  end

  defp opener(rest, client) do
    case Enum.split_with(rest, &(elem(&1, 0) == :transport)) do
      {[], rest} ->
        if List.keymember?(rest, :url, 0),
          do: Transport.StreamableHTTP.opener([{:server_name, server_name(client)} | rest]),
          else: Transport.Stdio.opener(rest)

      {[{_, {module, _state} = transport} | _], []} when is_atom(module) ->
        {:ok, of_transport(transport)}

      {[{_, other} | _], []} ->
        {:error, OptionError.invalid(:transport, Type.kind(other), "`{module, state}`")}

      {_transport, [{name, _} | _]} ->
        {:error, OptionError.new(:unknown, name, expected: "no option beside :transport")}
    end
  end

  defp server_name(client),
    do: client |> List.keyfind(:server_name, 0, {nil, "server"}) |> elem(1)

  @doc "Returns the opener of a transport `{module, state}`."
  @spec of_transport({module(), term()}) :: Transport.opener()
  def of_transport({module, state}) do
    if Code.ensure_loaded?(module) and function_exported?(module, :held, 1),
      do: module.held(state),
      else: {Codex.MCP.Callbacks, {module, state}}
  end

  defp configured(lookup) do
    case Keyword.fetch(lookup, :server) do
      :error -> {:ok, []}
      {:ok, name} -> Configured.options(name, Keyword.take(lookup, [:codex_home]))
    end
  end

  # Options of the call replace those of the configuration, and add to those of a login.
  defp merged(configured, opts) do
    rest = Enum.reject(configured, fn {name, _value} -> List.keymember?(opts, name, 0) end)

    case {configured[:oauth], List.keyfind(opts, :oauth, 0)} do
      {[_ | _] = ours, {:oauth, theirs}} when is_list(theirs) ->
        rest ++ List.keyreplace(opts, :oauth, 0, {:oauth, Keyword.merge(ours, theirs)})

      _other ->
        rest ++ opts
    end
  end
end
