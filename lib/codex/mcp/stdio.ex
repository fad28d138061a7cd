defmodule Codex.MCP.Stdio do
  @moduledoc false
  # An MCP server as a child process under the launcher: one message a line, on stdin and stdout.
  # Lines that are no messages are noise, and are skipped.
  @behaviour Codex.MCP.Transport

  alias Codex.Error.Redact
  alias Codex.{JSON, JSONL, Subprocess}
  alias Codex.JSONRPC.Message

  @enforce_keys [:sub, :decoder, :secrets]
  @derive {Inspect, only: [:sub]}
  defstruct [:sub, :decoder, :secrets]

  @doc "Returns the names of variables that programs need to run at all. The CLI passes the same."
  @spec inherited() :: [String.t()]
  def inherited, do: ~w(HOME LANG LC_ALL LOGNAME PATH SHELL TERM TMPDIR TZ USER)

  # Closing stdin ends a server; one that ignores that gets signals.
  @ladder [{:close_stdin, 2_000}, {:signal, :term, 1_000}]

  @impl true
  def open(%{argv: argv} = arg) do
    options = [env: arg.env, clear_env: true, cwd: arg.cwd, ladder: @ladder]
    limits = [max_line_bytes: arg.max_message_bytes, max_line_nodes: arg.max_message_nodes]

    case Subprocess.open(argv, options) do
      {:ok, sub} ->
        decoder = JSONL.new(limits)
        {:ok, %__MODULE__{sub: sub, decoder: decoder, secrets: Redact.secrets(arg.env)}}

      {:error, error} ->
        {:error, {:not_started, error}}
    end
  end

  @impl true
  def send(stdio, message, _meta),
    do: put(stdio, Subprocess.write(stdio.sub, [JSON.encode!(message), ?\n]))

  @impl true
  def protocol(stdio, _version, _era), do: stdio

  @impl true
  def cancel(stdio, _id), do: stdio

  @impl true
  def grant(stdio, bytes), do: put(stdio, Subprocess.grant(stdio.sub, bytes))

  # After an error, the last output and the exit are in the mailbox.
  defp put(stdio, {:ok, sub}), do: %{stdio | sub: sub}
  defp put(stdio, {:error, sub, _error}), do: %{stdio | sub: sub}

  @impl true
  def stream(stdio, message) do
    case Subprocess.stream(stdio.sub, message) do
      {:ok, sub, outputs} ->
        stdio = %{stdio | sub: sub}
        {:ok, stdio, Enum.flat_map(outputs, &output(stdio, &1))}

      {:error, sub, error} ->
        stdio = %{stdio | sub: sub}
        {:ok, stdio, [down(stdio, %{reason: error})]}

      :unknown ->
        :unknown
    end
  end

  defp output(stdio, {:stdout, bytes}),
    do: [{:messages, messages(JSONL.feed(stdio.decoder, bytes)), byte_size(bytes)}]

  defp output(stdio, {:exit, exit}) do
    last = messages(JSONL.finish(stdio.decoder))
    [{:messages, last, 0}, down(stdio, %{exit_status: exit.status, signal: exit.signal})]
  end

  defp output(_stdio, _other), do: []

  defp messages(events), do: Enum.map(events, &Message.from_line/1)
  defp down(stdio, info), do: {:down, Map.put(info, :stderr, String.trim(stderr(stdio)))}

  @impl true
  def stop(stdio) do
    with result when elem(result, 0) != :behind <- Subprocess.stop_soon(stdio.sub), do: :ok
  end

  @impl true
  def os_pid(stdio), do: Subprocess.os_pid(stdio.sub)

  @impl true
  def stderr(stdio),
    do: stdio.sub |> Subprocess.stderr() |> Codex.Text.utf8() |> Redact.redact(stdio.secrets)
end
