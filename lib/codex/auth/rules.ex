defmodule Codex.Auth.Rules do
  @moduledoc false
  # The rules `forced_login_method` and `forced_chatgpt_workspace_id`. If any credential breaks a
  # rule, `codex exec` deletes the login and ends, whatever the provider, so the SDK does not start
  # it then.

  alias Codex.{Config, FileSystem, Home}

  require FileSystem

  defstruct method: nil, workspaces: []

  @type t :: %__MODULE__{method: :chatgpt | :api | nil, workspaces: [String.t()]}
  @type method :: :chatgpt | :api_key

  @spec new(Config.t() | nil) :: t()
  def new(nil), do: %__MODULE__{}

  def new(config) do
    %__MODULE__{
      method: method(Config.get(config, "forced_login_method")),
      workspaces: config |> Config.get("forced_chatgpt_workspace_id") |> workspaces()
    }
  end

  # Parsed like the CLI: trimmed, without empty entries. The CLI refuses a single text with a comma.
  defp workspaces(nil), do: []

  defp workspaces(text) when is_binary(text),
    do: if(String.contains?(text, ","), do: [], else: workspaces([text]))

  defp workspaces(list) when is_list(list) do
    for text <- list, is_binary(text), text = String.trim(text), text != "", do: text
  end

  defp method("chatgpt"), do: :chatgpt
  defp method("api"), do: :api
  defp method(_none), do: nil

  # A key may be spelt with escapes.
  @signs ["forced_", "\\u", "\\U", "\\x"]

  @doc """
  Tells whether the configuration that these options load might have a rule, and whether it mentions
  MCP servers. It looks at the texts alone, in one call: most have neither, and then a run need not
  load the configuration, which takes a fifth of a millisecond.

  Without a home, or with a file that cannot be read, there may be a rule.
  """
  @spec mentions(keyword()) :: %{rules?: boolean(), mcp_servers?: boolean()}
  def mentions(opts) do
    texts = [{:ok, Enum.join(opts[:overrides] || [], "\n")} | texts(opts)]

    %{
      rules?: Enum.any?(texts, &sign?(&1, @signs, true)),
      mcp_servers?: Enum.any?(texts, &sign?(&1, ["mcp_servers"], false))
    }
  end

  defp texts(opts) do
    with {:ok, home, _from} <- Home.locate(opts[:codex_home], opts[:env]),
         {[{:ok, %{kind: :directory}}], texts} <- FileSystem.look([home], files(home, opts)),
         do: texts,
         else: (_no_home -> [{:error, :no_home}])
  end

  # More files than count in the end: the loader knows where a project begins, and whether it is
  # trusted.
  defp files(home, opts) do
    system = opts[:system_dir] || "/etc/codex"
    profile = if opts[:profile], do: [Path.join(home, opts[:profile] <> ".config.toml")], else: []

    [Path.join(system, "managed_config.toml"), Path.join(system, "config.toml")] ++
      [Home.path(home, :config) | profile] ++
      above(directory(opts[:cwd]))
  end

  defp directory(nil) do
    case FileSystem.cwd() do
      {:ok, dir} -> dir
      {:error, _} -> "/"
    end
  end

  defp directory(dir), do: Path.expand(dir)

  defp above("/" = root), do: [Path.join(root, ".codex/config.toml")]
  defp above(dir), do: [Path.join(dir, ".codex/config.toml") | above(Path.dirname(dir))]

  defp sign?({:ok, text}, signs, _unknown), do: String.contains?(text, signs)

  defp sign?({:error, reason}, _signs, unknown),
    do: unknown and not FileSystem.is_missing(reason)

  @doc "Returns whether there are any rules."
  @spec any?(t()) :: boolean()
  def any?(rules), do: rules != %__MODULE__{}

  @doc "Checks a credential by its method and its workspace."
  @spec check(t(), atom(), String.t() | nil) :: :ok | {:error, Codex.Reason.login_rule()}
  def check(rules, method, workspace) do
    kind = kind(method)

    with :ok <- check_method(rules.method, kind),
         do: if(kind == :api_key, do: :ok, else: check_workspace(rules.workspaces, workspace))
  end

  @doc "Checks the method of a login before it is tried, when its workspace is not known yet."
  @spec check_method(:chatgpt | :api | nil, method()) :: :ok | {:error, Codex.Reason.login_rule()}
  def check_method(:chatgpt, :api_key), do: {:error, {:forced_login_method, :chatgpt, :api_key}}
  def check_method(:api, :chatgpt), do: {:error, {:forced_login_method, :api, :chatgpt}}
  def check_method(_forced, _kind), do: :ok

  defp check_workspace([], _workspace), do: :ok

  defp check_workspace(allowed, workspace) do
    if workspace in allowed,
      do: :ok,
      else: {:error, {:forced_chatgpt_workspace_id, allowed, workspace}}
  end

  @doc "Returns the kind of a method in terms of the rules."
  @spec kind(atom()) :: method()
  def kind(method) when method in [:api_key, :bedrock_api_key, :bedrock_access_keys], do: :api_key
  def kind(_method), do: :chatgpt
end
