defmodule Codex.RateLimit.Window do
  @moduledoc """
  A window of a limit: the used part, and the time of its reset.

    * `used_percent` - a number from 0; the app-server rounds it, session files do not
    * `window_minutes` - the length of the window
    * `resets_at` - a `DateTime` in UTC

  A missing member is nil.
  """

  defstruct [:used_percent, :window_minutes, :resets_at]

  @typedoc "A window. Fields: see above."
  @type t :: %__MODULE__{
          used_percent: number() | nil,
          window_minutes: non_neg_integer() | nil,
          resets_at: DateTime.t() | nil
        }

  @doc false
  @spec new(term()) :: t() | nil
  def new(%{} = window) do
    %__MODULE__{
      used_percent: number(window["usedPercent"] || window["used_percent"]),
      window_minutes: count(window["windowDurationMins"] || window["window_minutes"]),
      resets_at: time(window["resetsAt"] || window["resets_at"])
    }
  end

  def new(_none), do: nil

  @doc false
  # A window of another length is another window.
  @spec merge(t() | nil, t()) :: t()
  def merge(
        %__MODULE__{window_minutes: known} = older,
        %__MODULE__{window_minutes: length} = newer
      )
      when length == nil or length == known do
    Map.merge(older, newer, fn _key, known, newer -> if newer == nil, do: known, else: newer end)
  end

  def merge(_older, newer), do: newer

  defp number(n) when is_number(n) and n >= 0, do: n
  defp number(_other), do: nil
  defp count(n) when is_integer(n) and n >= 0, do: n
  defp count(_other), do: nil

  defp time(seconds) when is_integer(seconds) do
    case DateTime.from_unix(seconds) do
      {:ok, time} -> time
      {:error, _} -> nil
    end
  end

  defp time(_other), do: nil
end
