defmodule Codex.Config.Explain do
  @moduledoc false
  # Formats a configuration for people.

  alias Codex.Config.{Key, Layer}
  alias Codex.Text

  @doc "Formats the layers, highest first, and the warnings."
  @spec layers(map()) :: String.t()
  def layers(%{layers: layers, warnings: warnings}) do
    lines = for layer <- layers, do: "  " <> layer_line(layer)
    warned = for warning <- warnings, do: "  " <> indent(Exception.message(warning))

    ["Layers, the highest first:" | lines]
    |> Kernel.++(if warned == [], do: [], else: ["Warnings:" | warned])
    |> Enum.join("\n")
  end

  defp layer_line(layer) do
    file = if layer.file, do: "  #{Text.line(layer.file)}", else: ""
    keys = layer.config |> map_size() |> keys()

    disabled =
      if layer.disabled_reason,
        do: "\n      does not count: #{Text.line(layer.disabled_reason)}",
        else: ""

    "#{String.pad_trailing(Layer.label(layer.name), 13)}#{file} (#{keys})#{disabled}"
  end

  defp keys(0), do: "empty"
  defp keys(1), do: "1 key"
  defp keys(count), do: "#{count} keys"

  @doc "Formats one key: the value, its layer, the values below, and the disabled layers."
  @spec key([String.t()], term(), [map()], map()) :: String.t()
  def key(path, value, history, requirements) do
    {counting, disabled} = Enum.split_with(history, &(&1.disabled_reason == nil))
    name = path |> Key.format() |> Text.line()

    [
      head(name, value, counting),
      entries("below", Enum.drop(counting, 1)),
      entries("not counted", disabled)
    ]
    |> List.flatten()
    |> Kernel.++(required(requirements))
    |> Enum.join("\n")
  end

  defp head(name, _value, []), do: "#{name} is not set by any layer; the CLI's own default holds"

  defp head(name, value, [top | _]),
    do: ["#{name} = #{show(value)}", "  set by " <> place(top.origin)]

  defp entries(label, list) do
    for %{origin: origin, value: value} = entry <- list do
      why = if entry.disabled_reason, do: "\n    #{Text.line(entry.disabled_reason)}", else: ""
      "  #{label}: #{show(value)} of #{place(origin)}#{why}"
    end
  end

  defp required(requirements) when requirements == %{}, do: []
  defp required(_requirements), do: ["  requirements.toml of this machine may replace it"]

  defp place(%{file: nil} = origin), do: Layer.label(origin.layer)

  defp place(%{line: nil} = origin),
    do: "#{Layer.label(origin.layer)} (#{Text.line(origin.file)})"

  defp place(origin),
    do: "#{Layer.label(origin.layer)} (#{Text.line(origin.file)}:#{origin.line})"

  defp show(value), do: value |> Codex.JSON.encode!() |> Text.json()

  defp indent(text), do: String.replace(text, "\n", "\n  ")
end
