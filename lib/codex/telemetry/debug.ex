defmodule Codex.Telemetry.Debug do
  @moduledoc false
  # Debug lines of `Codex.Telemetry.debug/1`. Each process of the CLI and each connection has a
  # value of this type, nil if the switch is off. Lines are redacted, printable and bounded in
  # length.

  require Logger
  alias Codex.Error.Redact
  alias Codex.Text

  @levels [:debug, :info, :notice, :warning, :error]

  # Limits of a line, of texts and of lists in it.
  @longest 4_000
  @longest_text 1_000
  @longest_list 50

  @secret_key ~r/(key|token|secret|password|authorization|code)$/i

  @enforce_keys [:level, :name, :began]
  defstruct [:level, :name, :began, secrets: [], frames: 0, bytes: 0, events: 0]

  @type t :: %__MODULE__{}

  @doc "Returns the levels that the switch accepts."
  def levels, do: @levels

  @doc """
  Makes a logger for a name, or nil if the switch is off. Secrets are computed only if it is on.
  """
  @spec new(String.t(), (... -> [String.t()])) :: t() | nil
  def new(name, secrets) do
    case Application.get_env(:codex_sdk, :debug, false) do
      off when off in [false, nil] -> nil
      true -> new(:info, name, secrets.())
      level when level in @levels -> new(level, name, secrets.())
      _other -> nil
    end
  end

  defp new(level, name, secrets) do
    began = System.monotonic_time(:millisecond)
    %__MODULE__{level: level, name: name, began: began, secrets: secrets}
  end

  @doc "Logs a text, followed by terms of the run."
  @spec log(t() | nil, String.t(), (... -> [term()])) :: :ok
  def log(debug, text, terms \\ fn -> [] end)
  def log(nil, _text, _terms), do: :ok

  def log(debug, text, terms) do
    Logger.log(debug.level, fn ->
      shown = for term <- terms.(), do: [" ", show(term, debug)]
      line = IO.iodata_to_binary(["codex ", debug.name, " ", text | shown])
      line |> Text.line() |> String.slice(0, @longest)
    end)
  end

  # Texts are shown unchanged, other terms by `inspect/2`.
  defp show(text, debug) when is_binary(text), do: Redact.redact(Text.utf8(text), debug.secrets)

  defp show(term, debug) do
    term
    |> mask()
    |> Redact.redact(debug.secrets)
    |> inspect(limit: @longest_list, printable_limit: @longest_text)
    |> Redact.redact(debug.secrets)
  end

  # Members of a message whose name marks a secret, such as those of logins.
  defp mask(%_{} = struct),
    do: struct |> Map.from_struct() |> mask() |> then(&Map.merge(struct, &1))

  defp mask(%{} = map) do
    Map.new(map, fn
      {name, text} when is_binary(name) and is_binary(text) and text != "" ->
        {name, if(name =~ @secret_key, do: "[redacted]", else: text)}

      {name, value} ->
        {name, mask(value)}
    end)
  end

  defp mask([head | tail]), do: [mask(head) | mask(tail)]
  defp mask(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> mask() |> List.to_tuple()
  defp mask(other), do: other

  @doc "Logs the start of a process: its arguments, and the names of its environment variables."
  @spec started(t() | nil, [String.t()], Enumerable.t() | nil, keyword()) :: :ok
  def started(debug, argv, env, more \\ []) do
    log(debug, "started:", fn ->
      names = Enum.map(env || [], &variable/1)
      [argv, [environment: Enum.sort(names)] ++ more]
    end)
  end

  defp variable({name, nil}), do: "-" <> name
  defp variable({name, _value}), do: name

  @doc "Counts the bytes of the process and logs the events in them."
  @spec received(t() | nil, binary(), [term()]) :: t() | nil
  def received(nil, _bytes, _events), do: nil

  def received(debug, bytes, events) do
    for event <- events, do: log(debug, "event", fn -> [event] end)

    %{
      debug
      | frames: debug.frames + 1,
        bytes: debug.bytes + byte_size(bytes),
        events: debug.events + length(events)
    }
  end

  @doc "Logs the lines that the process wrote to stderr."
  @spec stderr(t() | nil, binary()) :: :ok
  def stderr(nil, _bytes), do: :ok

  def stderr(debug, bytes) do
    for line <- String.split(bytes, "\n"),
        String.trim(line) != "",
        do: log(debug, "stderr:", fn -> [line] end)

    :ok
  end

  @doc "Logs the end of the process."
  @spec ended(t() | nil, map() | nil) :: :ok
  def ended(nil, _exit), do: :ok

  def ended(debug, exit) do
    how =
      case exit do
        %{signal: signal} when signal != nil -> "signal #{signal}"
        %{status: status} when status != nil -> "status #{status}"
        _unknown -> "an unknown status"
      end

    ms = System.monotonic_time(:millisecond) - debug.began
    events = if debug.events > 0, do: "#{debug.events} events in "
    counts = "#{events}#{debug.bytes} bytes and #{debug.frames} frames of stdout"
    log(debug, "ended with #{how} after #{ms} ms, #{counts}")
  end
end
