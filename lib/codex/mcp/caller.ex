defmodule Codex.MCP.Caller do
  @moduledoc false
  # The side of a caller: sends a request to the connection, and waits for the answer no longer than
  # the call may take, whatever the connection does.

  alias Codex.{JSON, OptionError}
  alias Codex.MCP.Call
  alias Codex.Options.Type

  # The connection ends a call itself. This is for one that is busy.
  @margin 50
  @expected "a client: its struct, its pid or its name"

  @type result :: {:ok, term()} | {:error, term()}

  @doc """
  Sends a request and waits. Options: `:timeout_ms`; `:limit_ms` of all progress together (the
  same); `:progress`, a function that is called in this process; `:tag`, for `cancel/3`.
  """
  @spec request(GenServer.server(), String.t(), map() | nil, keyword()) :: result()
  def request(conn, method, params, opts) do
    with {:ok, pid} <- whereis(conn), :ok <- encodable(params) do
      timeout = opts[:timeout_ms] || 30_000
      limit = opts[:limit_ms] || timeout
      ref = :erlang.monitor(:process, pid, alias: :explicit_unalias)

      call = %Call{
        ref: ref,
        method: method,
        params: params,
        timeout_ms: timeout,
        deadline: if(limit == :infinity, do: :infinity, else: now() + limit),
        progress?: opts[:progress] != nil
      }

      GenServer.cast(pid, {:call, self(), opts[:tag], node(), limit, call})

      try do
        wait(
          pid,
          ref,
          if(limit == :infinity, do: :infinity, else: call.deadline + @margin),
          opts[:progress]
        )
      catch
        kind, reason ->
          GenServer.cast(pid, {:cancel, ref, "the caller failed"})
          :erlang.raise(kind, reason, __STACKTRACE__)
      after
        _ = :erlang.unalias(ref)
        Process.demonitor(ref, [:flush])
        flush(ref)
      end
    end
  end

  defp wait(pid, ref, until, progress) do
    receive do
      {^ref, {:answer, result}} ->
        result

      {^ref, {:progress, params}} ->
        _ = progress.(params)
        GenServer.cast(pid, {:progress_seen, ref})
        wait(pid, ref, until, progress)

      {:DOWN, ^ref, :process, _pid, reason} ->
        {:error, down(reason)}
    after
      left(until) ->
        GenServer.cast(pid, {:cancel, ref, "timeout"})
        {:error, :timeout}
    end
  end

  defp left(:infinity), do: :infinity
  defp left(until), do: max(until - now(), 0)

  defp flush(ref) do
    receive do
      {^ref, _late} -> flush(ref)
    after
      0 -> :ok
    end
  end

  @doc "Calls the connection for something else than the server's answer."
  @spec call(GenServer.server(), term()) :: {:ok, term()} | {:error, term()}
  def call(conn, message) do
    with {:ok, pid} <- whereis(conn), do: {:ok, GenServer.call(pid, message, :infinity)}
  catch
    :exit, {reason, _call} -> {:error, down(reason)}
  end

  defp whereis(conn) do
    case Type.server?(conn) and GenServer.whereis(conn) do
      false -> {:error, OptionError.argument(:client, Type.kind(conn), @expected)}
      nil -> {:error, down(:noproc)}
      pid -> {:ok, pid}
    end
  end

  defp encodable(nil), do: :ok

  defp encodable(params) do
    case JSON.encode(params) do
      {:ok, _json} ->
        :ok

      {:error, {:not_encodable, value, path}} ->
        {:error, OptionError.invalid(path, value, "a value that JSON has a form for")}
    end
  end

  defp down({:shutdown, {tag, _} = reason}) when tag in [:server_down, :not_started], do: reason
  defp down(reason), do: {:server_down, %{reason: reason}}

  defp now, do: System.monotonic_time(:millisecond)
end
