defmodule Codex.AppServer.Options do
  @moduledoc false
  # The options of `Codex.AppServer.connect/2` and `connect_remote/2`: one row each, from which checks and docs are made.

  alias Codex.AppServer.Reconnect
  alias Codex.Options.{Cast, Overrides}
  alias Codex.Protocol
  alias Codex.Suggest

  @most 0xFFFFFFFF

  # {name, default, check, what is expected, doc}
  @child [
    {:cwd, nil, :path, "a path",
     "where the server works, and threads that name no `cwd`; default: the VM's own directory"},
    {:env, %{}, :env, "a map or keyword list of variables",
     "more variables for the server, on top of those of the client; nil takes one away"},
    {:clear_env, false, :boolean, "a boolean",
     "whether the VM's environment is left out, but for `PATH` and `HOME`"},
    {:isolation, :inherit, {:in, [:inherit, :hermetic]}, ":inherit or :hermetic",
     "`:hermetic`: a home of its own, without login, removed with the connection or with the VM, " <>
       "unless the client names a `codex_home`; `clear_env`; and no AGENTS files of projects " <>
       "(`project_doc_max_bytes=0`). The server cannot be told to leave the `config.toml` of its " <>
       "home out (0.169)"},
    {:config, %{}, :config, "a map or keyword list of configuration",
     "configuration for all threads of this server, as in the options of a thread"},
    {:strict_config, false, :boolean, "a boolean",
     "whether unknown configuration keys are errors (`--strict-config`)"},
    {:broken_config, :refuse, {:in, [:refuse, :allow]}, ":refuse or :allow",
     "what is done where the configuration cannot be read. The server itself would start with defaults, and **with the built-in provider**"}
  ]

  @remote [
    {:token, nil, :token, "a text of visible ASCII characters",
     "what is sent as `Authorization: Bearer`: the capability token, or one of `signed_token/2`. Never shown, and refused for plain `ws://` to a host that is not loopback"},
    {:codex_home, nil, :path, "a path",
     "for `unix://` without a path: the home of the server; default: `CODEX_HOME`, else `~/.codex`"},
    {:headers, [], :headers, "a map or list of header names and values, both texts",
     "more headers for the handshake; those whose names sound like secrets are treated as `:token` is"},
    {:tls, [], :tls, "a keyword list of :cacertfile, :certfile, :keyfile, :versions and :ciphers",
     "options of `:ssl` for `wss://`. `:cacertfile` is a file of authorities beside those of the system, default `CODEX_CA_CERTIFICATE`. The server's certificate is always checked"},
    {:ping_interval_ms, 30_000, :ms_or_infinity,
     "a positive integer in milliseconds or :infinity",
     "how often the server is pinged; one that has sent nothing from one ping to the next is gone"},
    {:send_timeout_ms, 10_000, :ms, "a positive integer in milliseconds",
     "how long the connection waits for a server that does not read what it is sent; then it is gone"},
    {:telemetry_prefix, [:codex], :atoms, "a list of atoms, not empty",
     "first part of event names"}
  ]

  @both [
    {:client_name, "codex_sdk", :text, "a text",
     "who is told to the server, and through it to the provider (`originator`)"},
    {:client_title, nil, :text, "a text", "the same, for people"},
    {:client_version, nil, :text, "a text", "its version; default: that of this package"},
    {:experimental_api, false, :boolean, "a boolean",
     "whether experimental methods and options may be used"},
    {:capabilities, %{}, :capabilities, "a map or keyword list of the protocol's capabilities",
     "what else the client can do, as `request_attestation: true`: the server asks for it then"},
    {:opt_out, [], :texts, "a list of texts",
     "methods of notifications that the server need not send"},
    {:init_timeout_ms, 10_000, :ms, "a positive integer in milliseconds",
     "how long starting and the server's hello may take"},
    {:answer_timeout_ms, 300_000, :ms_or_infinity,
     "a positive integer in milliseconds or :infinity",
     "how long a request of the server waits for an answer, before it gets the no of its kind"},
    {:max_queue, 1_000, :positive, "a positive integer",
     "how many messages may lie in the mailbox of a reader: a subscriber, or a process that reads a " <>
       "turn. See *Slow readers* of `connect/2`"},
    {:max_spool_bytes, 16_777_216, :positive, "a positive integer of bytes",
     "how much is kept for a reader whose mailbox is full while others have work. A reader that " <>
       "needs more is cut off"},
    {:max_message_bytes, 268_435_456, {:up_to, 1_073_741_824},
     "a positive integer of bytes, up to 1_073_741_824",
     "what a message may have; a longer one ends the connection with an overflow. Up to twice as " <>
       "much is held"},
    {:max_message_nodes, Codex.JSON.max_nodes(), :positive, "a positive integer",
     "how many values and keys a message may have; one with more ends the connection with an " <>
       "overflow. The default is some 270 MB of terms at worst"},
    {:reconnect, nil, :reconnect,
     "a boolean, or a keyword list of :attempts (positive integer or :infinity), :delay_ms and :max_delay_ms",
     "whether a connection that lost its server gets another one, under the same pid; true is `attempts: 10, delay_ms: 200, max_delay_ms: 10_000`, where the delay doubles. Default: it ends. See the section below"},
    {:name, nil, :name, "a name of a process, as GenServer takes it",
     "what the connection's process is registered as, and can be called by"},
    {:owner, nil, :pid, "a pid",
     "the process with which the connection ends; default: none, it ends with `disconnect/1`"}
  ]

  @typedoc "Whose options: those of `connect/2`, or of `connect_remote/2`."
  @type lane :: :child | :remote

  defp table(:child), do: @child ++ @both
  defp table(:remote), do: @remote ++ @both

  @doc "The options as a Markdown list."
  @spec docs(lane()) :: String.t()
  def docs(lane \\ :child) do
    Enum.map_join(table(lane), "\n", fn {name, default, _, expected, doc} ->
      default = if default in [nil, %{}, []], do: "", else: ", default `#{inspect(default)}`"
      "  * `:#{name}` - #{doc} (#{expected}#{default})"
    end)
  end

  @doc "The names of the options."
  @spec names(lane()) :: [atom()]
  def names(lane), do: Enum.map(table(lane), &elem(&1, 0))

  @doc "Checks them: a map with all of them."
  @spec new(keyword() | map(), lane()) ::
          {:ok, map()}
          | {:error,
             {:unknown_option, term(), atom() | nil}
             | {:invalid_option, atom() | list(), term(), String.t()}
             | {:invalid_options, term()}}
  def new(options, lane \\ :child) do
    table = table(lane)
    defaults = Map.new(table, fn {name, default, _, _, _} -> {name, default} end)

    case Cast.pairs(options) do
      {:ok, pairs} -> Enum.reduce_while(pairs, {:ok, defaults}, &put(table, &1, &2))
      :error -> {:error, {:invalid_options, Cast.first_odd(options)}}
    end
  end

  defp put(table, {name, value}, {:ok, set}) do
    case List.keyfind(table, name, 0) do
      nil ->
        {:halt,
         {:error, {:unknown_option, name, Suggest.nearest(name, Enum.map(table, &elem(&1, 0)))}}}

      # A variable that is not set must not become a connection without its token.
      {:token, _, _, expected, _} when value == nil ->
        {:halt, {:error, {:invalid_option, :token, nil, expected}}}

      {_, _, _, _, _} when value == nil ->
        {:cont, {:ok, set}}

      {_, _, check, expected, _} ->
        case check(check, value) do
          {:ok, value} ->
            {:cont, {:ok, %{set | name => value}}}

          {:error, path} ->
            {:halt, {:error, {:invalid_option, path, "[redacted]", expected}}}

          :error ->
            {:halt, {:error, {:invalid_option, name, shown(name, value), expected}}}
        end
    end
  end

  # They may hold keys.
  defp shown(name, _value) when name in [:env, :config, :token, :headers, :tls], do: "[redacted]"
  defp shown(_name, value), do: value

  defp check(:boolean, value) when is_boolean(value), do: {:ok, value}
  defp check(:text, value) when is_binary(value) and value != "", do: text(value)
  defp check(:path, value) when is_binary(value) and value != "", do: {:ok, Path.expand(value)}
  defp check({:in, values}, value), do: if(value in values, do: {:ok, value}, else: :error)
  defp check(:ms, value) when is_integer(value) and value in 1..@most, do: {:ok, value}
  defp check(:ms_or_infinity, :infinity), do: {:ok, :infinity}
  defp check(:ms_or_infinity, value), do: check(:ms, value)
  defp check(:positive, value) when is_integer(value) and value > 0, do: {:ok, value}

  defp check({:up_to, most}, value) when is_integer(value) and value >= 1 and value <= most,
    do: {:ok, value}

  defp check(:name, {:via, module, _} = name) when is_atom(module), do: {:ok, name}
  defp check(:name, {:global, _} = name), do: {:ok, name}
  defp check(:name, name) when is_atom(name) and not is_boolean(name), do: {:ok, name}
  defp check(:pid, value) when is_pid(value), do: {:ok, value}

  # A space or the end of a line would make another header of it.
  defp check(:token, value) when is_binary(value),
    do: if(value =~ ~r/\A[\x21-\x7e]+\z/, do: {:ok, value}, else: :error)

  defp check(:headers, value) do
    with {:ok, pairs} <- Cast.pairs(value), true <- Enum.all?(pairs, &header?/1) do
      {:ok, pairs}
    else
      _ -> :error
    end
  end

  defp check(:tls, value) do
    keys = [:cacertfile, :certfile, :keyfile, :versions, :ciphers]

    if Keyword.keyword?(value) and Enum.all?(value, fn {key, _} -> key in keys end),
      do: {:ok, value},
      else: :error
  end

  defp check(:atoms, [_ | _] = value),
    do:
      if(not List.improper?(value) and Enum.all?(value, &is_atom/1),
        do: {:ok, value},
        else: :error
      )

  defp check(:texts, value) when is_list(value) do
    if not List.improper?(value) and Enum.all?(value, &(is_binary(&1) and String.valid?(&1))),
      do: {:ok, value},
      else: :error
  end

  defp check(:reconnect, value), do: Reconnect.new(value)

  # The two that have options of their own stay these.
  defp check(:capabilities, value) do
    with {:ok, capabilities} <- Protocol.check("InitializeCapabilities", value),
         false <- is_map_key(capabilities, "experimentalApi"),
         false <- is_map_key(capabilities, "optOutNotificationMethods") do
      {:ok, capabilities}
    else
      _ -> :error
    end
  end

  defp check(:env, value) do
    with {:error, _} <- Cast.cast(:env, value), do: :error
  end

  defp check(:config, value) do
    with {:ok, told} <- Overrides.new(value), {:ok, _} <- Overrides.arguments(told) do
      {:ok, told}
    else
      # The path of a value below its key is text with dots.
      {:error, path} when is_binary(path) ->
        if Enum.any?(value, &match?({^path, _}, &1)), do: :error, else: {:error, [:config, path]}

      {:error, _key} ->
        :error
    end
  end

  defp check(_other, _value), do: :error

  # Those of the handshake itself, and `Origin`, which the server (0.169) refuses.
  @own ~w(host upgrade connection origin content-length transfer-encoding)

  defp header?({name, value}) when is_binary(name) and is_binary(value) do
    lower = String.downcase(name)

    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and value =~ ~r/\A[\x20-\x7e\t]*\z/ and
      lower not in @own and not String.starts_with?(lower, "sec-websocket-")
  end

  defp header?(_other), do: false

  defp text(value), do: if(String.valid?(value), do: {:ok, value}, else: :error)
end
