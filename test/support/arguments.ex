defmodule Codex.Arguments do
  @moduledoc "Calls every public function with values of the wrong kinds, and says what came of it."

  # Functions that wait for a given time, or call a function of the caller.
  @skipped [{Codex.RateLimit, :handle}, {Codex.Retry, :with_stream_retry}, {Codex.Stream, :text}]

  @timeout 20_000

  @doc """
  Prints a line `BAD module.function/arity: why arguments` for each fault, and `CALLS n` at the end.

  A fault is an exception of a function that nobody called, the exit of a call to a process of the
  package, a reason without words, or a call that does not return.
  """
  def sweep(codex) do
    values = values(codex)
    :rand.seed(:exsss, {1, 2, 3})

    calls =
      for {module, name, arity} <- functions(), arguments <- vectors(values, arity) do
        with why when why != :ok <- call(module, name, arguments) do
          IO.puts("BAD #{inspect(module)}.#{name}/#{arity}: #{why} #{shown(arguments)}")
        end
      end

    IO.puts("CALLS #{length(calls)}")
  end

  defp shown(arguments), do: arguments |> inspect(limit: 5, printable_limit: 50) |> cut()
  defp cut(text), do: text |> String.replace("\n", " ") |> String.slice(0, 200)

  defp values(codex) do
    {:ok, thread} = Codex.start_thread([codex_path: codex], skip_git_repo_check: true)
    nobody = spawn(fn -> :ok end)
    {:ok, over} = Codex.start_thread([codex_path: codex], transport: {:app_server, nobody})
    over = %{over | thread_id: "t"}

    [nil, "", "text", :atom, :codex_nobody, 1, %{}, [], ["text"], {:ok, thread}] ++
      [{:ok, nobody}, {nobody, "t"}, nobody, make_ref(), thread, over, fn -> :ok end]
  end

  defp functions do
    for module <- Codex.ReasonsOf.documented(),
        not String.starts_with?(inspect(module), "Mix."),
        {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module),
        {{:function, name, most}, _, _, doc, meta} <- docs,
        doc != :hidden and {module, name} not in @skipped,
        arity <- (most - (meta[:defaults] || 0))..most,
        arity > 0,
        do: {module, name, arity}
  end

  defp vectors(values, 1), do: Enum.map(values, &[&1])
  defp vectors(values, 2), do: for(one <- values, two <- values, do: [one, two])

  defp vectors(values, arity) do
    same = for value <- values, do: List.duplicate(value, arity)
    same ++ for _ <- 1..60, do: for(_ <- 1..arity, do: Enum.random(values))
  end

  # Runs in its own process, which takes leftovers of the call with it.
  defp call(module, name, arguments) do
    parent = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        Process.flag(:trap_exit, true)
        send(parent, {:came, self(), outcome(module, name, arguments)})
      end)

    receive do
      {:came, ^pid, outcome} ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        outcome

      {:DOWN, ^monitor, :process, _, reason} ->
        "died of #{inspect(reason)}"
    after
      @timeout ->
        Process.exit(pid, :kill)
        "does not return"
    end
  end

  defp outcome(module, name, arguments) do
    result = apply(module, name, arguments)
    # A lazy list checks when it is read.
    if is_function(result, 2), do: Enum.take(result, 1)
    # A temporary file comes with the function that removes it.
    with {:ok, _path, remove} when is_function(remove, 0) <- result, do: remove.()
    words(result)
  rescue
    error in FunctionClauseError ->
      if {error.module, error.function} == {module, name},
        do: :ok,
        else: "no clause in #{inspect(error.module)}.#{error.function}/#{error.arity}"

    _ in [ArgumentError, RuntimeError, Codex.Error, Codex.Config.Error, Codex.OptionError] ->
      :ok

    error ->
      "#{inspect(error.__struct__)}: #{cut(Exception.message(error))}"
  catch
    # A pid of the caller's own, in the tests of an application.
    :exit, _ when module == Codex.Test -> :ok
    kind, reason -> "#{kind} #{cut(inspect(reason))}"
  end

  # A POSIX error alone has words, and no kind: it can be of any file.
  defp words({:error, posix}) when posix in [:enoent, :eisdir, :enotdir],
    do: if(Codex.Error.normalize(posix).message == inspect(posix), do: "no words", else: :ok)

  defp words({:error, reason}) when is_atom(reason) or is_tuple(reason) do
    error = Codex.Error.normalize(reason)

    if error.message == inspect(reason) or error.kind == :unknown,
      do: "no words for #{cut(inspect(reason))}",
      else: :ok
  end

  defp words(_result), do: :ok
end
