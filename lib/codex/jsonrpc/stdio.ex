defmodule Codex.JSONRPC.Stdio do
  @moduledoc false
  # A server as a child process under the launcher: one message a line, on stdin and stdout.
  @behaviour Codex.JSONRPC.Transport

  alias Codex.Error.Redact
  alias Codex.{JSONL, Subprocess}
  alias Codex.JSONRPC.Message
  alias Codex.Telemetry.Debug

  @enforce_keys [:sub, :decoder, :secrets]
  defstruct [:sub, :decoder, :secrets, :debug]

  @type t :: %__MODULE__{
          sub: Subprocess.t(),
          decoder: JSONL.t(),
          secrets: (... -> [String.t()]),
          debug: Debug.t() | nil
        }

  @doc """
  Starts the server. Takes its argv, options of `Codex.Subprocess.open/2` with `:secrets` (a
  function that returns strings to redact), and a map with `:max_message_bytes` and
  `:max_message_nodes`.
  """
  @impl true
  def open({argv, child, options}) do
    limits = [
      max_line_bytes: options.max_message_bytes,
      max_line_nodes: options.max_message_nodes
    ]

    {secrets, child} = Keyword.pop!(child, :secrets)

    case Subprocess.open(argv, child) do
      {:ok, sub} ->
        debug = debug(sub, argv, child, secrets)
        stdio = %__MODULE__{sub: sub, decoder: JSONL.new(limits), secrets: secrets, debug: debug}
        {:ok, stdio}

      {:error, error} ->
        {:error, {:not_started, error}}
    end
  end

  defp debug(sub, argv, child, secrets) do
    env = Map.new(child[:env] || %{})
    debug = Debug.new("app-server #{Subprocess.os_pid(sub)}", secrets)
    :ok = Debug.started(debug, argv, env, clear_env: child[:clear_env] == true)
    debug
  end

  @impl true
  def send(stdio, json), do: put(stdio, Subprocess.write(stdio.sub, [json, ?\n]))

  @impl true
  def grant(stdio, bytes), do: put(stdio, Subprocess.grant(stdio.sub, bytes))

  # After an error, the last output and the exit are in the mailbox.
  defp put(stdio, {:ok, sub}), do: %{stdio | sub: sub}
  defp put(stdio, {:error, sub, _error}), do: %{stdio | sub: sub}

  @impl true
  def stream(stdio, message), do: result(stdio, Subprocess.stream(stdio.sub, message))

  @doc "Waits for the next message of the server and handles it as `stream/2` does."
  @spec next(t(), timeout()) :: {:ok, t(), [Codex.JSONRPC.Transport.output()]} | :timeout
  def next(stdio, ms), do: result(stdio, Subprocess.next(stdio.sub, ms))

  defp result(stdio, result) do
    case result do
      {:ok, sub, outputs} ->
        stdio = log(%{stdio | sub: sub}, outputs)
        {:ok, stdio, Enum.flat_map(outputs, &output(stdio, &1))}

      {:error, sub, error} ->
        stdio = %{stdio | sub: sub}
        {:ok, stdio, [down(stdio, %{reason: error})]}

      unknown_or_timeout ->
        unknown_or_timeout
    end
  end

  defp output(stdio, {:stdout, bytes}),
    do: [{:messages, messages(JSONL.feed(stdio.decoder, bytes)), byte_size(bytes)}]

  defp output(stdio, {:exit, exit}) do
    [
      {:messages, messages(JSONL.finish(stdio.decoder)), 0},
      down(stdio, %{exit_status: exit.status, signal: exit.signal})
    ]
  end

  defp output(_stdio, _other), do: []

  defp messages(events), do: Enum.map(events, &Message.from_line/1)
  defp down(stdio, info), do: {:down, Map.put(info, :stderr, String.trim(stderr(stdio)))}

  defp log(%{debug: nil} = stdio, _outputs), do: stdio
  defp log(stdio, outputs), do: %{stdio | debug: Enum.reduce(outputs, stdio.debug, &log_one/2)}

  defp log_one({:stdout, bytes}, debug), do: Debug.received(debug, bytes, [])

  defp log_one({:stderr, bytes}, debug) do
    :ok = Debug.stderr(debug, bytes)
    debug
  end

  # The end is logged once.
  defp log_one({:exit, exit}, debug) do
    :ok = Debug.ended(debug, exit)
    nil
  end

  defp log_one(_output, debug), do: debug

  @impl true
  def stderr(stdio) do
    stdio.sub |> Subprocess.stderr() |> Codex.Text.utf8() |> Redact.redact(stdio.secrets.())
  end

  @impl true
  def secrets(stdio), do: stdio.secrets.()

  @impl true
  def stop(stdio) do
    ended = fn
      {:ok, exit} -> Debug.ended(stdio.debug, exit)
      _lost -> Debug.ended(stdio.debug, nil)
    end

    with result when elem(result, 0) != :behind <-
           Subprocess.stop_soon(stdio.sub, finally: ended),
         do: :ok
  end

  @impl true
  def os_pid(stdio), do: Subprocess.os_pid(stdio.sub)
end
