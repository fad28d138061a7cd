defmodule Codex.Exec.Servers do
  @moduledoc false
  # Hands each stdio MCP server of a run its own `env`, without the arguments and without the
  # environment of the CLI.
  #
  # The CLI has no such way. `env_vars` passes variables of the CLI's own environment on,
  # under the same name: two servers would share one value, and PATH or CODEX_HOME of a server
  # would be those of the CLI and its commands. A profile file of the run would do, but
  # `--ignore-user-config` ignores profiles, and the configuration of a trusted project beats them.
  #
  # So the CLI starts `codex_launcher mcp-server FILE SERVER COMMAND ARG…`: the launcher takes the
  # variables of that server from a file with mode 0600, and becomes the command. The file goes
  # with the run.

  alias Codex.{Config, Native}
  alias Codex.Options.Overrides
  alias Codex.Subprocess.Launcher

  @typedoc "Variables of servers, by the name of the server."
  @type envs :: %{String.t() => %{String.t() => String.t()}}

  @doc """
  Overrides that start these servers through the launcher, and the file with their variables for
  `Codex.Exec.Files`.

  A server is what all layers of the configuration make of it, so `load` has the options of
  `Codex.Config.load/1` for this run.
  """
  @spec wrap(envs(), keyword()) ::
          {:ok, [Overrides.t()], [{:file, iodata(), {:mark, String.t()}}]}
          | {:error, Codex.OptionError.t()}
  def wrap(none, _load) when none == %{}, do: {:ok, [], []}

  def wrap(envs, load) do
    mark = mark()

    with {:ok, overrides, content} <- started(envs, mark, servers(load)),
         do: {:ok, overrides, [{:file, content, {:mark, mark}}]}
  end

  @doc "Returns a text for the path of the file, which is known when the CLI starts."
  @spec mark() :: String.t()
  def mark, do: "codex-sdk-" <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)

  @doc "Returns the overrides that start a command as a server with the variables of the file."
  @spec start(String.t(), String.t(), [String.t(), ...]) :: [Overrides.t()]
  def start(id, mark, command) do
    [
      {["mcp_servers", id, "command"], Launcher.path()},
      {["mcp_servers", id, "args"], ["mcp-server", mark, id | command]}
    ]
  end

  defp started(envs, mark, servers) do
    Enum.reduce_while(envs, {:ok, [], []}, fn {id, env}, {:ok, overrides, content} ->
      case command(servers[id]) do
        {:ok, command} ->
          overrides = overrides ++ start(id, mark, command)
          {:cont, {:ok, overrides, [content | records(id, env)]}}

        {:error, key} ->
          expected = "a server with a command: only such a server has an environment"
          error = Codex.OptionError.invalid([:mcp_servers, id, key], "[redacted]", expected)
          {:halt, {:error, error}}
      end
    end)
  end

  # Only a server that is started has an environment.
  defp command(%{"command" => command} = server) when is_binary(command) do
    args = server["args"] || []

    if is_list(args) and Enum.all?(args, &is_binary/1),
      do: {:ok, [command | args]},
      else: {:error, "args"}
  end

  defp command(_server), do: {:error, "env"}

  @doc "Returns the servers of all layers of the configuration, by name."
  @spec servers(keyword()) :: %{String.t() => term()}
  def servers(load) do
    # nil takes a variable away.
    load = Keyword.update!(load, :env, &Map.reject(&1, fn {_, value} -> value == nil end))

    config =
      case Config.load(load) do
        {:ok, config} -> Config.get(config, "mcp_servers")
        # The CLI reports problems of the files.
        {:error, _error} -> told(load[:overrides])
      end

    if is_map(config), do: config, else: %{}
  end

  defp told(arguments) do
    case Native.config_overrides(arguments) do
      {:ok, tree} -> Native.config_term(tree)["mcp_servers"]
      {:error, _} -> nil
    end
  end

  @doc "Returns the content of the file for one server, as native/codex_launcher/src/mcp.rs reads it."
  @spec records(String.t(), %{String.t() => String.t()}) :: iodata()
  def records(id, env), do: for({name, value} <- env, do: [id, 0, name, 0, value, 0])
end
