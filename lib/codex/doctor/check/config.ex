defmodule Codex.Doctor.Check.Config do
  @moduledoc false
  # The layers of configuration, and what is wrong with them: places and keys, never values.

  alias Codex.Auth.Context
  alias Codex.Config
  alias Codex.Config.{Error, Layer}
  alias Codex.Doctor.{Check, Place}

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(%Place{native?: false} = place),
    do: {Check.new(:config, :skipped, "it takes the Rust library to read it"), place}

  def run(%Place{home: nil} = place),
    do: {Check.new(:config, :skipped, "there is no home to read it from"), place}

  def run(place) do
    opts = [
      codex_home: place.home,
      cwd: place.cwd || false,
      env: place.env,
      system_dir: place.system_dir,
      timeout: place.timeout,
      # Nobody is asked to open a keyring because of a look at it.
      prompt: false
    ]

    case Context.new(opts) do
      {:ok, context} -> {loaded(context.config), %{place | context: context}}
      {:error, error} -> {refused(error), place}
    end
  end

  defp refused(error) do
    Check.new(:config, :error, "the CLI refuses it", [problem(error, :error)])
  end

  defp loaded(config) do
    layers = Enum.map(Config.layers(config), &layer/1)
    problems = Enum.map(Config.warnings(config), &problem(&1, :warning))
    details = layers ++ requirements(Config.requirements(config)) ++ problems
    Check.new(:config, Check.worst(details), summary(layers, problems), details)
  end

  defp summary(layers, problems) do
    counting = Enum.count(layers, &(&1.disabled_reason == nil))
    count(counting, "layer") <> but(length(layers) - counting) <> warned(length(problems))
  end

  defp but(0), do: ""
  defp but(1), do: ", and 1 that does not count"
  defp but(n), do: ", and #{n} that do not count"

  defp warned(0), do: ""
  defp warned(n), do: ", #{count(n, "warning")}"

  defp count(1, what), do: "1 #{what}"
  defp count(n, what), do: "#{n} #{what}s"

  defp layer(%Layer{} = layer) do
    keys = map_size(layer.config)
    file = if layer.file, do: " #{layer.file}", else: ""
    text = "#{Layer.label(layer.name)}#{file} (#{keys(keys)})"

    Map.merge(
      %{layer: layer.name, file: layer.file, keys: keys, disabled_reason: layer.disabled_reason},
      disabled(text, layer.disabled_reason)
    )
  end

  defp keys(0), do: "empty"
  defp keys(n), do: count(n, "key")

  defp disabled(text, nil), do: %{text: text}

  defp disabled(text, why),
    do: %{status: :warning, text: "#{text} does not count: #{why}"}

  defp requirements(none) when none == %{}, do: []

  defp requirements(required) do
    keys = Map.keys(required)
    text = "requirements.toml may replace what is set: #{Enum.join(keys, ", ")}"
    [%{text: text, requirements: keys}]
  end

  defp problem(%Error{} = error, status) do
    error = %{error | message: words(error), source_line: nil}

    %{
      status: status,
      text: Exception.message(error),
      reason: error.reason,
      file: error.file,
      line: error.line,
      column: error.column,
      key: error.path && Enum.join(error.path, ".")
    }
  end

  # Of what is in the wrong place, which may be a key, only the kind is told: `string "sk-…"` is a string.
  defp words(%Error{reason: reason, expected: expected, found: found})
       when reason in [:type, :value] and is_binary(expected) do
    kind = (found || "value") |> String.split(["\"", "`"]) |> hd() |> String.trim()
    "#{invalid(reason)}: #{kind}, expected #{expected}"
  end

  defp words(error), do: error.message

  defp invalid(:type), do: "invalid type"
  defp invalid(:value), do: "invalid value"
end
