defmodule Codex.AppServer.RequestHandlers do
  @moduledoc false
  # Runs the handlers of a thread for requests of the server: tools of the host, approval policies
  # and the `request_handler`. Each request gets a process of its own, which ends with the reader of
  # the turn. The process answers by itself, so that a reader that pauses holds up no answer; if it
  # cannot, the reader declines the request.

  alias Codex.{Approvals, OwnerMonitor}
  alias Codex.Approvals.Crash
  alias Codex.AppServer.{Connection, Request, ServerRequest}
  alias Codex.Tools.{Call, Definition, Toolset}

  @typedoc """
  The handlers of a thread: `policy` decides approvals (nil: declined), `request_handler` answers
  the other requests (nil: declined), `tools` are those of the host. `context` is passed to all of
  them; `timeout_ms` limits policy and request handler.
  """
  @type handlers :: %{
          policy: Approvals.policy() | nil,
          request_handler: module() | function() | nil,
          tools: [Definition.t()],
          context: map(),
          timeout_ms: pos_integer()
        }

  @typedoc """
  Open requests, by the monitor of the process that handles them, or by `{:others, token}` if a
  subscriber or the owner of the token is to answer.
  """
  @type t :: %{
          (reference() | {:others, String.t()}) => %{
            request: Request.t(),
            pid: pid() | nil,
            others?: boolean(),
            deadline: integer() | :infinity
          }
        }

  @doc """
  Starts the handler of a request. Without a handler the request is declined at once, unless
  subscribers got it, too (`others?`).
  """
  @spec start(t(), pid(), handlers(), Request.t(), boolean(), integer()) :: t()
  def start(open, conn, handlers, request, others?, now) do
    case handler(request, handlers) do
      {handle, timeout} ->
        {pid, ref} = spawn_handler(conn, request, fn -> handle.(timeout) end)
        entry = %{request: request, pid: pid, others?: others?, deadline: now + timeout}
        Map.put(open, ref, entry)

      nil ->
        # A resumed thread has the tools of the host that started it.
        leave(open, conn, request, others?, "is unknown to this host")
    end
  end

  # The function that answers a request, and its time limit.
  defp handler(request, %{context: context} = handlers) do
    event = event(request)
    tool = tool(request, handlers.tools)

    cond do
      tool ->
        context = tool_context(context, request)
        {fn _left -> Call.answer(tool, request.arguments, context) end, tool.timeout_ms}

      event != nil and handlers.policy != nil ->
        {&Approvals.decide(handlers.policy, event, context, &1), handlers.timeout_ms}

      handlers.request_handler != nil ->
        {fn _left -> call(handlers.request_handler, request, context) end, handlers.timeout_ms}

      true ->
        nil
    end
  end

  defp tool(%Request.ToolCall{tool: name, namespace: namespace}, tools),
    do: Toolset.find(tools, namespace, name)

  defp tool(_request, _tools), do: nil

  @events %{
    Request.CommandApproval =>
      {:command_execution_approval, [:command, :cwd, :proposed_execpolicy_amendment, :reason]},
    Request.FileChangeApproval => {:file_change_approval, [:grant_root, :reason]},
    Request.PermissionsApproval => {:permissions_approval, [:permissions, :cwd, :reason]}
  }
  @common [:thread_id, :turn_id, :item_id, :token, :expires_at]

  @doc "Returns the event of `Codex.Approvals` for a request, or nil if it is no approval."
  @spec event(Request.t()) :: map() | nil
  def event(%Request.Elicitation{tool: tool} = request) when tool != nil do
    request
    |> Map.take([:server_name, :arguments | @common])
    |> Map.merge(%{type: :mcp_tool_approval, tool_name: tool, reason: request.message})
  end

  def event(%module{} = request) do
    case @events do
      %{^module => {type, fields}} ->
        request |> Map.take(fields ++ @common) |> Map.put(:type, type)

      _ ->
        nil
    end
  end

  defp tool_context(%{thread: thread}, request) do
    %{
      thread: thread,
      context: thread.metadata[:tool_context] || %{},
      event: request,
      # The reader.
      owner: self()
    }
  end

  defp call(fun, request, _context) when is_function(fun, 1), do: fun.(request)
  defp call(fun, request, context) when is_function(fun, 2), do: fun.(request, context)
  defp call(module, request, context), do: module.handle_request(request, context)

  # --- The process of a handler -----------------------------------------------------------------

  defp spawn_handler(conn, request, handle) do
    reader = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(reader)

        # The reader needs the monitor first: the exit reason tells what the handler returned.
        receive do
          :begin -> conn |> answer(request, attempt(handle)) |> finish()
        end
      end)

    ref = Process.monitor(pid)
    send(pid, :begin)
    {pid, ref}
  end

  defp attempt(handle) do
    handle.()
  catch
    kind, reason ->
      Crash.log("the request handler", kind, reason, __STACKTRACE__)
      :failed
  end

  defp answer(_conn, _request, defer) when defer in [:later, :ignore], do: defer

  # An invalid answer declines the request.
  defp answer(conn, request, answer) do
    with {:error, reason} <- respond(conn, request, {:answer, answer}),
         true <- elem(reason, 0) not in [:request_closed, :app_server_down] do
      if answer != :failed, do: Crash.invalid("an answer to #{request.method}", reason)
      decline(conn, request, "failed")
    end

    :ok
  end

  defp finish(:ok), do: :ok
  defp finish(defer), do: exit({:shutdown, defer})

  # --- In the reader ----------------------------------------------------------------------------

  @doc "Handles the end of a handler's process. A crash declines its request."
  @spec ended(t(), reference(), term(), pid()) :: t()
  def ended(open, ref, reason, conn) do
    {entry, open} = Map.pop!(open, ref)

    case reason do
      :normal -> open
      # The reader stays one of those asked, so that the request waits for the token's owner.
      {:shutdown, :later} -> wait_for_others(open, entry.request)
      {:shutdown, :ignore} -> leave(open, conn, entry.request, entry.others?)
      # It may have answered before: then the decline is refused.
      _crash -> leave(open, conn, entry.request, false)
    end
  end

  # Subscribers may answer as long as they live and the connection waits.
  defp leave(open, conn, request, others?, why \\ "failed")

  defp leave(open, conn, request, true, _why) do
    _ = Connection.call(conn, {:skip, request.token})
    wait_for_others(open, request)
  end

  defp leave(open, conn, request, false, why) do
    decline(conn, request, why)
    open
  end

  defp wait_for_others(open, request) do
    entry = %{request: request, pid: nil, others?: true, deadline: :infinity}
    Map.put(open, {:others, request.token}, entry)
  end

  @doc "Removes a request that has its answer, and ends its handler."
  @spec close(t(), String.t()) :: {:ok, t()} | :error
  def close(open, token) do
    case Enum.find(open, fn {_ref, entry} -> entry.request.token == token end) do
      nil ->
        :error

      {ref, entry} ->
        kill(ref, entry)
        {:ok, Map.delete(open, ref)}
    end
  end

  @doc "Returns the ms until the next handler runs out of time."
  @spec timeout(t(), integer()) :: timeout()
  def timeout(open, now) do
    # `:infinity` is above every number.
    case open |> Enum.map(fn {_, entry} -> entry.deadline end) |> Enum.min() do
      :infinity -> :infinity
      deadline -> max(deadline - now, 0)
    end
  end

  @doc "Ends handlers that ran out of time, and declines their requests."
  @spec expire(t(), pid(), integer()) :: t()
  def expire(open, conn, now) do
    for {ref, entry} <- open, entry.deadline <= now, reduce: open do
      open ->
        kill(ref, entry)
        decline(conn, entry.request, "took too long")
        Map.delete(open, ref)
    end
  end

  @doc """
  Ends all handlers, at the end of a turn. The server takes back its other requests, but not the
  calls of tools: these are declined, which it ignores.
  """
  @spec stop(t(), pid()) :: :ok
  def stop(open, conn) do
    for {ref, %{request: request} = entry} <- open do
      kill(ref, entry)
      if match?(%Request.ToolCall{}, request), do: decline(conn, request, "was interrupted")
    end

    :ok
  end

  defp kill({:others, _}, _entry), do: true

  defp kill(ref, entry) do
    Process.exit(entry.pid, :kill)
    Process.demonitor(ref, [:flush])
  end

  # The model is told why the tool gave no result.
  defp decline(conn, %Request.ToolCall{tool: tool} = request, why) do
    name = if is_binary(tool), do: tool, else: inspect(tool)
    _ = respond(conn, request, {:answer, {:error, "the tool #{name} #{why}"}})
    :ok
  end

  defp decline(conn, request, _why) do
    _ = respond(conn, request, ServerRequest.decline(request.method))
    :ok
  end

  defp respond(conn, request, answer) do
    with {:ok, result} <- Connection.call(conn, {:answer, request.token, answer}), do: result
  end
end
