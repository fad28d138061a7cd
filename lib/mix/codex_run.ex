defmodule Mix.CodexRun do
  @moduledoc false
  # What tasks share: their arguments and ends, the start of the application, and the signals of
  # those that run turns.

  alias Codex.Terminal.Tty
  alias Codex.{DidYouMean, Text}

  @doc "Compiles the project, with messages on stderr, and starts this package."
  @spec start() :: :ok
  def start do
    Mix.CodexCompile.run("app.config")

    case Application.ensure_all_started(:codex_sdk) do
      {:ok, _started} -> :ok
      {:error, {application, why}} -> Mix.raise("#{application} does not start: #{inspect(why)}")
    end
  end

  @doc "Parses the arguments of a task. A wrong switch ends the task with the exit status 2."
  @spec parse([String.t()], keyword(), keyword(), String.t()) :: {keyword(), [String.t()]}
  def parse(argv, strict, aliases \\ [], usage) do
    case OptionParser.parse(argv, strict: strict, aliases: aliases) do
      {opts, arguments, []} -> {opts, arguments}
      {_, _, [{switch, _} | _]} -> wrong(unknown(switch, strict) <> "\n#{usage}")
    end
  end

  defp unknown(switch, strict) do
    name = switch |> String.trim_leading("-") |> String.replace("-", "_")
    near = "#{DidYouMean.nearest(name, Keyword.keys(strict))}"
    meant = if near in ["", name], do: "", else: "; did you mean --#{dashed(near)}?"
    "unknown or incomplete option #{switch}#{meant}"
  end

  defp dashed(name), do: String.replace(name, "_", "-")

  @doc """
  Parses the arguments of a task with commands, each of which has switches of its own besides the
  common ones. Returns the command, its arguments and its options.
  """
  @spec parse_command([String.t()], keyword(), %{String.t() => keyword()}, String.t()) ::
          {String.t(), [String.t()], keyword()}
  def parse_command([command | rest], common, switches, usage)
      when is_map_key(switches, command) do
    {opts, arguments} = parse(rest, common ++ switches[command], usage)
    {command, arguments, opts}
  end

  def parse_command([], _common, _switches, usage), do: wrong(usage)

  def parse_command([other | _], _common, _switches, usage),
    do: wrong("there is no command #{inspect(other)}\n#{usage}")

  @doc "Ends the task with the exit status 2."
  @spec wrong(String.t()) :: no_return()
  def wrong(message), do: Mix.raise(Text.printable(message), exit_status: 2)

  @doc "Returns the value of `{:ok, value}`. An error ends the task with the exit status 1 or 2."
  @spec ok({:ok, value} | {:error, term()}) :: value when value: term()
  def ok({:ok, value}), do: value
  def ok({:error, %Codex.OptionError{} = error}), do: wrong(Exception.message(error))
  def ok({:error, reason}), do: Mix.raise(Codex.Error.normalize(reason).message)

  @doc """
  Normalizes the error of a turn. Ends the task with the exit status 141 if `on_event` failed
  because nobody reads stdout.
  """
  @spec error(term()) :: Codex.Error.t()
  def error(reason) do
    error = Codex.Error.normalize(reason)
    if error.details[:raw] == {:shutdown, 141}, do: closed(), else: error
  end

  @doc "Ends the process with the exit status 141: nobody reads stdout."
  @spec closed() :: no_return()
  def closed, do: exit({:shutdown, 141})

  @doc """
  Runs `fun`, which runs one turn, in a process of its own. Ctrl-C and SIGTERM stop the turn, and
  `fun` continues with its error; a second Ctrl-C ends the VM. Returns the result of `fun` and the
  exit status of the signal, or nil.
  """
  @spec interruptible((... -> result)) :: {result, 130 | 143 | nil} when result: term()
  def interruptible(fun) do
    owner = self()
    watch = Tty.watch()

    # The VM would stop when this function returns. The task ends it, with the status.
    {:ok, _id} =
      System.trap_signal(:sigterm, fn ->
        send(owner, {:terminal, :terminate})
        Process.sleep(:infinity)
      end)

    {pid, ref} = spawn_monitor(fn -> exit({:result, fun.()}) end)
    {reason, status} = await(pid, ref, nil)
    :ok = Tty.unwatch(watch)

    case {reason, status} do
      {_any, 143} -> System.halt(143)
      {{:result, result}, status} -> {result, status}
      {{:shutdown, status}, _} -> exit({:shutdown, status})
      {_stopped, 130} -> exit({:shutdown, 130})
      {_crash, nil} -> exit({:shutdown, 1})
    end
  end

  defp await(pid, ref, status) do
    receive do
      {:DOWN, ^ref, :process, ^pid, reason} -> {reason, status}
      {:terminal, :interrupt} when status != nil -> System.halt(130)
      {:terminal, :interrupt} -> stop(pid, ref, 130)
      {:terminal, :terminate} -> stop(pid, ref, 143)
      {:terminal, _line} -> await(pid, ref, status)
    end
  end

  # The turn may not have begun.
  defp stop(pid, ref, status) do
    if Codex.stop(pid) != :ok, do: Process.exit(pid, :kill)
    await(pid, ref, status)
  end
end
