defmodule Codex.CLI.Commands.Settings do
  @moduledoc false
  # The commands for features, MCP servers, plugins and rules. See `Codex.CLI.Commands`.

  @name {:name, :string, "the name of an MCP server", :positional}
  @registration {:client_registration, {:one_of, [:auto, :cimd, :dcr]},
                 "how the login registers a client", flag: "--oauth-client-registration"}
  @plugin {:plugin, :string, "`PLUGIN@MARKETPLACE`, or a plugin with `:marketplace`", :positional}
  @marketplace {:marketplace, :string, "the name of a marketplace", flag: "--marketplace"}
  @source_name {:name, :string, "the name of a marketplace", :positional}

  def rows, do: features() ++ mcp() ++ plugins() ++ rules()

  defp features do
    feature = {:feature, :string, "the key of a feature", :positional}

    [
      %{
        command: "features list",
        doc:
          "Lists the features of the CLI, with stage and state in the configuration of `:cwd`.",
        returns: :features
      },
      %{
        command: "features enable",
        doc: "Enables a feature in the user's `config.toml`.",
        args: [feature],
        returns: :message
      },
      %{
        command: "features disable",
        doc: "Disables a feature in the user's `config.toml`.",
        args: [feature],
        returns: :message
      }
    ]
  end

  defp mcp do
    [
      %{
        command: "mcp list",
        doc:
          "Lists the MCP servers of the configuration, as maps. Values of `\"env\"` are shown. " <>
            "`Codex.MCP.Config.list_servers/2` runs no command.",
        send: ["--json"],
        returns: :json
      },
      %{
        command: "mcp get",
        doc: "Returns an MCP server of the configuration, as a map.",
        args: [@name],
        send: ["--json"],
        returns: :json
      },
      %{
        command: "mcp add",
        doc:
          "Adds an MCP server to the user's `config.toml`: give `:url` or `:command`. The CLI " <>
            "writes all servers anew; `Codex.MCP.Config.add_server/4` leaves the others " <>
            "unchanged.",
        args: [@name],
        options: [
          {:command, {:list, :string}, "the program of a server on stdio, with its arguments",
           flag: :positional},
          {:url, :string, "the URL of a server on streamable HTTP", flag: "--url"},
          {:bearer_token_env_var, :string, "the variable with the bearer token",
           flag: "--bearer-token-env-var"},
          {:oauth_client_id, :string, "the id of a registered client", flag: "--oauth-client-id"},
          {:oauth_resource, :string, "the resource of the login", flag: "--oauth-resource"},
          @registration
        ],
        returns: :message,
        without: [
          {["--env", "--oauth-client-secret"],
           "secrets do not stand in arguments: Codex.MCP.Config.add_server/4 writes the file"}
        ]
      },
      %{
        command: "mcp remove",
        doc: "Removes an MCP server from the user's `config.toml`. A missing one is no error.",
        args: [@name],
        returns: :message
      },
      %{
        command: "mcp login",
        doc:
          "Logs in to an MCP server with OAuth. The CLI opens a browser, and waits for it. With " <>
            "`:no_browser`, it prints the URL (see `:tee`) and reads the URL of the callback " <>
            "from `:stdin`. `Codex.MCP.OAuth` logs in without the command.",
        args: [@name],
        options: [
          {:no_browser, :boolean, "prints the URL and opens no browser", flag: "--no-browser"},
          {:scopes, :string, "the scopes, separated by commas", flag: "--scopes"},
          @registration
        ],
        returns: :message,
        timeout: 900_000
      },
      %{
        command: "mcp logout",
        doc: "Removes the stored login of an MCP server.",
        args: [@name],
        returns: :message
      }
    ]
  end

  defp plugins do
    [
      %{
        command: "plugin add",
        doc: "Installs a plugin of a marketplace.",
        args: [@plugin],
        options: [@marketplace],
        send: ["--json"],
        returns: :json,
        timeout: 300_000
      },
      %{
        command: "plugin list",
        doc: "Lists plugins: a map with `\"installed\"` and `\"available\"`.",
        options: [
          @marketplace,
          {:available, :boolean, "includes plugins that are not installed", flag: "--available"}
        ],
        send: ["--json"],
        returns: :json
      },
      %{
        command: "plugin remove",
        doc: "Uninstalls a plugin. A missing one is no error.",
        args: [@plugin],
        options: [@marketplace],
        send: ["--json"],
        returns: :json
      },
      %{
        command: "plugin marketplace add",
        doc:
          "Adds a marketplace: a folder, `owner/repository[@ref]`, or the URL of a repository.",
        args: [{:source, :string, "a folder, a repository or a URL", :positional}],
        options: [
          {:ref, :string, "the Git ref to fetch", flag: "--ref"},
          {:sparse, {:list, :string}, "the paths to check out", flag: "--sparse"}
        ],
        send: ["--json"],
        returns: :json,
        timeout: 300_000
      },
      %{
        command: "plugin marketplace list",
        doc: "Lists the configured marketplaces: a map with `\"marketplaces\"`.",
        send: ["--json"],
        returns: :json
      },
      %{
        command: "plugin marketplace upgrade",
        doc: "Fetches Git marketplaces again.",
        options: [
          {:name, :string, "the name of one marketplace", flag: :positional, shown: "all of them"}
        ],
        send: ["--json"],
        returns: :json,
        timeout: 300_000
      },
      %{
        command: "plugin marketplace remove",
        doc: "Removes a configured marketplace.",
        args: [@source_name],
        send: ["--json"],
        returns: :json
      }
    ]
  end

  defp rules do
    [
      %{
        command: "execpolicy check",
        doc: "Checks a command against files of rules. Runs nothing.",
        args: [
          {:rules, :paths, "a non-empty list of paths", "--rules"},
          {:command, :argv, "a non-empty list of non-empty strings", :positional}
        ],
        options: [
          {:resolve_host_executables, :boolean,
           "rules for the name of a program match its absolute path, too",
           flag: "--resolve-host-executables"}
        ],
        returns: :decision,
        without: [{["--pretty"], "the output is parsed"}]
      }
    ]
  end
end
