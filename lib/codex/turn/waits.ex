defmodule Codex.Turn.Waits do
  @moduledoc false
  # The waits for rate limits of the calling process, for those who ask: a turn runs in the process
  # that waits for it, and a run may have several turns.

  # A run that waits more often is in trouble already.
  @most 20

  @typedoc "When the wait began, and its time in ms."
  @type wait :: {DateTime.t(), non_neg_integer()}

  @doc "Runs `fun`, and returns its result and the waits of this process meanwhile."
  @spec during((... -> result)) :: {result, [wait()]} when result: term()
  def during(fun) do
    _ = Process.put(__MODULE__, [])
    result = fun.()
    {result, Enum.reverse(Process.delete(__MODULE__) || [])}
  end

  @doc "Runs `fun`, which waits for a limit."
  @spec wait((... -> result)) :: result when result: term()
  def wait(fun) do
    case Process.get(__MODULE__) do
      waits when is_list(waits) and length(waits) < @most ->
        {began, since} = {DateTime.utc_now(), now()}
        result = fun.()
        _ = Process.put(__MODULE__, [{began, now() - since} | waits])
        result

      _nobody_asks ->
        fun.()
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
