defmodule Codex.CLI.Command do
  @moduledoc false
  # Runs one command of the CLI that ends by itself, and returns its whole output.

  alias Codex.Options.Type
  alias Codex.Subprocess

  @ladder [{:signal, :int, 1_000}, {:signal, :term, 500}]

  @type ended :: %{
          exit: Subprocess.Exit.t(),
          stdout: binary(),
          stderr: binary(),
          duration_ms: non_neg_integer()
        }
  @type reason ::
          {:not_started, Subprocess.Error.t()}
          | {:lost, Subprocess.Error.t()}
          | {:timeout, pos_integer()}
          | {:too_long, pos_integer()}

  @doc """
  Runs a command. Options: `:stdin` (default `""`; it is closed afterwards), `:timeout` (ms, default
  30_000; 0 and `:infinity` mean no limit), `:most` (bytes of stdout, default 16 MiB), `:each`
  (`{state, fun}`: the function gets each output of `Codex.Subprocess.stream/2` and the state, and
  returns the next state), `:cancel` (a reference: a message `{cancel, term}` ends the command with
  `{:error, :cancelled}`), and those of `Codex.Subprocess.open/2`.
  """
  @spec run([String.t()], keyword()) :: {:ok, ended()} | {:error, reason() | :cancelled}
  def run(argv, opts \\ []) do
    {own, opts} = Keyword.split(opts, [:stdin, :timeout, :most, :each, :cancel])
    timeout = timeout(own[:timeout])
    began = now()
    # The timeout covers the start, too.
    start = [ladder: @ladder, start_timeout: min(timeout, 5_000)]

    with {:ok, sub} <- Subprocess.open(argv, start ++ opts),
         {:ok, sub} <- feed(sub, own[:stdin] || "") do
      watch(%{
        sub: sub,
        stdout: [],
        size: 0,
        most: own[:most] || 16 * 1024 * 1024,
        each: own[:each],
        cancel: own[:cancel] || make_ref(),
        timeout: timeout,
        began: began,
        deadline: deadline(timeout)
      })
    else
      {:error, %{reason: :start_timeout} = error} ->
        if timeout <= 5_000,
          do: {:error, {:timeout, timeout}},
          else: {:error, {:not_started, error}}

      {:error, error} ->
        {:error, {:not_started, error}}
    end
  end

  @doc "Checks a timeout and returns it; 0 becomes `:infinity`."
  @spec timeout(nil | timeout()) :: pos_integer() | :infinity
  def timeout(nil), do: 30_000
  def timeout(none) when none in [0, :infinity], do: :infinity
  def timeout(ms) when is_integer(ms) and ms in 1..0xFFFFFFFF, do: ms

  def timeout(other) do
    raise ArgumentError,
          "expected :timeout in ms up to 2^32 - 1, or 0 or :infinity for no limit, got: " <>
            Type.kind(other)
  end

  @doc "Returns the deadline of a timeout that begins now."
  def deadline(:infinity), do: :infinity
  def deadline(ms), do: now() + ms

  @doc "Returns the time until a deadline, for `receive`."
  def remaining(:infinity), do: :infinity
  def remaining(deadline), do: max(deadline - now(), 0)

  @doc """
  Writes stdin and closes it. If the child ends before it has read everything, its exit counts.
  """
  def feed(sub, text) do
    with {:ok, sub} <- Subprocess.write(sub, text),
         {:ok, sub} <- Subprocess.close_stdin(sub) do
      {:ok, sub}
    else
      {:error, sub, error} ->
        _ = Subprocess.stop_soon(sub)
        {:error, error}
    end
  end

  @doc "Returns a program's output as printable text, trimmed."
  @spec text(binary()) :: String.t()
  def text(bytes), do: bytes |> Codex.Text.printable() |> String.trim()

  # A function of the caller that fails must not leave the command behind.
  defp watch(run) do
    collect(run)
  catch
    kind, reason ->
      _ = Subprocess.stop_soon(run.sub)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp collect(run) do
    case Subprocess.next(run.sub, remaining(run.deadline), run.cancel) do
      {:ok, sub, outputs} -> take(%{run | sub: sub}, outputs)
      {:error, _sub, error} -> {:error, {:lost, error}}
      :timeout -> give_up(run, {:timeout, run.timeout})
      {_cancel, _term} -> give_up(run, :cancelled)
    end
  end

  defp take(run, []), do: collect(run)

  defp take(%{each: {state, fun}} = run, [output | rest]),
    do: run |> Map.put(:each, {fun.(output, state), fun}) |> taken(output, rest)

  defp take(run, [output | rest]), do: taken(run, output, rest)

  defp taken(run, {:stdout, bytes}, rest) do
    size = run.size + byte_size(bytes)

    # After a refused grant, the exit follows.
    sub =
      case Subprocess.grant(run.sub, byte_size(bytes)) do
        {:ok, sub} -> sub
        {:error, sub, _} -> sub
      end

    run = %{run | sub: sub, size: size, stdout: [run.stdout, bytes]}
    if size > run.most, do: give_up(run, {:too_long, run.most}), else: take(run, rest)
  end

  defp taken(run, {:exit, exit}, _rest) do
    {:ok,
     %{
       exit: exit,
       stdout: IO.iodata_to_binary(run.stdout),
       stderr: Subprocess.stderr(run.sub),
       duration_ms: now() - run.began
     }}
  end

  defp taken(run, _other, rest), do: take(run, rest)

  defp give_up(run, reason) do
    _ = Subprocess.stop_soon(run.sub)
    {:error, reason}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
