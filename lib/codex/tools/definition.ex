defmodule Codex.Tools.Definition do
  @moduledoc false
  # A host tool with everything that a transport needs, from its module and options: checked once,
  # when a thread starts or a turn begins.

  alias Codex.{DidYouMean, JSON, Tool}

  # Metadata may hold credentials.
  @derive {Inspect, only: [:module, :name, :namespace]}
  @enforce_keys [:module, :name, :description, :schema, :metadata, :timeout_ms]
  defstruct @enforce_keys ++ [:namespace, :namespace_description, :around, defer: false]

  @typedoc """
  A host tool. `schema` is the JSON schema of the arguments with string keys; `metadata` is that of
  the module with the options of the thread or the registration. `around` runs the calls of a model:
  it gets the arguments, the context and the function that calls the tool with them.
  """
  @type t :: %__MODULE__{
          module: module(),
          name: String.t(),
          namespace: String.t() | nil,
          namespace_description: String.t() | nil,
          description: String.t(),
          schema: map(),
          metadata: Tool.metadata(),
          timeout_ms: pos_integer(),
          around: (term(), map(), (term(), map() -> result()) -> result()) | nil,
          defer: boolean()
        }

  @typedoc "The result of a call."
  @type result :: {:ok, term()} | {:error, term()}

  @typedoc "Why a module is no tool."
  @type reason ::
          :not_a_tool
          | :not_loaded
          | :no_invoke
          | :defer_without_namespace
          | {:invalid_name, String.t()}
          | {:invalid_namespace, term()}
          | {:invalid_metadata, atom(), term()}
          | {:unknown_metadata, term(), atom()}
          | {:metadata_failed, module()}

  @default_timeout 60_000
  @known [:name, :description, :parameters, :input_schema, :schema, :timeout_ms] ++
           [:namespace, :defer, :enabled?, :on_error, :read_only]

  @doc "Returns the tool of a module; `opts` are merged over its metadata."
  @spec new(term(), map() | keyword()) :: {:ok, t()} | {:error, reason()}
  def new(module, opts \\ %{})

  def new(module, opts) when is_atom(module) and module not in [nil, true, false] do
    with :ok <- callable(module),
         do: build(module, Map.merge(Tool.metadata(module), Map.new(opts)))
  rescue
    error -> {:error, {:metadata_failed, error.__struct__}}
  end

  def new(_other, _opts), do: {:error, :not_a_tool}

  @doc """
  Returns a registered tool for a call in this VM. Its name need not be one that a provider takes.
  """
  @spec registered(module(), String.t(), map()) ::
          {:ok, t()} | {:error, {:invalid_tool, module(), reason()}}
  def registered(module, name, metadata) do
    with :ok <- callable(module), {:ok, schema} <- schema(metadata) do
      {:ok,
       %__MODULE__{
         module: module,
         name: name,
         description: "",
         schema: schema,
         metadata: metadata,
         timeout_ms: @default_timeout
       }}
    else
      {:error, reason} -> {:error, {:invalid_tool, module, reason}}
    end
  end

  @doc "Returns the default name of a tool: the last part of its module, underscored."
  @spec default_name(module()) :: String.t()
  def default_name(module),
    do: module |> inspect() |> String.split(".") |> List.last() |> Macro.underscore()

  @doc "Returns the name of a tool with its namespace."
  @spec full_name(t()) :: String.t()
  def full_name(%{namespace: nil, name: name}), do: name
  def full_name(%{namespace: namespace, name: name}), do: namespace <> "." <> name

  defp build(module, metadata) do
    with :ok <- spelled(metadata),
         {:ok, name} <- name(metadata[:name] || default_name(module), :invalid_name),
         {:ok, {namespace, about}} <- namespace(metadata[:namespace]),
         {:ok, description} <- description(metadata[:description]),
         {:ok, timeout} <- timeout(metadata[:timeout_ms] || @default_timeout),
         {:ok, defer} <- defer(metadata[:defer], namespace),
         {:ok, schema} <- schema(metadata) do
      {:ok,
       %__MODULE__{
         module: module,
         name: name,
         namespace: namespace,
         namespace_description: about,
         description: description,
         schema: schema,
         metadata: metadata,
         timeout_ms: timeout,
         defer: defer
       }}
    end
  end

  defp callable(module) do
    cond do
      not match?({:module, _}, Code.ensure_loaded(module)) -> {:error, :not_loaded}
      not function_exported?(module, :invoke, 2) -> {:error, :no_invoke}
      true -> :ok
    end
  end

  # Unknown keys are the tool's own, unless they look like a misspelled key.
  defp spelled(metadata) do
    Enum.find_value(Map.keys(metadata) -- @known, :ok, fn key ->
      nearest = DidYouMean.nearest(key, @known)

      if nearest && String.jaro_distance(to_string(key), to_string(nearest)) > 0.8,
        do: {:error, {:unknown_metadata, key, nearest}}
    end)
  end

  defp name(name, reason) when is_atom(name), do: name(Atom.to_string(name), reason)

  defp name(name, reason) do
    if is_binary(name) and name =~ ~r/\A[a-zA-Z0-9_-]{1,64}\z/,
      do: {:ok, name},
      else: {:error, {reason, name}}
  end

  defp namespace(nil), do: {:ok, {nil, nil}}

  defp namespace({name, about}) when is_binary(about),
    do: with({:ok, name} <- name(name, :invalid_namespace), do: {:ok, {name, about}})

  defp namespace(name) when is_binary(name) or is_atom(name),
    do: with({:ok, name} <- name(name, :invalid_namespace), do: {:ok, {name, nil}})

  defp namespace(other), do: {:error, {:invalid_namespace, other}}

  defp description(nil), do: {:ok, ""}
  defp description(text) when is_atom(text), do: {:ok, Atom.to_string(text)}

  defp description(text) do
    if is_binary(text) and String.valid?(text),
      do: {:ok, text},
      else: {:error, {:invalid_metadata, :description, text}}
  end

  defp timeout(ms) when is_integer(ms) and ms in 1..0xFFFFFFFF, do: {:ok, ms}
  defp timeout(other), do: {:error, {:invalid_metadata, :timeout_ms, other}}

  # The CLI defers tools of a namespace only.
  defp defer(defer, _namespace) when defer in [nil, false], do: {:ok, false}
  defp defer(true, nil), do: {:error, :defer_without_namespace}
  defp defer(true, _namespace), do: {:ok, true}
  defp defer(other, _namespace), do: {:error, {:invalid_metadata, :defer, other}}

  defp schema(metadata) do
    key = Enum.find([:schema, :input_schema, :parameters], &metadata[&1])
    schema = key && metadata[key]

    case schema && JSON.encode(schema) do
      nil -> {:ok, %{"type" => "object", "properties" => %{}}}
      {:ok, json} when is_map(schema) -> JSON.decode(json)
      _ -> {:error, {:invalid_metadata, key, schema}}
    end
  end
end
