defmodule Codex.Hooks.Until do
  @moduledoc false
  # The option `until`: a turn goes on inside itself until the host's check of its result passes.
  # The CLI asks before the turn ends (`Stop`) and has no limit of its own.

  alias Codex.Approvals.Crash
  alias Codex.Hooks.Set
  alias Codex.{OptionError, OwnerMonitor}
  alias Codex.Options.{Schema, Type}

  @schema Schema.new([
            {:check, {:fun, 1}, "the check of the result so far", required: true},
            {:max, :positive, "how often the turn may go on", default: 5},
            {:timeout_ms, :milliseconds, "the limit of one check, in ms", default: 600_000}
          ])

  # How long the reader may take until it has read the last message.
  @tries 100
  @pause_ms 10

  @type t :: %{check: (struct() -> term()), max: pos_integer(), timeout_ms: pos_integer()}

  @doc "Returns the option in its full form."
  @spec cast(term()) :: {:ok, t()} | :error | {:error, OptionError.t()}
  def cast(check) when is_function(check, 1), do: cast(check: check)

  def cast({check, opts}) when is_function(check, 1) and is_list(opts),
    do: cast([check: check] ++ opts)

  def cast(opts) when is_list(opts) or is_map(opts) do
    case Schema.validate(@schema, opts, &Type.cast/2) do
      {:ok, opts} -> {:ok, Map.new(opts)}
      {:error, %{reason: :not_options}} -> :error
      {:error, error} -> {:error, error}
    end
  end

  def cast(_other), do: :error

  @spec hooks(map()) :: [{atom(), function(), non_neg_integer()}]
  def hooks(%{until: nil}), do: []

  def hooks(%{until: until}),
    do: [{:stop, &stop(&1, &2, until), until.timeout_ms + 2 * @tries * @pause_ms}]

  # That of the first agent alone.
  defp stop(%{thread_id: id, session_id: id} = event, set, until) do
    case result(set, event.last_assistant_message, @tries) do
      {:ok, result} -> checked(check(until, result), set, until)
      :none -> :allow
    end
  end

  defp stop(_event, _set, _until), do: :allow

  defp result(%{reader: nil}, _text, _tries), do: :none

  defp result(set, text, tries) do
    ref = make_ref()
    :ok = Set.tell(set, {:check, {self(), ref}, if(tries > 0, do: text)})

    receive do
      {^ref, {:ok, result}} ->
        {:ok, result}

      {^ref, :not_yet} ->
        Process.sleep(@pause_ms)
        result(set, text, tries - 1)
    end
  end

  # In a process of its own: a check that hangs or crashes must not look like one that passed.
  defp check(until, result) do
    owner = self()

    task =
      Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        until.check.(result)
      end)

    case Task.yield(task, until.timeout_ms) || Task.shutdown(task, :brutal_kill) do
      {:ok, answer} -> answer
      {:exit, _reason} -> {:failed, "the check of `until` failed"}
      nil -> {:failed, "the check of `until` was not over after #{until.timeout_ms} ms"}
    end
  end

  defp checked(:ok, _set, _until), do: :allow

  defp checked({:again, why}, set, until) when is_binary(why) do
    if Set.add(set, :until, 1) <= until.max,
      do: {:continue, why},
      else: fail(set, {:until, until.max, why})
  end

  defp checked({:failed, words}, set, _until), do: fail(set, {:until, words})

  defp checked(other, set, _until) do
    words = "returned neither `:ok` nor `{:again, text}`: #{Type.kind(other)}"
    :ok = Crash.invalid("the check of `until`", words)
    fail(set, {:until, "the check of `until` " <> words})
  end

  defp fail(set, cause) do
    :ok = Set.tell(set, {:verdict, cause})
    :allow
  end
end
