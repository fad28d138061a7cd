defmodule Codex.Sessions.Filter do
  @moduledoc false
  # The options that choose sessions. The native part applies them.

  alias Codex.OptionError

  @keys [:cwd, :since, :until, :model, :source, :title, :archived]

  @doc "Returns the rows of the options."
  @spec rows() :: [tuple()]
  def rows do
    [
      {:cwd, :os_path, "only sessions of this working directory"},
      {:since, :any, "only sessions that started at this time or later",
       expected: "a `Date`, a `DateTime` or text such as `\"2026-11-26\"` (UTC)"},
      {:until, :any, "only sessions that started before this time",
       expected: "a `Date`, a `DateTime` or text such as `\"2026-11-26\"` (UTC)"},
      {:model, :string, "only sessions that used this model"},
      {:source, :string,
       "only sessions of this source: `\"exec\"`, `\"cli\"`, `\"vscode\"`, `\"subagent\"`, …"},
      {:title, :text, "only sessions whose title or name has this text, in any case"},
      {:archived, :boolean, "only archived sessions, or only live ones", shown: "both"}
    ]
  end

  @doc "Checks the options. Returns those that are set."
  @spec new(map()) :: {:ok, map()} | {:error, OptionError.t()}
  def new(opts) do
    set = for {key, value} <- Map.take(opts, @keys), value != nil, into: %{}, do: {key, value}

    with {:ok, set} <- put_time(set, :since), do: put_time(set, :until)
  end

  defp put_time(set, key) when is_map_key(set, key) do
    case time(set[key]) do
      {:ok, text} -> {:ok, Map.put(set, key, text)}
      :error -> {:error, invalid(key, set[key])}
    end
  end

  defp put_time(set, _key), do: {:ok, set}

  defp invalid(key, value) do
    expected = "a Date, a DateTime or text such as \"2026-11-26\" or \"2026-11-26T20:00:00Z\""
    OptionError.invalid(key, value, expected)
  end

  # Times as the CLI writes them sort as text.
  defp time(%Date{} = date), do: {:ok, Date.to_iso8601(date)}

  defp time(%DateTime{} = time) do
    case DateTime.shift_zone(time, "Etc/UTC") do
      {:ok, utc} -> {:ok, utc |> DateTime.to_iso8601() |> String.trim_trailing("Z")}
      {:error, _reason} -> :error
    end
  end

  defp time(text) when is_binary(text) do
    with {:error, _} <- Date.from_iso8601(text),
         {:ok, time, _offset} <- DateTime.from_iso8601(text) do
      time(time)
    else
      {:ok, date} -> time(date)
      {:error, _} -> :error
    end
  end

  defp time(_other), do: :error

  @doc "Returns the filter as `Codex.Native.rollout_page/6` takes it."
  @spec native(map()) :: tuple()
  def native(filter) do
    get = &Map.get(filter, &1)

    {{get.(:cwd), get.(:since), get.(:until)}, {get.(:model), get.(:source), get.(:title)},
     get.(:archived)}
  end
end
