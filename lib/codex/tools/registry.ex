defmodule Codex.Tools.Registry do
  @moduledoc false
  # Registered tools by name, and their calls. `Codex.Tools` documents these functions.

  alias Codex.{JSON, OptionError, Tool}
  alias Codex.Options.Schema
  alias Codex.Tools.{Call, Definition, Handle, Tables}

  # Names of earlier versions of the CLI, and the names that stand for them.
  @aliases %{
    "container.exec" => ["shell", "shell_command"],
    "local_shell" => ["shell", "shell_command"],
    "shell_command" => ["shell"]
  }

  def register(module, opts \\ [])

  def register(module, opts) when is_atom(module) and module not in [nil, true, false] do
    with {:ok, pairs} <- Schema.pairs(opts),
         opts = Map.new(pairs),
         metadata = Tool.metadata(module),
         name = opts[:name] || metadata[:name] || Definition.default_name(module),
         {:ok, name} <- name(module, name),
         metadata = metadata |> Map.merge(opts) |> Map.put(:name, name),
         {:ok, _tool} <- Definition.registered(module, name, metadata) do
      if Tables.register(name, module, metadata),
        do: {:ok, %Handle{name: name, module: module}},
        else: {:error, {:already_registered, name}}
    end
  end

  # The options may hold secrets, which the report of a missing clause would show.
  def register(other, _opts), do: {:error, {:invalid_tool, other, :not_a_tool}}

  defp name(_module, name) when is_binary(name), do: {:ok, name}
  defp name(_module, name) when is_atom(name), do: {:ok, Atom.to_string(name)}
  defp name(module, name), do: {:error, {:invalid_tool, module, {:invalid_name, name}}}

  def deregister(%Handle{name: name, module: module}), do: Tables.deregister(name, module)

  def deregister(other),
    do: raise(OptionError.argument(:handle, other, "a handle of Codex.Tools.register/2"))

  @doc "Returns the tool of exactly this name."
  @spec fetch(String.t()) :: {:ok, {module(), map()}} | {:error, :not_found}
  defdelegate fetch(name), to: Tables

  @doc """
  Returns a name and the names that stand for it, the most similar first.

      iex> Codex.Tools.Registry.names("local_shell")
      ["local_shell", "shell", "shell_command"]
  """
  @spec names(term()) :: [term()]
  def names(name), do: [name | Map.get(@aliases, name, [])]

  def lookup(name) do
    Enum.find_value(names(name), {:error, :not_found}, fn name ->
      case fetch(name) do
        {:ok, {module, metadata}} -> {:ok, %{name: name, module: module, metadata: metadata}}
        {:error, :not_found} -> nil
      end
    end)
  end

  def invoke(name, args, context) do
    with {:ok, %{name: name, module: module, metadata: metadata}} <- lookup(name),
         {:ok, tool} <- Definition.registered(module, name, metadata),
         do: Call.run(tool, arguments(args), Map.new(context))
  end

  def reset!, do: Tables.reset()

  defp arguments(nil), do: %{}
  defp arguments(%{} = args), do: args

  defp arguments(text) when is_binary(text) do
    case JSON.decode(text) do
      {:ok, %{} = args} -> args
      _other -> %{"input" => text}
    end
  end

  defp arguments(args),
    do: if(is_list(args) and Keyword.keyword?(args), do: Map.new(args), else: %{"input" => args})
end
