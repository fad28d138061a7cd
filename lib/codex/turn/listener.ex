defmodule Codex.Turn.Listener do
  @moduledoc false
  # The option `on_event`: a function of the host that gets each event of a turn, in the process
  # that waits for the turn.

  alias Codex.{Error, Text}

  @type t :: (Codex.Events.t() -> term()) | nil

  @doc """
  Adds a function to the options of a turn. It gets each event before the `on_event` that the
  options have, which is not called if it returns `{:halt, reason}`.
  """
  @spec add([{term(), term()}], (Codex.Events.t() -> term())) :: [{term(), term()}]
  def add(opts, fun) do
    given = opts |> Enum.reverse() |> Enum.find_value(&given/1)

    on_event = fn event ->
      case fun.(event) do
        {:halt, reason} -> {:halt, reason}
        _other -> given && given.(event)
      end
    end

    opts ++ [on_event: on_event]
  end

  defp given({name, fun}) when name in [:on_event, "on_event"], do: fun
  defp given(_option), do: nil

  @doc """
  Calls the function with an event. Returns `:cont`, or `{:halt, error}` if the turn is to end: the
  function returned `:halt` or `{:halt, reason}`, or it failed.
  """
  @spec notify(t(), Codex.Events.t() | tuple()) :: :cont | {:halt, Error.t()}
  def notify(on_event, event) when on_event == nil or is_tuple(event), do: :cont

  def notify(on_event, event) do
    case on_event.(event) do
      :halt -> {:halt, halted(nil)}
      {:halt, reason} -> {:halt, halted(reason)}
      _other -> :cont
    end
  catch
    kind, reason -> {:halt, failed(kind, reason, __STACKTRACE__)}
  end

  defp halted(reason) do
    said = if is_binary(reason) or (is_atom(reason) and reason != nil), do: ": #{reason}"
    details = %{option: :on_event, reason: reason}
    Error.new(:interrupted, Text.line("on_event stopped the turn#{said}"), details)
  end

  defp failed(kind, reason, stacktrace) do
    banner = kind |> Exception.format_banner(reason, stacktrace) |> Text.line()
    details = %{option: :on_event, raw: reason, stacktrace: stacktrace}
    Error.new(:tool_failure, "on_event failed: #{banner}", details)
  end
end
