defmodule Codex.AppServer.Deciders do
  @moduledoc false
  # What the server asks in a turn, and who decides: a process each, owned by the reader of the turn. It answers by itself, so that a
  # reader that is away holds nothing up; where it cannot, the reader says no.

  alias Codex.{Approvals, AppServer.Connection, AppServer.Denials, AppServer.Request, Tool, Watch}
  alias Codex.Approvals.Crash

  @typedoc """
  Who decides approvals (nil: nobody), who answers the rest (nil: nobody), the tools by name, what they are told besides, and how long the
  first two may take, in ms.
  """
  @type handler :: %{
          policy: Approvals.policy() | nil,
          request_handler: module() | function() | nil,
          tools: %{String.t() => Tool.t()},
          context: map(),
          timeout_ms: pos_integer()
        }

  @typedoc "What is being decided, by the monitor of the process that does, or `{:others, token}`."
  @type t :: %{
          (reference() | {:others, String.t()}) => %{
            request: Request.t(),
            pid: pid() | nil,
            others?: boolean(),
            deadline: integer() | :infinity
          }
        }

  @doc "The server asks. Where nobody here decides it is a no at once, unless others were asked, too."
  @spec put(t(), pid(), handler(), Request.t(), boolean(), integer()) :: t()
  def put(asked, conn, handler, request, others?, now) do
    case decider(request, handler) do
      {decide, timeout} ->
        {pid, ref} = begin(conn, request, fn -> decide.(timeout) end)
        entry = %{request: request, pid: pid, others?: others?, deadline: now + timeout}
        Map.put(asked, ref, entry)

      nil ->
        leave(asked, conn, request, others?)
    end
  end

  # Who decides it, and within which time.
  defp decider(request, %{context: context} = handler) do
    event = Approvals.event(request)
    tool = match?(%Request.ToolCall{}, request) && handler.tools[request.tool]

    cond do
      tool ->
        {fn _left -> Tool.call(tool, request.arguments, called(context, request)) end,
         tool.timeout_ms}

      event != nil and handler.policy != nil ->
        {&Approvals.decide(handler.policy, event, context, &1), handler.timeout_ms}

      handler.request_handler != nil ->
        {fn _left -> handled(handler.request_handler, request, context) end, handler.timeout_ms}

      true ->
        nil
    end
  end

  defp called(%{thread: thread}, request),
    do: %{thread: thread, context: thread.metadata[:tool_context] || %{}, event: request}

  defp handled(fun, request, _context) when is_function(fun, 1), do: fun.(request)
  defp handled(fun, request, context) when is_function(fun, 2), do: fun.(request, context)
  defp handled(module, request, context), do: module.handle_request(request, context)

  # Nobody here answers. Others may, for as long as they live and the connection lets them.
  defp leave(asked, conn, request, true) do
    _ = Connection.call(conn, {:leave, request.token})
    wait(asked, request)
  end

  defp leave(asked, conn, request, false) do
    decline(conn, request, "failed")
    asked
  end

  defp wait(asked, request) do
    entry = %{request: request, pid: nil, others?: true, deadline: :infinity}
    Map.put(asked, {:others, request.token}, entry)
  end

  defp begin(conn, request, decide) do
    reader = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        # A reader that is gone wants no decision.
        Watch.end_with(reader)

        # What it ends with is news only to who has its monitor.
        receive do
          :begin -> conn |> answer(request, attempt(decide)) |> done()
        end
      end)

    ref = Process.monitor(pid)
    send(pid, :begin)
    {pid, ref}
  end

  defp attempt(decide) do
    decide.()
  catch
    kind, reason ->
      Crash.log("the request handler", kind, reason, __STACKTRACE__)
      :failed
  end

  defp answer(_conn, _request, defer) when defer in [:later, :ignore], do: defer

  # What is no answer is no.
  defp answer(conn, request, answer) do
    with {:error, reason} <- respond(conn, request, {:answer, answer}),
         true <- elem(reason, 0) not in [:request_closed, :app_server_down] do
      if answer != :failed, do: Crash.odd("an answer to #{request.method}", reason)
      decline(conn, request, "failed")
    end

    :ok
  end

  # What the reader hears of it.
  defp done(:ok), do: :ok
  defp done(defer), do: exit({:shutdown, defer})

  @doc "One of the processes has ended. In whatever way: the question is closed, unless somebody else is to answer it."
  @spec decided(t(), reference(), term(), pid()) :: t()
  def decided(asked, ref, reason, conn) do
    {entry, asked} = Map.pop!(asked, ref)

    case reason do
      :normal -> asked
      # With its token: it is ours as long as the turn is read.
      {:shutdown, :later} -> wait(asked, entry.request)
      {:shutdown, :ignore} -> leave(asked, conn, entry.request, entry.others?)
      # It may have answered before: then this is refused.
      _crash -> leave(asked, conn, entry.request, false)
    end
  end

  @doc "It has its answer, from whomever."
  @spec answered(t(), String.t()) :: {:ok, t()} | :error
  def answered(asked, token) do
    case Enum.find(asked, fn {_ref, entry} -> entry.request.token == token end) do
      nil ->
        :error

      {ref, entry} ->
        finish(ref, entry)
        {:ok, Map.delete(asked, ref)}
    end
  end

  @doc "How long the next decision may be waited for, in ms."
  @spec patience(t(), integer()) :: timeout()
  def patience(asked, now) do
    # `:infinity` is above every number.
    case asked |> Enum.map(fn {_, entry} -> entry.deadline end) |> Enum.min() do
      :infinity -> :infinity
      deadline -> max(deadline - now, 0)
    end
  end

  @doc "Those who took too long are ended, and the answer is no."
  @spec expire(t(), pid(), integer()) :: t()
  def expire(asked, conn, now) do
    for {ref, entry} <- asked, entry.deadline <= now, reduce: asked do
      asked ->
        finish(ref, entry)
        decline(conn, entry.request, "took too long")
        Map.delete(asked, ref)
    end
  end

  @doc "Nobody is asked any more."
  @spec stop(t()) :: :ok
  def stop(asked), do: Enum.each(asked, fn {ref, entry} -> finish(ref, entry) end)

  defp finish({:others, _}, _entry), do: true

  defp finish(ref, entry) do
    Process.exit(entry.pid, :kill)
    Process.demonitor(ref, [:flush])
  end

  # The model is to know why it got nothing.
  defp decline(conn, %Request.ToolCall{tool: tool} = request, why) do
    _ = respond(conn, request, {:answer, {:error, "the tool #{name(tool)} #{why}"}})
    :ok
  end

  defp decline(conn, request, _why) do
    _ = respond(conn, request, Denials.answer(request.method))
    :ok
  end

  defp respond(conn, request, answer) do
    with {:ok, result} <- Connection.call(conn, {:answer, request.token, answer}), do: result
  end

  defp name(name), do: if(is_binary(name), do: name, else: inspect(name))
end
