defmodule Codex.Bridge.Tools do
  @moduledoc false
  # The host tools of a thread as a service of a bridge. MCP has no namespaces, so a tool in a
  # namespace has the name `namespace_name`.

  @behaviour Codex.Bridge.Service

  alias Codex.Bridge.Service
  alias Codex.Tools.{Call, Definition}

  @longest 64

  @enforce_keys [:tools, :thread]
  defstruct [:tools, :thread]

  @typedoc "`tools` by their names in MCP; `thread` is part of their context."
  @type t :: %__MODULE__{
          tools: [{String.t(), Definition.t()}],
          thread: struct() | nil
        }

  # It holds the options of the client.
  defimpl Inspect do
    def inspect(service, _opts),
      do: "#Codex.Bridge.Tools<#{Enum.map_join(service.tools, ", ", &elem(&1, 0))}>"
  end

  @doc """
  Makes the service. The names of two tools must differ, also if a dash counts as an underscore: the
  CLI shows underscores to the model. Providers refuse names of more than 64 characters, namespace
  included.
  """
  @spec new([Definition.t()], struct() | nil) ::
          {:ok, t()}
          | {:error, {:invalid_tool, module(), {:duplicate_name | :invalid_name, String.t()}}}
  def new(tools, thread) do
    named = for tool <- tools, do: {name(tool), tool}

    long = Enum.find(named, fn {name, _tool} -> byte_size(name) > @longest end)
    distinct = Enum.uniq_by(named, fn {name, _tool} -> String.replace(name, "-", "_") end)

    case {long, named -- distinct} do
      {nil, []} -> {:ok, %__MODULE__{tools: named, thread: thread}}
      {nil, [{name, tool} | _]} -> refused(tool, {:duplicate_name, name})
      {{name, tool}, _} -> refused(tool, {:invalid_name, name})
    end
  end

  defp refused(tool, reason), do: {:error, {:invalid_tool, tool.module, reason}}

  defp name(%{namespace: nil, name: name}), do: name
  defp name(%{namespace: namespace, name: name}), do: namespace <> "_" <> name

  @impl true
  def list(service) do
    for {name, tool} <- service.tools do
      %{
        "name" => name,
        "description" => tool.description,
        "inputSchema" => tool.schema,
        "annotations" => %{"readOnlyHint" => tool.metadata[:read_only] == true}
      }
    end
  end

  @impl true
  def timeout_ms(service),
    do: service.tools |> Enum.map(fn {_name, tool} -> tool.timeout_ms end) |> Enum.max()

  @impl true
  def call(service, call) do
    case List.keyfind(service.tools, call.name, 0) do
      {name, tool} ->
        %{
          run: fn -> answer(tool, call, context(service.thread, tool, call)) end,
          timeout_ms: tool.timeout_ms,
          failed: &failed(name, &1),
          done: fn -> :ok end
        }

      nil ->
        nil
    end
  end

  defp failed(_name, :too_many),
    do: {:error, %{"code" => -32_000, "message" => "Too many calls at the same time"}}

  defp failed(name, :late), do: {:ok, Service.failure("the tool #{name} took too long")}
  defp failed(name, :crashed), do: {:ok, Service.failure("the tool #{name} failed")}

  defp context(thread, tool, call) do
    context = if thread, do: thread.metadata[:tool_context]
    event = event(tool, call)
    %{thread: thread, context: context || %{}, event: event, owner: call.owner}
  end

  # As much as the CLI tells of a `Codex.AppServer.Request.ToolCall`.
  defp event(tool, call) do
    turn = call.meta["x-codex-turn-metadata"]
    turn = if is_map(turn), do: turn, else: %{}

    %{
      tool: tool.name,
      namespace: tool.namespace,
      arguments: call.arguments,
      call_id: call.meta["callId"],
      thread_id: turn["thread_id"],
      turn_id: turn["turn_id"],
      session_id: turn["session_id"]
    }
  end

  defp answer(tool, call, context) do
    case Call.answer(tool, call.arguments, context) do
      {:ok, items} -> %{"content" => Enum.map(items, &content/1), "isError" => false}
      {:error, text} -> Service.failure(text)
    end
  end

  defp content(%{"type" => "input_text", "text" => text}), do: %{"type" => "text", "text" => text}

  defp content(%{"type" => "input_image", "image_url" => "data:" <> url}) do
    [about, data] = if url =~ ",", do: String.split(url, ",", parts: 2), else: ["", url]
    [type | parameters] = String.split(about, ";")
    data = if "base64" in parameters, do: data, else: data |> URI.decode() |> Base.encode64()
    type = if type == "", do: "text/plain", else: type
    %{"type" => "image", "data" => data, "mimeType" => type}
  end
end
