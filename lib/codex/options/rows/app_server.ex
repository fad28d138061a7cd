defmodule Codex.Options.Rows.AppServer do
  @moduledoc false
  # The options of connections and of subscribers, as rows of `Codex.Options.Schema`.

  @child [
    {:cwd, :path, "the working directory of the server, and of threads that name no `cwd`",
     shown: "the VM's own directory"},
    {:env, :env,
     "more variables for the server, on top of those of the client; nil removes a variable",
     default: %{}, secret: true},
    {:clear_env, :boolean, "leaves out the VM's environment, except `PATH` and `HOME`",
     default: false},
    {:isolation, {:one_of, [:inherit, :hermetic]},
     "`:hermetic`: a home of its own, without login, removed with the connection or with the " <>
       "VM, unless the client names a `codex_home`; `clear_env`; and no AGENTS files of " <>
       "projects (`project_doc_max_bytes=0`). The server has no option to ignore the " <>
       "`config.toml` of its home", default: :inherit},
    {:config, :overrides,
     "configuration for all threads of this server, as in the options of a thread",
     default: %{},
     flags: ["--config"],
     secret: true,
     expected: "a map or keyword of configuration"},
    {:strict_config, :boolean, "makes unknown configuration keys errors (`--strict-config`)",
     default: false, flags: ["--strict-config"]},
    {:listen, :listen,
     "a Unix socket, `unix://PATH`, at which the server listens instead of stdin and stdout, " <>
       "for other clients of this user, such as `mix codex.attach`; or `unix://` for the socket " <>
       "of the home. Only one server can listen at a socket",
     expected: "`unix://` or `unix://PATH`, with a path of at most 103 bytes", flags: ["--listen"]},
    {:broken_config, {:one_of, [:refuse, :allow]},
     "the reaction to a configuration that cannot be read. The server itself would start with " <>
       "defaults, and **with the built-in provider**", default: :refuse}
  ]

  @remote [
    {:token, :token,
     "the bearer token of the `Authorization` header: the capability token, or one of " <>
       "`signed_token/2`. Never shown, and refused for plain `ws://` to a host that is not " <>
       "loopback", secret: true, nil: :error, expected: "a string of visible ASCII characters"},
    {:codex_home, :path, "for `unix://` without a path: the home of the server",
     shown: "`CODEX_HOME`, else `~/.codex`"},
    {:headers, :headers,
     "more headers for the handshake; those whose names sound like secrets are treated as " <>
       "`:token` is",
     default: [], secret: true, expected: "a map or list of header names and values, both strings"},
    {:tls, :tls,
     "options of `:ssl` for `wss://`. `:cacertfile` is a file of authorities beside those of " <>
       "the system, default `CODEX_CA_CERTIFICATE`. The server's certificate is always checked",
     default: [],
     secret: true,
     expected: "a keyword of `:cacertfile`, `:certfile`, `:keyfile`, `:versions` and `:ciphers`"},
    {:ping_interval_ms, :timeout,
     "the interval of pings; a server that has sent nothing from one ping to the next is gone",
     default: 30_000},
    {:send_timeout_ms, :milliseconds, "the wait for a server that does not read; then it is gone",
     default: 10_000},
    {:telemetry_prefix, :atoms, "first part of event names", default: [:codex]}
  ]

  @both [
    {:client_name, :string, "the client's name for the server and the provider (`originator`)",
     default: "codex_sdk"},
    {:client_title, :string, "the client's name for people"},
    {:client_version, :string, "the client's version", shown: "that of this package"},
    {:experimental_api, :boolean, "allows experimental methods and options", default: false},
    {:capabilities, :capabilities,
     "further abilities of the client, as `request_attestation: true`: the server asks for it then",
     default: %{}, expected: "a map or keyword of the protocol's capabilities"},
    {:opt_out, {:list, :text}, "methods of notifications that the server need not send",
     default: []},
    {:init_timeout_ms, :milliseconds, "the limit for starting and for the server's hello",
     default: 10_000},
    {:answer_timeout_ms, :timeout,
     "how long a request of the server waits for an answer before it is declined",
     default: 300_000},
    {:max_queue, :positive,
     "how many messages may lie in the mailbox of a reader: a subscriber, or a process that " <>
       "reads a turn. See *Slow readers* of `connect/2`", default: 1_000},
    {:max_spool_bytes, :bytes,
     "how much is kept for a reader whose mailbox is full while others have work. A reader that " <>
       "needs more is cut off", default: 16_777_216},
    {:max_message_bytes, {:integer, 1, 1_073_741_824},
     "the longest message; a longer one ends the connection with an overflow. Up to twice as " <>
       "much is held",
     default: 268_435_456, expected: "a positive integer in bytes, up to 1_073_741_824"},
    {:max_message_nodes, :positive,
     "how many values and keys a message may have; a message with more ends the connection with " <>
       "an overflow. The default is some 270 MB of terms at worst",
     default: Codex.JSON.max_nodes()},
    {:reconnect, :reconnect,
     "starts another server, under the same pid, if the server of the connection is gone; true " <>
       "is `attempts: 10, delay_ms: 200, max_delay_ms: 10_000`, where the delay doubles. See " <>
       "the section below",
     shown: "false",
     expected:
       "a boolean, or a keyword of `:attempts` (a positive integer or `:infinity`), `:delay_ms` " <>
         "and `:max_delay_ms`"},
    {:name, :name, "the registered name of the connection's process",
     expected: "a name of a process, as GenServer takes it"},
    {:owner, :pid, "the process with which the connection ends",
     shown: "none: the connection ends with `disconnect/1`"}
  ]

  @reconnect [
    {:attempts, :attempts, "the number of attempts",
     default: 10, expected: "a positive integer or `:infinity`"},
    {:delay_ms, :milliseconds, "the first delay, which doubles", default: 200},
    {:max_delay_ms, :milliseconds, "the longest delay", default: 10_000}
  ]

  @subscription [
    {:methods, {:list, :text},
     "the methods of the notifications and requests. Does not filter `:codex_request_closed`, " <>
       "`:codex_connection` and `:codex_subscription`", shown: "all methods"},
    {:thread_id, :text, "the id of a thread. Leaves out messages without a thread",
     shown: "all threads"},
    {:as, {:one_of, [:wire, :structs]},
     "the form of the messages: maps as on the wire, or structs of `Codex.Events`",
     default: :wire}
  ]

  @doc "Returns the rows of `Codex.AppServer.connect/2`."
  @spec child() :: [tuple()]
  def child, do: @child ++ @both

  @doc "Returns the rows of `Codex.AppServer.connect_remote/2`."
  @spec remote() :: [tuple()]
  def remote, do: @remote ++ @both

  @doc "Returns the rows inside the option `reconnect`."
  @spec reconnect() :: [tuple()]
  def reconnect, do: @reconnect

  @doc "Returns the rows of `Codex.AppServer.subscribe/2`."
  @spec subscription() :: [tuple()]
  def subscription, do: @subscription
end
