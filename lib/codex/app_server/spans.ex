defmodule Codex.AppServer.Spans do
  @moduledoc false
  # Telemetry of a connection: requests of the host, and approvals that the server asks for.
  # Parameters and answers are content, and are left out. The prefix is nil without listeners.

  alias Codex.AppServer.{Ids, Request}
  alias Codex.{OptionError, Telemetry}

  @type prefix :: [atom(), ...] | nil
  @opaque span :: {prefix(), began :: integer(), map()} | nil

  @doc "Emits the start of a request of the host."
  @spec request(prefix(), String.t(), map() | nil) :: span()
  def request(nil, _method, _params), do: nil

  def request(prefix, method, params) do
    meta = meta(method, Ids.thread_id(params || %{}))
    emit(prefix, [:request, :start], %{}, meta)
    {prefix, System.monotonic_time(), meta}
  end

  @doc "Emits the end of a request of the host."
  @spec reply(span(), {:ok | :error, term()}) :: :ok
  def reply(nil, _result), do: :ok

  def reply({prefix, began, meta}, result) do
    more =
      case result do
        {:ok, _} -> %{result: :ok, error: nil}
        {:error, error} -> %{result: :error, error: error(error)}
      end

    emit(prefix, [:request, :stop], Telemetry.spent(began), Map.merge(meta, more))
  end

  # Further members of a server's error may be content.
  defp error(%{"code" => code, "message" => message}), do: %{code: code, message: message}

  defp error(%OptionError{} = error),
    do: %{message: error |> OptionError.redact() |> Exception.message()}

  defp error(%{} = error), do: %{message: error["message"]}
  defp error(error), do: error

  @doc "Emits that the server asks for an approval. Other requests of the server have no events."
  @spec opened(prefix(), Request.t()) :: :ok
  def opened(nil, _request), do: :ok

  def opened(prefix, request) do
    case approval(request) do
      nil -> :ok
      meta -> emit(prefix, [:approval, :requested], %{}, meta)
    end
  end

  @doc "Emits the end of an approval, `ms` after its beginning."
  @spec closed(prefix(), Request.t(), why :: term(), non_neg_integer()) :: :ok
  def closed(prefix, request, why, ms) do
    with meta when is_map(meta) <- prefix && approval(request),
         {stage, more} <- outcome(why) do
      began = System.monotonic_time() - System.convert_time_unit(ms, :millisecond, :native)
      emit(prefix, [:approval, stage], Telemetry.spent(began), Map.merge(meta, more))
    else
      _none -> :ok
    end
  end

  defp approval(request) do
    if tool = tool(request) do
      more = %{tool: tool, call_id: request.item_id, turn_id: request.turn_id}
      request.method |> meta(request.thread_id) |> Map.merge(more)
    end
  end

  defp tool(%Request.CommandApproval{}), do: "command"
  defp tool(%Request.FileChangeApproval{}), do: "apply_patch"
  defp tool(%Request.PermissionsApproval{}), do: "permissions"

  defp tool(%Request.Elicitation{meta: %{"codex_approval_kind" => _} = meta}),
    do: meta["tool_name"] || "mcp_tool"

  defp tool(_other), do: nil

  defp outcome(:withdrawn), do: nil
  defp outcome(:expired), do: {:timeout, %{}}
  defp outcome({:answered, {:error, _}}), do: {:denied, %{reason: "error"}}
  defp outcome({:answered, {:ok, %{"decision" => decision}}}), do: decision(decision)

  defp outcome({:answered, {:ok, %{"permissions" => granted}}}) when granted != %{},
    do: {:approved, %{}}

  defp outcome({:answered, {:ok, %{"action" => "accept"}}}), do: {:approved, %{}}
  defp outcome({:answered, {:ok, %{"action" => action}}}), do: {:denied, %{reason: action}}
  defp outcome({:answered, {:ok, _none}}), do: {:denied, %{reason: "none granted"}}
  defp outcome(why), do: {:denied, %{reason: why}}

  # A decision with options is a map with the word as its key.
  defp decision(%{} = decision), do: decision |> Map.keys() |> List.first() |> decision()
  defp decision("accept" <> _), do: {:approved, %{}}
  defp decision(word), do: {:denied, %{reason: word}}

  defp meta(method, thread_id),
    do: %{lane: :app_server, originator: :sdk, method: method, thread_id: thread_id}

  defp emit(prefix, name, measurements, meta) do
    measurements = Map.put(measurements, :system_time, System.system_time())
    Telemetry.execute(prefix ++ name, measurements, meta)
  end
end
