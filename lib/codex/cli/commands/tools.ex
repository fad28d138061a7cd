defmodule Codex.CLI.Commands.Tools do
  @moduledoc false
  # The commands that run, diagnose and update on this machine, and those that are refused. See
  # `Codex.CLI.Commands`.

  def rows, do: [sandbox() | debug()] ++ machine() ++ refused()

  defp sandbox do
    %{
      command: "sandbox",
      doc:
        "Runs a command in the sandbox of the CLI, without an agent: Seatbelt on macOS, " <>
          "bubblewrap on Linux, a restricted user on Windows. Without options, the sandbox " <>
          "is that of the configuration. Any exit status is `{:ok, result}`, because it is the " <>
          "status of the command; if the CLI refuses the call, the status is 1 or 2, and stderr " <>
          "has the reason.",
      args: [{:command, :argv, "a non-empty list of non-empty strings", :positional}],
      options: [
        {:permission_profile, :string,
         "a permission profile, such as `\":read-only\"` or `\":workspace\"`",
         flag: "--permission-profile"},
        {:cd, :path, "the working directory of the profile and the command; needs a profile",
         flag: "--cd"},
        {:include_managed_config, :boolean, "applies managed requirements; needs a profile",
         flag: "--include-managed-config"},
        {:profile, :string, "a configuration profile", flag: "--profile"},
        {:state, :json,
         "the sandbox state that the app-server passes to tools (`codex/sandbox-state-meta`), " <>
           "as a map or JSON; excludes a permission profile",
         flag: "--sandbox-state-json", expected: "a map or a string of JSON"},
        {:readable_roots, {:list, :path}, "further readable folders of that state",
         flag: "--sandbox-state-readable-root"},
        {:disable_network, :boolean, "that state without network",
         flag: "--sandbox-state-disable-network"},
        {:transparent_tcp, :boolean, "routes TCP through the proxy of the CLI; Linux only",
         flag: "--transparent-tcp"},
        {:allow_unix_sockets, {:list, :path}, "Unix sockets that the command may use; macOS only",
         flag: "--allow-unix-socket", only: :macos},
        {:log_denials, :boolean, "prints denials after the end; macOS only",
         flag: "--log-denials", only: :macos}
      ],
      returns: :result,
      statuses: :any
    }
  end

  defp debug do
    [
      %{
        command: "sandbox uninstall",
        doc: "Removes the accounts and rules of the older Windows sandbox. Windows only.",
        returns: :message
      },
      %{
        command: "debug models",
        doc:
          "Returns the model catalog of the CLI: a map with `\"models\"`. `Codex.Models` has " <>
            "it as structs.",
        options: [
          {:bundled, :boolean, "only the catalog inside the program, without network",
           flag: "--bundled"}
        ],
        returns: :json
      },
      %{
        command: "debug prompt-input",
        doc: "Returns the input that a model would get for a prompt: a list of items, as maps.",
        args: [{:prompt, :string, "a non-empty string", :positional}],
        options: [{:images, {:list, :path}, "images of the prompt", flag: "--image"}],
        returns: :json
      },
      %{
        command: "debug clear-memories",
        doc: "Removes the memories of the home.",
        returns: :message
      }
    ]
  end

  defp machine do
    [
      %{
        command: "doctor",
        doc:
          "Returns the report of the CLI about this machine, as a map, also if checks fail: " <>
            ~S(`"overallStatus"` is then `"fail"`. The CLI connects to its provider. ) <>
            "`Codex.Doctor` checks this package, too, and sends nothing.",
        options: [
          {:network_only, :boolean, "only the checks of the network", flag: "--network-only"}
        ],
        send: ["--json"],
        returns: :json,
        statuses: [0, 1],
        timeout: 120_000,
        without: [
          {~w(--summary --all --no-color --ascii), "for people: the report is JSON"}
        ]
      },
      %{
        command: "completion",
        doc: "Returns the completion script of a shell.",
        args: [
          {:shell, {:one_of, [:bash, :elvish, :fish, :powershell, :zsh]},
           "one of :bash, :elvish, :fish, :powershell, :zsh", :positional}
        ],
        returns: :text
      },
      %{
        command: "migrate-rollouts",
        doc:
          "Reports the threads of older versions that can be migrated: a map with " <>
            "`\"outcomes\"`. With `apply: true`, migrates them.",
        options: [
          {:apply, :boolean, "migrates", flag: "--apply"},
          {:threads, {:list, :string}, "only the threads with these ids", flag: "--thread"},
          {:max_mib_per_second, :positive, "the limit of the throughput, in MiB per second",
           flag: "--max-mib-per-second"}
        ],
        send: ["--json"],
        returns: :json,
        timeout: :infinity,
        without: [{["--verbose"], "the report is JSON"}]
      },
      %{
        command: "update",
        doc: "Updates the CLI in the way in which it was installed.",
        returns: :message,
        timeout: 600_000
      }
    ]
  end

  @terminal "it is a program for a terminal"

  defp refused do
    for {command, why} <- [
          {"resume",
           "#{@terminal}; Codex.resume_thread/3 continues a thread without one, and " <>
             "Codex.CLI.Session.resume/3 makes one"},
          {"fork",
           "#{@terminal}; Codex.fork_thread/3 forks a thread without one, and " <>
             "Codex.CLI.Session.fork/3 makes one"},
          {"agents", "#{@terminal}; Codex.Sessions.list/1 lists threads without one"},
          {"cloud", "#{@terminal}; Codex.CLI.cloud_list/1 needs none"},
          {"mcp-server",
           "the CLI has no such command; start an app-server with " <>
             "Codex.AppServer.connect/2"}
        ],
        do: %{command: command, refuse: why}
  end
end
