defmodule Codex.CLI.Commands.Services do
  @moduledoc false
  # The commands that start, control and serve app-servers and exec-servers. See
  # `Codex.CLI.Commands`.

  @updater "The CLI also starts an updater, a process that asks OpenAI for new versions and " <>
             "goes on running; its id is in `app-server-daemon/daemon-updater.pid` of the home."
  @remote "Remote control needs a ChatGPT login."

  @registration ~w(--remote --remote-transport --environment-id --name --use-agent-identity-auth) ++
                  ~w(--registration-bearer-stdin --executor-credential-stdin) ++
                  ~w(--chatgpt-token-stdin --chatgpt-account-id --aws-sigv4 --aws-profile) ++
                  ~w(--aws-region --aws-service)

  def rows, do: daemon() ++ remote_control() ++ generators() ++ [exec_server()]

  # The daemon outlives the command that starts it.
  defp daemon do
    for {command, doc, options, facts} <- [
          {"start",
           "Starts the app-server of the home as a daemon, if it does not run. The map has " <>
             ~S(`"status"`, `"pid"` and `"socketPath"`; ) <>
             "`Codex.AppServer.connect_remote/2` connects to `\"unix://\" <> socket_path`. The " <>
             "first start copies the CLI into the home. " <> @updater, [],
           %{descendants: :leave, timeout: 120_000}},
          {"stop",
           "Stops the daemon of the home, not its updater. A daemon that does not run is no error.",
           [], %{timeout: 60_000}},
          {"restart", "Restarts the daemon of the home.", [],
           %{descendants: :leave, timeout: 120_000}},
          {"version",
           "Returns the state of the daemon of the home: a map with " <>
             ~S(`"status"`, `"socketPath"` and versions. The error of a daemon that does ) <>
             "not run has the kind `:connection_refused`.", [], %{}},
          {"bootstrap",
           "Starts the daemon of the home anew, with automatic updates. " <> @updater,
           [
             {:remote_control, :boolean, "starts it with remote control",
              flag: "--remote-control"}
           ], %{descendants: :leave, timeout: 120_000}},
          {"update", "Updates the CLI of the daemon from OpenAI, or from the CLI of this call.",
           [
             {:from_cli, :boolean, "copies the CLI of this call", flag: "--from-cli"},
             {:yes, :boolean, "replaces it without a question", flag: "--yes"}
           ], %{descendants: :leave, timeout: 300_000}},
          {"enable-remote-control", "Restarts the daemon with remote control. " <> @remote, [],
           %{descendants: :leave, timeout: 120_000}},
          {"disable-remote-control", "Restarts the daemon without remote control.", [],
           %{descendants: :leave, timeout: 120_000}}
        ] do
      Map.merge(facts, %{
        command: "app-server daemon " <> command,
        doc: doc,
        options: options,
        returns: :json
      })
    end
  end

  defp remote_control do
    for {command, doc, facts} <- [
          {"start", "Starts the daemon of the home with remote control. " <> @updater,
           %{descendants: :leave, timeout: 120_000}},
          {"stop", "Stops the daemon of the home, not its updater.", %{timeout: 60_000}},
          {"pair", "Returns a code that pairs a device with the daemon of the home.", %{}}
        ] do
      Map.merge(facts, %{
        command: "remote-control " <> command,
        doc: "#{doc} #{@remote}",
        send: ["--json"],
        returns: :json
      })
    end
  end

  defp generators do
    out = {:out, :path, "a path", "--out"}

    experimental =
      {:experimental, :boolean, "includes experimental methods", flag: "--experimental"}

    [
      %{
        command: "app-server generate-json-schema",
        doc: "Writes the JSON schemas of the protocol of the app-server to a folder.",
        args: [out],
        options: [experimental],
        returns: :message
      },
      %{
        command: "app-server generate-ts",
        doc: "Writes the TypeScript types of the protocol of the app-server to a folder.",
        args: [out],
        options: [
          experimental,
          {:prettier, :path, "the program Prettier, which formats the files", flag: "--prettier"}
        ],
        returns: :message
      }
    ]
  end

  defp exec_server do
    %{
      command: "exec-server",
      doc:
        "Runs an exec-server, a service that runs commands for other programs of OpenAI. " <>
          "Returns when it ends: run it in a process of its own, and end that process, or " <>
          "cancel the call. The first line of stdout is the URL (see `:tee`).",
      options: [
        {:listen, :string, "`ws://IP:PORT`, or `stdio`", flag: "--listen"},
        {:concurrent_requests, :positive, "the number of requests at a time of a connection",
         flag: "--concurrent-requests"},
        {:ws_auth, {:one_of, [:capability_token, :signed_bearer_token]},
         "how clients authenticate", flag: "--ws-auth"},
        {:ws_token_file, :path, "the file with the token", flag: "--ws-token-file"},
        {:ws_token_sha256, :string, "the SHA-256 of the token, in hex",
         flag: "--ws-token-sha256"},
        {:ws_shared_secret_file, :path, "the file with the key of signed tokens",
         flag: "--ws-shared-secret-file"},
        {:ws_issuer, :string, "the issuer of signed tokens", flag: "--ws-issuer"},
        {:ws_audience, :string, "the audience of signed tokens", flag: "--ws-audience"},
        {:ws_max_clock_skew_seconds, :count, "the tolerance for the times of signed tokens",
         flag: "--ws-max-clock-skew-seconds"},
        {:linux_sandbox_pid_namespace, {:one_of, [:isolate, :inherit]},
         "whether a sandbox on Linux has process ids of its own",
         flag: "--linux-sandbox-pid-namespace"},
        {:linux_sandbox_transparent_tcp, :boolean,
         "routes TCP of sandboxes on Linux through the proxy",
         flag: "--linux-sandbox-transparent-tcp"},
        {:tcp_upstream_proxy, :string, "the HTTP proxy for raw TCP, as `HOST:PORT`",
         flag: "--tcp-upstream-proxy"},
        {:proxy_private_ips_via_upstream, :boolean,
         "permitted private addresses may use that proxy",
         flag: "--proxy-private-ips-via-upstream"},
        {:exit_on_stdin_close, :boolean, "ends when stdin ends, after the bytes of `:stdin`",
         flag: "--exit-on-stdin-close"},
        {:strict_config, :boolean, "unknown keys of the configuration are errors",
         flag: "--strict-config"}
      ],
      returns: :result,
      timeout: :infinity,
      without: [{@registration, "registers the server at OpenAI, for its own clients"}]
    }
  end
end
