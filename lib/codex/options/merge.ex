defmodule Codex.Options.Merge do
  @moduledoc false
  # Merges the options of client, thread and turn, once for each turn and for every transport.

  alias Codex.Options.{Overrides, Table}
  alias Codex.Tools.Toolset

  # The CLI refuses to change these.
  @built_in ~w(openai ollama lmstudio amazon-bedrock)

  @dangerous for row <- Table.rows(), match?({:dangerous, _}, row.opts[:exec]), do: row.name

  @doc """
  Returns the settings of a turn: of each option the turn's value, else the thread's, else the
  client's, else its default. Lists and environments add up. `below` is the configuration of the
  client, which everything else wins over.

  `full_auto` becomes the options that it stands for, and `tools` a list of
  `Codex.Tools.Definition`. Errors: options that exclude each other, dangerous options without
  `dangerous: true`, and invalid tools.
  """
  @spec settings(Codex.Options.t(), Codex.Thread.Options.t() | nil, map()) ::
          {:ok, map()} | {:error, Codex.Reason.option()}
  def settings(client, thread, turn) do
    settings = merge(client, thread, turn)

    cond do
      settings.full_auto == true and settings.dangerously_bypass_approvals_and_sandbox == true ->
        {:error, Table.conflict()}

      name = settings.dangerous != true && Enum.find(@dangerous, &(settings[&1] == true)) ->
        {:error, {:dangerous, name}}

      true ->
        with {:ok, settings} <- tools(settings), do: {:ok, full_auto(settings, turn)}
    end
  end

  # As definitions, which every transport takes.
  defp tools(%{tools: [_ | _] = entries} = settings),
    do: with({:ok, tools} <- Toolset.new(entries), do: {:ok, %{settings | tools: tools}})

  defp tools(settings), do: {:ok, settings}

  @doc "Returns the merged options as they are."
  @spec merge(Codex.Options.t(), Codex.Thread.Options.t() | nil, map()) :: map()
  def merge(client, thread, turn) do
    thread = thread || Map.new(Table.defaults(:thread))
    settings = Enum.reduce([client, thread, turn], Table.defaults(), &put_all/2)

    Map.merge(settings, %{
      env: Map.merge(client.env || %{}, turn[:env] || %{}),
      below: both(client.config, client.config_overrides),
      hooks: both(thread.hooks, turn[:hooks]),
      redact: both(thread.redact, turn[:redact]),
      images: both(thread.attachments, turn[:images]),
      enable: both(thread.enable, turn[:enable]),
      disable: both(thread.disable, turn[:disable]),
      config: thread.config || [],
      config_overrides: both(thread.config_overrides, turn[:config_overrides])
    })
  end

  defp both(list, more), do: (list || []) ++ (more || [])

  # Options that are nil are not set.
  defp put_all(source, settings) do
    for {name, value} when value != nil <- Map.to_list(source),
        is_map_key(settings, name),
        reduce: settings,
        do: (settings -> %{settings | name => value})
  end

  @doc """
  Returns the overrides of the configuration that a value stands for, by the `exec:` of its row.
  Both transports send these alike.
  """
  @spec overrides(term(), term(), atom(), map()) ::
          {:ok, [Overrides.t()]} | {:error, {:unsupported_option, atom()}}
  def overrides({:config, key}, value, _name, _settings), do: {:ok, [override(key, value)]}

  def overrides({:table, key}, members, _name, _settings),
    do: {:ok, for({name, value} <- members, do: override([key, name], value))}

  def overrides({:provider, _key}, _value, name, %{model_provider: id})
      when id in [nil | @built_in],
      do: {:error, {:unsupported_option, name}}

  def overrides({:provider, key}, value, _name, %{model_provider: id}),
    do: {:ok, [override(["model_providers", id, key], value)]}

  def overrides(:web_search_enabled, on?, _name, %{web_search_mode: nil}),
    do: {:ok, [override("web_search", if(on?, do: "live", else: "disabled"))]}

  def overrides(:web_search_enabled, _on?, _name, _settings), do: {:ok, []}

  # With their secrets, which `Codex.Exec.Secrets` takes out.
  def overrides(tables, value, _name, _settings) when tables in [:mcp_servers, :model_providers],
    do: {:ok, for({id, table} <- value, do: override([tables, id], table))}

  @doc "Returns an override: a key of ours is written with dots, names of the caller's are a list."
  @spec override(String.t() | [String.t() | atom()], term()) :: Overrides.t()
  def override(key, value) when is_binary(key), do: override(String.split(key, "."), value)

  def override(path, value) do
    {:ok, value} = Overrides.value(value)
    {Enum.map(path, &to_string/1), value}
  end

  # An option that was set by name wins.
  defp full_auto(%{full_auto: true} = settings, turn) do
    policy = settings.sandbox_policy
    default? = settings.sandbox == :default and not match?(%{type: _}, policy)

    # A loaded thread of an app-server takes the sandbox of a turn from its policy only.
    policy =
      if default? and turn[:full_auto] == true,
        do: Map.put(policy || %{}, :type, "workspace-write"),
        else: policy

    %{
      settings
      | sandbox: if(default?, do: :workspace_write, else: settings.sandbox),
        sandbox_policy: policy,
        ask_for_approval: settings.ask_for_approval || :on_request
    }
  end

  defp full_auto(settings, _turn), do: settings
end
