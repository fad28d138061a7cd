defmodule Codex.Doctor.Check.Sandbox do
  @moduledoc false
  # Whether the CLI can put a command into its sandbox here, by doing so: kernels, containers and AppArmor decide, and no
  # other sign is as sure.

  alias Codex.CLI.Command
  alias Codex.Config
  alias Codex.Doctor.{Check, Place}
  alias Codex.Error.Redact
  alias Codex.{FileSystem, Home}

  # Of its words, what people can read.
  @lines 5
  @length 300
  # Shorter texts would take ordinary words out of them.
  @shortest 6

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

  # Whatever the CLI says: no text of the configuration or of auth.json is let through, but for folders, nor what variables
  # hold that are called like secrets or proxies.
  defp secrets(place) do
    config = for layer <- Config.layers(place.context.config), do: texts(layer.config)
    kept = [login(place.home) | config] |> List.flatten() |> not_folders()
    env = Place.env(place)
    proxies = for {name, value} <- env, name =~ ~r/proxy/i, do: value

    (Redact.secrets(env) ++ proxies ++ kept)
    |> Enum.filter(&(byte_size(&1) >= @shortest))
    |> Enum.uniq()
    |> Enum.sort_by(&(-byte_size(&1)))
  end

  defp not_folders(texts) do
    for {text, stat} <- Enum.zip(texts, FileSystem.stat_all(texts)),
        not match?({:ok, %{kind: :directory}}, stat),
        do: text
  end

  defp login(home) do
    with {:ok, text} <- FileSystem.read(Home.path(home, :auth)),
         {:ok, document} <- Codex.JSON.decode(text),
         do: texts(document),
         else: (_none -> [])
  end

  defp texts(%{} = table), do: for({_key, value} <- table, do: texts(value))
  defp texts(list) when is_list(list), do: Enum.map(list, &texts/1)
  defp texts(text) when is_binary(text), do: [text]
  defp texts(_other), do: []
end
