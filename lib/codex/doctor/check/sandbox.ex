defmodule Codex.Doctor.Check.Sandbox do
  @moduledoc false
  # Whether the CLI can put a command into its sandbox here, by doing so: kernels, containers and AppArmor decide, and no
  # other sign is as sure.

  alias Codex.CLI.Command
  alias Codex.Config
  alias Codex.Doctor.{Check, Place}
  alias Codex.Error.Redact

  # Of its words, what people can read.
  @lines 5
  @length 300

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(%Place{program: nil} = place), do: {skipped("there is no CLI to ask"), place}

  def run(%Place{cwd: nil} = place), do: {skipped("there is no directory to run it in"), place}

  # The CLI would refuse, too.
  def run(%Place{context: nil} = place),
    do: {skipped("the CLI cannot be asked without its configuration"), place}

  def run(place) do
    config = place.context.config

    check =
      if Config.get(config, "sandbox_mode") == "danger-full-access",
        do: skipped("sandbox_mode is \"danger-full-access\": commands run without one"),
        else: place |> probe() |> outcome(place, asked(config))

    {check, place}
  end

  defp skipped(why), do: Check.new(:sandbox, :skipped, why)

  # What the configuration asks for by name.
  defp asked(config) do
    Enum.find(["sandbox_mode", "default_permissions"], &is_binary(Config.get(config, &1)))
  end

  defp probe(place) do
    opts = [cwd: place.cwd, timeout: place.timeout, most: 65_536]
    Command.run([place.program, "sandbox", "--", "true"], env(place) ++ opts)
  end

  # That of the VM is there anyway, without what a release adds.
  defp env(%{env: nil} = place), do: [env: %{"CODEX_HOME" => place.home}]
  defp env(place), do: [env: Map.put(place.env, "CODEX_HOME", place.home), clear_env: true]

  defp outcome({:ok, %{exit: %{status: 0}}}, _place, _asked),
    do: Check.new(:sandbox, :ok, "commands can be run in it")

  defp outcome(failure, place, asked) do
    details = failure |> words(place) |> Enum.map(&%{text: &1})
    status = if asked, do: :error, else: :warning
    why = if asked, do: ", which #{asked} asks for", else: ""
    Check.new(:sandbox, status, "commands cannot be run in it#{why}: each would fail", details)
  end

  defp words({:ok, ended}, place) do
    said =
      (ended.stderr <> ended.stdout)
      |> Command.text()
      |> Redact.redact(secrets(place))
      |> String.split("\n", trim: true)
      |> Enum.reject(&noise?/1)
      |> Enum.take(-@lines)
      |> Enum.map(&String.slice(&1, 0, @length))

    [ended(ended.exit) | said]
  end

  defp words({:error, {:timeout, ms}}, _place),
    do: ["`codex sandbox -- true` took longer than #{ms} ms"]

  defp words({:error, {:too_long, bytes}}, _place),
    do: ["`codex sandbox -- true` wrote over #{bytes} bytes"]

  defp words({:error, {kind, error}}, _place) when kind in [:not_started, :lost],
    do: ["`codex sandbox -- true`: #{Exception.message(error)}"]

  defp ended(%{status: nil, signal: signal}),
    do: "`codex sandbox -- true` was ended by signal #{signal}"

  defp ended(%{status: status}), do: "`codex sandbox -- true` ended with status #{status}:"

  # A home among temporary files has a check of its own. Excerpts of files may hold anything.
  defp noise?(line), do: line =~ ~r/^WARNING: proceeding, even though|^\s*\d*\s*\|/

  # Texts of the configuration that may be secret, whatever the CLI says about them; and those of the environment.
  defp secrets(place) do
    config = for layer <- Config.layers(place.context.config), do: texts(layer.config, "")

    named = for {path, text} <- List.flatten(config), byte_size(text) >= 6, do: {path, text}
    sensitive = for {path, text} <- named, path =~ sensitive(), do: text

    Enum.sort_by(
      Enum.uniq(Redact.secrets(Place.env(place)) ++ sensitive),
      &(-byte_size(&1))
    )
  end

  defp sensitive, do: ~r/key|token|secret|password|header|auth|env|set|args|url/i

  defp texts(%{} = table, path),
    do: for({key, value} <- table, do: texts(value, "#{path}.#{key}"))

  defp texts(list, path) when is_list(list), do: Enum.map(list, &texts(&1, path))
  defp texts(text, path) when is_binary(text), do: [{path, text}]
  defp texts(_other, _path), do: []
end
