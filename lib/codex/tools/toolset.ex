defmodule Codex.Tools.Toolset do
  @moduledoc false
  # The option `tools`, normalised: one list of `Codex.Tools.Definition` for every transport. Each
  # entry of the option is a module, `{module, options}`, a registered name or a handle.
  #
  # Refuses names that the CLI uses itself and duplicates, because the CLI would accept them and
  # never call the tool.

  alias Codex.Tools.{Definition, Handle, Registry, Reserved}

  @typedoc "Why an entry of `tools` is refused."
  @type reason ::
          Definition.reason()
          | :not_registered
          | {:reserved_name, String.t()}
          | {:reserved_namespace, String.t()}
          | {:duplicate_name, String.t()}

  @doc "Returns the tools of the option `tools`. The error names the module, or the name."
  @spec new([term()]) :: {:ok, [Definition.t()]} | {:error, {:invalid_tool, term(), reason()}}
  def new(entries) when is_list(entries) do
    with {:ok, tools} <- resolve(entries, []) do
      case refused(tools, MapSet.new()) do
        nil -> {:ok, tools}
        {module, reason} -> {:error, {:invalid_tool, module, reason}}
      end
    end
  end

  defp resolve([], tools), do: {:ok, Enum.reverse(tools)}

  defp resolve([entry | rest], tools) do
    case definition(entry) do
      {:ok, tool} -> resolve(rest, [tool | tools])
      {:error, reason} -> {:error, {:invalid_tool, subject(entry), reason}}
    end
  end

  defp definition(%Definition{} = tool), do: {:ok, tool}

  defp definition(%Handle{name: name, module: module}) do
    case Registry.fetch(name) do
      {:ok, {^module, metadata}} -> Definition.new(module, metadata)
      _other -> {:error, :not_registered}
    end
  end

  defp definition(name) when is_binary(name) do
    case Registry.lookup(name) do
      {:ok, %{module: module, metadata: metadata}} -> Definition.new(module, metadata)
      {:error, :not_found} -> {:error, :not_registered}
    end
  end

  defp definition({module, opts}) when is_atom(module) and (is_map(opts) or is_list(opts)) do
    if is_map(opts) or Keyword.keyword?(opts),
      do: Definition.new(module, opts),
      else: {:error, :not_a_tool}
  end

  defp definition(module), do: Definition.new(module)

  # The options of an entry may hold secrets.
  defp subject(%{module: module}), do: module
  defp subject({module, _opts}), do: module
  defp subject(entry), do: entry

  defp refused([], _names), do: nil

  defp refused([tool | rest], names) do
    key = {tool.namespace, tool.name}

    cond do
      reason = Reserved.reason(tool.namespace, tool.name) ->
        {tool.module, reason}

      MapSet.member?(names, key) ->
        {tool.module, {:duplicate_name, Definition.full_name(tool)}}

      true ->
        refused(rest, MapSet.put(names, key))
    end
  end

  @doc """
  Returns the tool that a call names, or nil. A recorded thread may call `shell` by a former name:
  see `Codex.Tools.Registry.names/1`.
  """
  @spec find([Definition.t()], String.t() | nil, term()) :: Definition.t() | nil
  def find(tools, namespace, name) do
    Enum.find_value(Registry.names(name), fn name ->
      Enum.find(tools, &(&1.name == name and &1.namespace == namespace))
    end)
  end

  @doc "Returns the tools in the form of the app-server's `dynamicTools`."
  @spec wire([Definition.t()]) :: [map()]
  def wire(tools) do
    {plain, named} = Enum.split_with(tools, &(&1.namespace == nil))

    namespaces =
      for namespace <- named |> Enum.map(& &1.namespace) |> Enum.uniq() do
        inside = Enum.filter(named, &(&1.namespace == namespace))

        %{
          "type" => "namespace",
          "name" => namespace,
          "description" => Enum.find_value(inside, "", & &1.namespace_description),
          "tools" => Enum.map(inside, &function/1)
        }
      end

    Enum.map(plain, &function/1) ++ namespaces
  end

  defp function(tool) do
    function = %{
      "type" => "function",
      "name" => tool.name,
      "description" => tool.description,
      "inputSchema" => tool.schema
    }

    if tool.defer, do: Map.put(function, "deferLoading", true), else: function
  end
end
