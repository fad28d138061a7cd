defmodule Codex.Error.Classifier do
  @moduledoc false
  # Classifies failures with the patterns of `native/codex_core/src/errors/table.rs`. This module
  # adds the facts that need the clock and the time zone of this machine, because the CLI prints
  # times as wall-clock times.

  alias Codex.{Native, Text}

  @epoch :calendar.datetime_to_gregorian_seconds({{1970, 1, 1}, {0, 0, 0}})

  # Names are short. A longer text is not a name and is not copied.
  @max_name 256

  # A year. No limit lasts longer, so a longer wait is a misreading.
  @max_wait_ms 366 * 24 * 3600 * 1000

  @typedoc "The facts of a failed turn or request besides its text."
  @type facts :: %{
          optional(:codex_error_info) => term(),
          optional(:code) => term(),
          optional(:type) => term(),
          optional(:http_status) => term(),
          optional(:retry_after) => term(),
          optional(:resets_at) => term()
        }

  @typedoc "The end of the program. `started?`: it had reported a thread before."
  @type ended :: %{status: integer() | nil, signal: pos_integer() | nil, started?: boolean()}

  @type verdict :: %{
          kind: Codex.Error.Kinds.kind(),
          retryable?: boolean(),
          retry_after_ms: pos_integer() | nil,
          resets_at: DateTime.t() | nil,
          http_status: 100..599 | nil
        }

  @doc "Classifies a failed turn or request. Invalid `facts` are ignored, whatever their type."
  @spec failure(binary(), facts()) :: verdict()
  def failure(text, facts \\ %{}) do
    {info, status} = error_info(facts[:codex_error_info])

    names =
      {info, name(facts[:code]), name(facts[:type]), http_status(facts[:http_status]) || status}

    classify(text, names, nil, facts)
  end

  @doc "Classifies the end of the program by its last words on stderr."
  @spec ended(binary(), ended()) :: verdict()
  def ended(stderr, %{status: status, signal: signal, started?: started?}),
    do: classify(stderr, {nil, nil, nil, nil}, {status, signal, started?}, %{})

  @doc "Returns the last statement of a program on stderr, printable. Log lines do not count."
  @spec last_words(binary()) :: String.t()
  def last_words(stderr), do: stderr |> Text.printable() |> Native.error_last_words()

  @doc "Returns the text without the stack backtraces of Rust programs."
  @spec without_stack(binary()) :: binary()
  def without_stack(text), do: Native.error_without_stack(text)

  defp classify(text, names, ended, facts) do
    now = System.os_time(:second)

    {kind, retryable?, wait, reset, http_status} =
      Native.error_classify(text, names, ended, {now, local(now)})

    {told, at} = retry_after(facts[:retry_after], now)
    resets_at = near(unix(facts[:resets_at]) || time(at) || time(reset), now)

    %{
      kind: kind,
      retryable?: retryable?,
      retry_after_ms: positive(told) || positive(wait) || positive(until(resets_at, now)),
      resets_at: resets_at,
      http_status: http_status
    }
  end

  # `"other"`, `%{"httpConnectionFailed" => %{"httpStatusCode" => 401}}`; session files use snake
  # case.
  defp error_info(info) when is_map(info) and map_size(info) == 1 do
    case Map.to_list(info) do
      [{name, %{} = more}] -> {name |> name() |> camel(), http_status(first(more, status_keys()))}
      [{name, _}] -> {name |> name() |> camel(), nil}
    end
  end

  defp error_info(info), do: {info |> name() |> camel(), nil}

  defp status_keys, do: ["httpStatusCode", "http_status_code", :httpStatusCode, :http_status_code]
  defp first(map, keys), do: Enum.find_value(keys, &Map.get(map, &1))

  defp camel(nil), do: nil

  defp camel(name) do
    [first | rest] = String.split(name, "_")
    Enum.join([first | Enum.map(rest, &capitalize/1)])
  end

  defp capitalize(""), do: ""
  defp capitalize(<<first::binary-1, rest::binary>>), do: String.upcase(first, :ascii) <> rest

  defp name(nil), do: nil
  defp name(flag) when is_boolean(flag), do: nil
  defp name(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp name(number) when is_integer(number), do: if(abs(number) < 100_000, do: "#{number}")

  defp name(text) when is_binary(text) and byte_size(text) <= @max_name,
    do: if(String.valid?(text), do: text)

  defp name(_other), do: nil

  defp http_status(status) when is_integer(status) and status in 100..599, do: status
  defp http_status(_other), do: nil

  @doc """
  Parses a `Retry-After` value to `{ms, {:unix, seconds} | nil}`, or `{nil, nil}` if it is invalid.
  Text is a number of seconds or an HTTP date. Numbers below 1000 are seconds, others milliseconds.
  """
  @spec retry_after(term(), integer()) :: {non_neg_integer() | nil, tuple() | nil}
  def retry_after(n, _now) when is_integer(n) and n in 1..999, do: {n * 1000, nil}
  def retry_after(n, _now) when is_integer(n) and n in 1000..@max_wait_ms, do: {n, nil}
  def retry_after(n, _now) when is_float(n) and n > 0 and n < 1000, do: {ceil(n * 1000), nil}
  def retry_after(n, _now) when is_float(n) and n >= 1000 and n < @max_wait_ms, do: {ceil(n), nil}

  def retry_after(text, now) when is_binary(text) and byte_size(text) <= @max_name,
    do: Native.error_retry_after(text, now) || {nil, nil}

  def retry_after(_other, _now), do: {nil, nil}

  defp positive(ms) when is_integer(ms) and ms > 0, do: ms
  defp positive(_other), do: nil

  # No limit lasts longer than a year, so a longer wait is a misreading.
  defp near(nil, _now), do: nil
  defp near(at, now), do: if(until(at, now) <= @max_wait_ms, do: at)

  defp until(nil, _now), do: nil
  defp until(at, now), do: (DateTime.to_unix(at) - now) * 1000

  ## Time

  defp local(now) do
    utc = :calendar.gregorian_seconds_to_datetime(@epoch + now)
    wall = :calendar.universal_time_to_local_time(utc)
    :calendar.datetime_to_gregorian_seconds(wall) - @epoch
  end

  defp time(nil), do: nil
  defp time({:unix, seconds}), do: unix(seconds)

  # If the clock shows an hour twice, the second counts; a skipped hour counts as the next hour.
  defp time({:local, seconds}) do
    wall = :calendar.gregorian_seconds_to_datetime(@epoch + seconds)

    case :calendar.local_time_to_universal_time_dst(wall) do
      [] -> time({:local, seconds + 3600})
      times -> unix(:calendar.datetime_to_gregorian_seconds(List.last(times)) - @epoch)
    end
  end

  defp unix(seconds) when is_integer(seconds) do
    case DateTime.from_unix(seconds) do
      {:ok, time} -> time
      {:error, _} -> nil
    end
  end

  defp unix(_other), do: nil
end
