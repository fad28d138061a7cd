defmodule Codex.Telemetry.Trace do
  @moduledoc false
  # The W3C Trace Context that the CLI continues: the caller's, or that of the OpenTelemetry API if
  # the application has it. Kept in the form of the wire:
  #
  #     %{"traceparent" => "00-…-…-01", "tracestate" => "vendor=value"}

  @type t :: %{String.t() => String.t()}

  @parent ~r/\A(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\z/
  @member ~r/\A(?:|[a-z0-9][a-z0-9_\-*\/@]{0,255}=[\x21-\x2b\x2d-\x3c\x3e-\x7e\x20]{1,256})\z/
  @most_members 32
  @most_bytes 512

  # The application may lack the package, which is called by this name.
  @propagator :otel_propagator_text_map
  @compile {:no_warn_undefined, @propagator}

  @doc """
  Checks a trace context: a `traceparent`, or a map, keyword or list of pairs with `traceparent` and
  perhaps `tracestate`. `baggage`, which OpenTelemetry adds, is left out.

      iex> parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      iex> Codex.Telemetry.Trace.cast(parent)
      {:ok, %{"traceparent" => parent}}
      iex> Codex.Telemetry.Trace.cast(traceparent: parent, tracestate: "a=1,b=2")
      {:ok, %{"traceparent" => parent, "tracestate" => "a=1,b=2"}}
      iex> Codex.Telemetry.Trace.cast("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")
      :error
  """
  @spec cast(term()) :: {:ok, t()} | :error
  def cast(parent) when is_binary(parent), do: cast(%{"traceparent" => parent})
  def cast(%{} = map) when not is_struct(map), do: map |> Map.to_list() |> pairs()
  def cast([_ | _] = list), do: if(List.improper?(list), do: :error, else: pairs(list))
  def cast(_other), do: :error

  defp pairs(list) do
    with true <- Enum.all?(list, &match?({_, _}, &1)),
         %{} = trace <- Enum.reduce_while(list, %{}, &put/2),
         true <- is_map_key(trace, "traceparent") do
      {:ok, trace}
    else
      _invalid -> :error
    end
  end

  defp put({name, nil}, trace) when name in [:tracestate, "tracestate"], do: {:cont, trace}

  defp put({name, value}, trace) when name in [:traceparent, "traceparent"],
    do: put("traceparent", value, parent?(value), trace)

  defp put({name, value}, trace) when name in [:tracestate, "tracestate"],
    do: put("tracestate", value, state?(value), trace)

  defp put({name, _value}, trace) when name in [:baggage, "baggage"], do: {:cont, trace}
  defp put(_unknown, _trace), do: {:halt, :error}

  defp put(name, value, true, trace), do: {:cont, Map.put(trace, name, value)}
  defp put(_name, _value, false, _trace), do: {:halt, :error}

  defp parent?(text), do: is_binary(text) and text =~ @parent

  defp state?(text) when is_binary(text) and byte_size(text) <= @most_bytes do
    members = String.split(text, ",")
    length(members) <= @most_members and Enum.all?(members, &(String.trim(&1) =~ @member))
  end

  defp state?(_other), do: false

  @doc "Returns the trace context of the calling process in the OpenTelemetry API, or nil."
  @spec current() :: t() | nil
  def current do
    if loaded?() do
      case cast(propagator().inject([])) do
        {:ok, trace} -> trace
        :error -> nil
      end
    end
  end

  # The VM loads modules when they are called first, and looking for a module takes long.
  defp loaded? do
    :erlang.function_exported(@propagator, :inject, 1) or
      (:application.get_key(:opentelemetry_api, :vsn) != :undefined and
         Code.ensure_loaded?(@propagator))
  end

  # A module that the application may lack would be unknown to Dialyzer.
  defp propagator, do: @propagator

  @doc """
  Returns the trace context of a run from its option `trace` and its variables: the option, nil if
  it is false, else that of the caller, unless the variables have their own.
  """
  @spec of_run(t() | false | nil, %{String.t() => String.t() | nil}) :: t() | nil
  def of_run(false, _env), do: nil
  def of_run(%{} = trace, _env), do: trace
  def of_run(nil, env), do: if(is_map_key(env, "TRACEPARENT"), do: nil, else: current())

  @doc "Returns the variables of a trace context for `codex exec`."
  @spec env(t()) :: %{String.t() => String.t() | nil}
  def env(trace),
    do: %{"TRACEPARENT" => trace["traceparent"], "TRACESTATE" => trace["tracestate"]}
end
