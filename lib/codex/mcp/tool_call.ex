defmodule Codex.MCP.ToolCall do
  @moduledoc false
  # A call of a tool: approval, repetition of safe calls, and telemetry.

  alias Codex.MCP.{Caller, Lists}
  alias Codex.{OptionError, Telemetry}
  alias Codex.Options.Schema

  @longest_pause 5_000
  # Errors that another attempt cannot change.
  @final [-32_700, -32_600, -32_601, -32_602, -32_020, -32_021, -32_022, -32_042, -32_002]

  @doc "Returns the rows of options that all requests have, with the default of the time limit."
  @spec rows(pos_integer() | nil) :: [tuple()]
  def rows(timeout) do
    [
      {:timeout_ms, :timeout, "the limit of the call with all repetitions",
       default: timeout, shown: to_string(timeout || "`:tool_timeout_ms` of the client")},
      {:limit_ms, :timeout,
       "the limit if the server reports progress, which begins `:timeout_ms` anew",
       shown: "`:timeout_ms`"},
      {:progress, {:fun, 1},
       "called in this process with the newest progress: `\"progress\"`, `\"total\"`, `\"message\"`"},
      {:tag, :any, "any term, for `cancel/3`"}
    ]
  end

  @schema_rows [
    {:retries, :count, "how often a safe call is repeated", default: 3},
    {:backoff, {:fun, 1}, "returns the ms to wait before a repetition, from its number",
     shown: "100 ms, doubled each time, at most 5 s"},
    {:safe, :boolean, "whether a repetition is safe", shown: "the hints of the tool"},
    {:approval, :any,
     "a function of `(tool)`, `(tool, args)` or `(tool, args, context)`: " <>
       "`{:deny, reason}`, `:deny` or `false` deny the call",
     expected: "a function of 1 to 3 arguments"},
    {:context, :any, "the third argument of `:approval`", default: %{}}
  ]

  defp schema, do: Schema.new(rows(nil) ++ @schema_rows)

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(schema())

  @doc "Calls a tool."
  @spec run(GenServer.server(), String.t(), term(), keyword()) :: {:ok, map()} | {:error, term()}
  def run(conn, tool, args, opts) do
    with {:ok, opts} <- Schema.validate(schema(), opts),
         {:ok, args} <- arguments(args),
         {:ok, about} <- Caller.call(conn, :about),
         :ok <- allowed(about, tool),
         :ok <- approve(opts, tool, args) do
      timeout = opts.timeout_ms || about.tool_timeout_ms
      opts = %{opts | timeout_ms: timeout}

      about
      |> Map.merge(%{tool: tool, args: args})
      |> span(fn -> attempts(conn, about, tool, args, opts) end)
    end
  end

  defp arguments(nil), do: {:ok, %{}}
  defp arguments(%{} = args) when not is_struct(args), do: {:ok, args}

  defp arguments(args) do
    if Keyword.keyword?(args),
      do: {:ok, Map.new(args)},
      else: {:error, OptionError.argument(:args, "[redacted]", "a map or a keyword list")}
  end

  defp allowed(about, tool),
    do: if(Lists.allowed?(about, tool), do: :ok, else: {:error, {:tool_disabled, tool}})

  defp approve(%{approval: nil}, _tool, _args), do: :ok

  defp approve(%{approval: approval, context: context}, tool, args) do
    answer =
      case approval do
        fun when is_function(fun, 3) -> fun.(tool, args, context)
        fun when is_function(fun, 2) -> fun.(tool, args)
        fun when is_function(fun, 1) -> fun.(tool)
        other -> raise OptionError.invalid(:approval, other, "a function of 1 to 3 arguments")
      end

    case answer do
      {:deny, reason} -> {:error, {:approval_denied, reason}}
      denied when denied in [:deny, false] -> {:error, {:approval_denied, :denied}}
      _allowed -> :ok
    end
  end

  # --- Attempts ---------------------------------------------------------------------------------

  defp attempts(conn, about, tool, args, opts) do
    now = now()
    until = if opts.timeout_ms == :infinity, do: :infinity, else: now + opts.timeout_ms
    limit = if opts.limit_ms, do: at(now, opts.limit_ms), else: until
    :ok = know(conn, about, tool, left(until))
    attempt(conn, tool, args, opts, {until, limit}, 1)
  end

  # Over HTTP, since 2026-07-28, the definition of a tool says which arguments stand in headers.
  defp know(conn, %{era: :modern, transport: Codex.MCP.HTTP}, tool, timeout) do
    with {:ok, nil} <- Caller.call(conn, {:tool, tool}),
         do: Lists.all(conn, "tools/list", true, timeout)

    :ok
  end

  defp know(_conn, _about, _tool, _timeout), do: :ok

  defp attempt(conn, tool, args, opts, {until, limit} = times, n) do
    params = %{"name" => tool, "arguments" => args}
    own = [timeout_ms: left(until), limit_ms: left(limit), progress: opts.progress, tag: opts.tag]

    case Caller.request(conn, "tools/call", params, own) do
      {:error, reason} = failed ->
        pause = pause(opts.backoff, n)

        if n <= opts.retries and passing?(reason) and later?(until, pause) and
             safe?(conn, tool, opts) do
          Process.sleep(pause)
          attempt(conn, tool, args, opts, times, n + 1)
        else
          {failed, n}
        end

      result ->
        {result, n}
    end
  end

  defp passing?(%{"code" => code}), do: code not in @final
  defp passing?({:server_down, _info}), do: true
  defp passing?({:http_error, status, _body}), do: status >= 500 or status == 429
  defp passing?({:overflow, _, _}), do: false
  defp passing?({:overflow, _, _, _}), do: false
  defp passing?({:lost, _reason}), do: true
  defp passing?(reason), do: reason in [:closed, :econnreset, :econnrefused, :session_lost]

  defp safe?(_conn, _tool, %{safe: safe}) when is_boolean(safe), do: safe

  defp safe?(conn, tool, _opts) do
    case Caller.call(conn, {:tool, tool}) do
      {:ok, %{"annotations" => %{} = hints}} ->
        hints["readOnlyHint"] == true or hints["idempotentHint"] == true

      _unknown ->
        false
    end
  end

  defp pause(nil, n), do: min(100 * Integer.pow(2, n - 1), @longest_pause)

  defp pause(fun, n) do
    case fun.(n) do
      ms when is_integer(ms) and ms >= 0 -> ms
      _other -> 0
    end
  end

  defp later?(:infinity, _pause), do: true
  defp later?(until, pause), do: now() + pause < until

  defp left(:infinity), do: :infinity
  defp left(until), do: max(until - now(), 1)
  defp at(_now, :infinity), do: :infinity
  defp at(now, ms), do: now + ms

  # --- Telemetry --------------------------------------------------------------------------------

  defp span(about, fun) do
    if Telemetry.listening?() do
      began = System.monotonic_time()
      metadata = %{tool: about.tool, server_name: about.server_name, originator: :sdk}

      metadata =
        if about.telemetry_content, do: Map.put(metadata, :arguments, about.args), else: metadata

      emit(about, :start, %{system_time: System.system_time()}, metadata)
      {result, attempt} = fun.()
      measured = Map.put(Telemetry.spent(began), :system_time, System.system_time())
      metadata = Map.put(metadata, :attempt, attempt)

      case result do
        {:ok, _result} ->
          emit(about, :success, measured, metadata)

        {:error, reason} ->
          emit(about, :failure, measured, Map.put(metadata, :reason, Telemetry.bare(reason)))
      end

      result
    else
      elem(fun.(), 0)
    end
  end

  defp emit(about, name, measurements, metadata),
    do:
      Telemetry.execute(
        about.telemetry_prefix ++ [:mcp, :tool_call, name],
        measurements,
        metadata
      )

  defp now, do: System.monotonic_time(:millisecond)
end
