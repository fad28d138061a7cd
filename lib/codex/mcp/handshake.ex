defmodule Codex.MCP.Handshake do
  @moduledoc false
  # Finds the era of a server. `server/discover` goes first; after an error of an unknown method, or
  # silence for `probe_ms`, `initialize` follows. A server that starts slowly answers both: then the
  # answer to `initialize` counts, as that handshake has happened.

  alias Codex.MCP.Protocol

  @enforce_keys [:deadline, :patience]
  defstruct [
    :deadline,
    :patience,
    :version,
    at: :infinity,
    discover: :unsent,
    initialize: :unsent,
    repeated: false,
    tried: []
  ]

  @type answer :: :off | :unsent | :waiting | {:ok, map()} | {:error, term()}
  @type t :: %__MODULE__{}

  @doc "Begins a handshake. `era` is the era of an earlier one on this connection, or nil."
  @spec new(map(), Protocol.era() | nil, integer()) :: t()
  def new(options, era, now) do
    version = options.protocol_version
    era = if version, do: Protocol.era(version), else: era

    probe = %__MODULE__{
      deadline: now + options.timeout_ms,
      patience: options.probe_ms,
      version: (era == :legacy && version) || Protocol.newest_legacy()
    }

    cond do
      era == :legacy -> %{probe | discover: :off}
      version != nil -> %{probe | initialize: :off}
      true -> probe
    end
  end

  @doc "Returns when the wait for `server/discover` is over."
  @spec deadline(t() | nil) :: integer() | :infinity
  def deadline(%{discover: :waiting, initialize: :unsent, at: at}), do: at
  def deadline(_probe), do: :infinity

  @doc "Returns the next step."
  @spec next(t(), integer()) ::
          {:discover
           | :wait
           | {:initialize, String.t()}
           | {:modern, map()}
           | {:legacy, String.t(), map()}
           | {:fail, term()}, t()}
  def next(probe, now), do: next(probe, probe.discover, probe.initialize, now)

  defp next(probe, :unsent, _initialize, now),
    do: {:discover, %{probe | discover: :waiting, at: now + probe.patience}}

  defp next(probe, _discover, {:ok, result}, _now), do: {legacy(probe, result), probe}

  defp next(probe, {:ok, result}, initialize, _now) when initialize != :waiting,
    do: modern(probe, result)

  defp next(probe, {:error, reason}, initialize, now) when initialize in [:unsent, :off],
    do: after_error(probe, reason, now)

  defp next(%{at: at} = probe, :waiting, :unsent, now) when at <= now,
    do: initialize(probe, probe.version)

  defp next(probe, :waiting, _initialize, _now), do: {:wait, probe}
  defp next(probe, :off, :unsent, _now), do: initialize(probe, probe.version)
  defp next(probe, _discover, {:error, reason}, _now), do: again(probe, reason)
  defp next(probe, _discover, :waiting, _now), do: {:wait, probe}

  defp initialize(probe, version) do
    {{:initialize, version},
     %{probe | initialize: :waiting, version: version, tried: [version | probe.tried]}}
  end

  defp after_error(probe, reason, now) do
    case Protocol.after_discover(reason) do
      :again when not probe.repeated ->
        next(%{probe | discover: :unsent, repeated: true}, now)

      {:initialize, version} when probe.initialize == :unsent ->
        initialize(probe, version)

      _ ->
        {{:fail, reason}, probe}
    end
  end

  # A server may refuse a version, and name those that it supports.
  defp again(probe, reason) do
    supported = with %{"data" => %{"supported" => list}} <- reason, do: list
    version = Protocol.common(supported)

    if version != nil and version not in probe.tried,
      do: initialize(probe, version),
      else: {{:fail, reason}, probe}
  end

  defp modern(probe, result) do
    supported = result["supportedVersions"]

    cond do
      # An answer to any method is none to this one.
      not (is_list(supported) and is_map(result["capabilities"])) and probe.initialize == :unsent ->
        initialize(probe, probe.version)

      not is_list(supported) or Protocol.modern() in supported ->
        {{:modern, result}, probe}

      probe.initialize == :unsent and Protocol.common(supported) ->
        initialize(probe, Protocol.common(supported))

      true ->
        {{:fail, {:unsupported_protocol, Protocol.modern(), inspect(supported)}}, probe}
    end
  end

  defp legacy(probe, %{"protocolVersion" => version} = result) do
    if Protocol.era(version) == :legacy,
      do: {:legacy, version, result},
      else: {:fail, {:unsupported_protocol, probe.version, version}}
  end

  defp legacy(probe, _result), do: {:fail, {:unsupported_protocol, probe.version, nil}}
end
