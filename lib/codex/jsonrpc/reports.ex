defmodule Codex.JSONRPC.Reports do
  @moduledoc false
  # What reports about the process of a connection show. Requests and answers are not for logs:
  # neither those of the state, nor a message that the process handles while it crashes.

  @doc """
  Returns the status of a process, for `c:GenServer.format_status/1`, with `summary` of its state,
  and without messages and the arguments of a call that failed.
  """
  @spec status(map(), (term() -> term())) :: map()
  def status(status, summary) do
    Map.new(status, fn
      {:state, state} ->
        {:state, summary.(state)}

      {:message, message} ->
        {:message, subject(message)}

      {:log, _events} ->
        {:log, []}

      {:reason, {reason, stack}} when is_list(stack) ->
        {:reason, {reason, Enum.map(stack, &bare/1)}}

      other ->
        other
    end)
  end

  defp subject(message) when is_tuple(message) and is_atom(elem(message, 0)), do: elem(message, 0)
  defp subject(_message), do: :message

  defp bare({module, function, args, place}) when is_list(args),
    do: {module, function, length(args), place}

  defp bare(entry), do: entry
end
