defmodule Codex.Models.Run do
  @moduledoc false
  # One run of `codex debug models`.

  alias Codex.{Error, Models.Query, Subprocess}

  # The catalog that CLI 0.169 has built in is 745 KB.
  @most 16 * 1024 * 1024

  @doc "What the CLI prints, whole."
  @spec debug_models(Path.t(), Query.t()) :: {:ok, binary()} | {:error, Error.t()}
  def debug_models(program, %Query{} = query) do
    argv = [program, "debug", "models" | if(query.bundled, do: ["--bundled"], else: [])]

    opts = [
      env: query.env,
      clear_env: true,
      cwd: query.cwd,
      stderr_limit: 8192,
      ladder: [{:signal, :term, 500}],
      start_timeout: min(query.timeout, 5_000)
    ]

    deadline = now() + query.timeout

    with {:ok, sub} <- Subprocess.open(argv, opts),
         {:ok, sub} <- Subprocess.close_stdin(sub) do
      collect(%{sub: sub, output: [], size: 0, deadline: deadline, timeout: query.timeout})
    else
      {:error, %{reason: :start_timeout}} -> timeout(query.timeout)
      {:error, error} -> not_started(error)
      {:error, _sub, error} -> not_started(error)
    end
  end

  defp collect(run) do
    case Subprocess.next(run.sub, max(run.deadline - now(), 0)) do
      {:ok, sub, outputs} -> take(%{run | sub: sub}, outputs)
      {:error, _sub, error} -> {:error, Error.new(:crashed, Exception.message(error))}
      :timeout -> give_up(run, timeout(run.timeout))
    end
  end

  defp take(run, []), do: collect(run)

  defp take(run, [{:stdout, bytes} | rest]) do
    size = run.size + byte_size(bytes)
    # A refused grant is an exit that comes next.
    sub =
      with {:ok, sub} <- Subprocess.grant(run.sub, byte_size(bytes)),
           do: sub,
           else: (_ -> run.sub)

    if size > @most,
      do:
        give_up(
          run,
          {:error, Error.new(:protocol, "codex debug models printed over #{@most} bytes")}
        ),
      else: take(%{run | sub: sub, size: size, output: [run.output, bytes]}, rest)
  end

  defp take(run, [{:exit, %{status: 0}} | _]), do: {:ok, IO.iodata_to_binary(run.output)}
  defp take(run, [{:exit, exit} | _]), do: {:error, ended(exit, words(run.sub))}
  defp take(run, [_other | rest]), do: take(run, rest)

  defp give_up(run, error) do
    _ = Subprocess.stop(run.sub)
    error
  end

  defp timeout(ms) do
    message = "codex debug models took longer than #{ms} ms"
    {:error, Error.new(:timeout, message, %{timeout_ms: ms})}
  end

  defp not_started(error) do
    message = "codex could not be started: #{Exception.message(error)}"
    {:error, Error.new(:cli_not_found, message, %{code: error.reason})}
  end

  # What clap exits with for words that it does not know.
  defp ended(%{status: 2}, stderr) do
    details = %{exit_status: 2, stderr: stderr}
    Error.new(:unsupported_feature, "this codex has no `debug models`: #{first(stderr)}", details)
  end

  defp ended(%{status: nil, signal: signal}, stderr) do
    details = %{signal: signal, stderr: stderr}
    Error.new(:killed, "codex debug models was ended by signal #{signal}", details)
  end

  defp ended(%{status: status}, stderr) do
    details = %{exit_status: status, stderr: stderr}

    Error.new(
      :crashed,
      "codex debug models exited with status #{status}: #{first(stderr)}",
      details
    )
  end

  # The CLI may warn before it says what is wrong, and shows the place after that.
  defp first(stderr) do
    lines = String.split(stderr, "\n", trim: true)

    Enum.find(lines, List.last(lines) || "it said nothing", &(&1 =~ ~r/^error: /i))
    |> String.slice(0, 500)
  end

  defp words(sub) do
    sub
    |> Subprocess.stderr()
    |> String.chunk(:valid)
    |> Enum.map_join(&if(String.valid?(&1), do: &1, else: "\uFFFD"))
    |> String.trim()
  end

  defp now, do: System.monotonic_time(:millisecond)
end
