defmodule Codex.Config.DifferentialTest do
  @moduledoc """
  `Codex.Config` against the CLI's own `config/read` on generated stacks of files.

  Compared are layers with their order, versions and values, whether each counts, the effective values, and the origin of
  every value. What differs, and why:

    * below `desktop` the CLI answers a number as `{"$serde_json::private::Number": "1"}`, in values and in names of
      origins; ours is the number. Versions agree: they are made of that form
    * so a table over a number below `desktop` makes the CLI fail (`expected fewer elements in map`): the table is merged
      with that form. Ours replaces the number
    * a file with a wrong value that a higher layer sets anew keeps its relative paths, and then the CLI fails at those
      (`AbsolutePathBuf deserialized without a base path`). For ours the wrong value is a warning
    * where no type is known, the CLI answers a date as `{"$__toml_private_datetime": "…"}`; ours is the string
    * the CLI keeps the origins of values that a higher layer replaced by a shorter array or by another type; ours names
      the origins of values that exist
    * the CLI names no origin for an empty array or table; ours does
    * the effective values of the CLI have its defaults in them, and nil for keys that are not set; compared are keys that a
      layer sets. It leaves out what it does not know
    * of a value that is no string where one of several strings belongs, the CLI says only `expected string only`; ours
      names the strings. Of a table it says the name of a struct; ours says `a map`
    * profiles: `codex app-server` takes none, so their place among the layers is tested in `Codex.ConfigTest`
  """
  use ExUnit.Case, async: true

  alias Codex.{AppServerClient, Config, ConfigStacks}

  @moduletag :codex_cli

  @stacks 320
  # A server keeps its overrides; everything else it reads anew for each request.
  @per_server 20
  @tasks 2

  @dir Path.join(Mix.Project.build_path(), "codex_test")

  setup do
    dir = Path.join(@dir, "differential-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    %{dir: dir}
  end

  @tag :cli_pin
  test "#{@stacks} stacks", %{dir: dir} do
    counts =
      1..div(@stacks, @per_server)
      |> Task.async_stream(&batch(&1, Path.join(dir, "#{&1}")),
        max_concurrency: @tasks,
        timeout: 120_000
      )
      |> Enum.flat_map(fn {:ok, compared} -> compared end)

    # Most stacks are good ones, and some are refused by both.
    assert length(counts) == @stacks
    assert Enum.count(counts, &(&1 == :error)) in div(@stacks, 50)..div(@stacks, 5)
    assert Enum.count(counts, &(&1 == :listed)) < div(@stacks, 20)
    assert counts |> Enum.filter(&is_integer/1) |> Enum.sum() > 10 * @stacks
  end

  defp batch(number, dir) do
    ConfigStacks.seed(number)

    place = %{
      home: Path.join(dir, "home"),
      user: Path.join(dir, "user"),
      work: Path.join(dir, "work")
    }

    for {_, path} <- place, do: File.mkdir_p!(path)
    File.mkdir_p!(Path.join(place.work, ".git"))
    File.write!(Path.join(place.work, ".git/HEAD"), "ref: refs/heads/main\n")
    write_user(place, "", "")
    overrides = ConfigStacks.overrides(5)
    client = AppServerClient.start!(place.home, place.user, Enum.flat_map(overrides, &["-c", &1]))

    {results, client} =
      Enum.map_reduce(1..@per_server, client, fn index, client ->
        cwd = stack(place)

        {theirs, client} =
          AppServerClient.call(client, "config/read", %{includeLayers: true, cwd: cwd})

        ours =
          Config.load(
            codex_home: place.home,
            env: %{"HOME" => place.user},
            cwd: cwd,
            overrides: overrides
          )

        {compare(ours, theirs, {number, index, overrides, place, cwd}), client}
      end)

    AppServerClient.stop(client)
    results
  end

  # Every user file has the settings that keep the CLI on this machine.
  defp write_user(place, text, more) do
    File.write!(Path.join(place.home, "config.toml"), """
    analytics.enabled = false
    features.plugins = false
    model_provider = "mock"
    model_providers.mock.name = "mock"
    model_providers.mock.base_url = "http://127.0.0.1:9/v1"
    #{more}
    #{text}
    """)
  end

  defp stack(place) do
    for name <- ~w(.codex sub/.codex sub/deep/.codex) do
      folder = Path.join(place.work, name)
      File.rm_rf!(folder)

      if ConfigStacks.chance(60), do: write_project(folder)
    end

    File.mkdir_p!(Path.join(place.work, "sub/deep"))

    trust =
      for dir <- ["", "/sub", "/sub/deep"], ConfigStacks.chance(40) do
        level = ConfigStacks.one_of(~w(trusted trusted untrusted))
        "projects.#{inspect(place.work <> dir)}.trust_level = #{inspect(level)}"
      end

    markers =
      if ConfigStacks.chance(15), do: [~S(project_root_markers = [".git", "deep"])], else: []

    write_user(place, user_file(), Enum.join(trust ++ markers ++ [broken(6)], "\n"))
    Path.join(place.work, ConfigStacks.one_of(["", "sub", "sub/deep", "sub/nothing/here"]))
  end

  defp write_project(folder) do
    File.mkdir_p!(folder)

    if ConfigStacks.chance(85),
      do: File.write!(Path.join(folder, "config.toml"), broken(4) <> ConfigStacks.file(8))
  end

  defp broken(percent),
    do: if(ConfigStacks.chance(percent), do: ConfigStacks.broken() <> "\n", else: "")

  # The provider is set in dotted keys already, and a header may not open its table again.
  defp user_file do
    text = ConfigStacks.file(14)
    if text =~ ~r/model_providers/, do: user_file(), else: text
  end

  # --- Comparing ----------------------------------------------------------------------------------

  defp compare({:error, ours}, {:error, %{"message" => theirs}}, stack) do
    theirs = String.replace(theirs, ~r/expected struct \w+/, "expected a map")

    same_words? =
      theirs =~ ours.message or
        theirs =~ "expected string only\nin `#{Enum.join(ours.path || [], ".")}`"

    place = ["line #{ours.line}, column #{ours.column}\n", ":#{ours.line}:#{ours.column}: "]
    same_place? = ours.reason != :syntax or String.contains?(theirs, place)

    assert same_words? and same_place?,
           "#{inspect(stack)}\nours: #{Exception.message(ours)}\ntheirs: #{theirs}"

    :error
  end

  defp compare({:ok, _config}, {:error, %{"message" => theirs}}, stack) do
    listed = [
      "expected fewer elements in map\nin `desktop",
      "AbsolutePathBuf deserialized without a base path"
    ]

    assert String.contains?(theirs, listed), "#{inspect(stack)}\n#{theirs}"
    :listed
  end

  defp compare({:ok, config}, {:ok, theirs}, stack) do
    ours = for layer <- Config.layers(config), do: ours(layer)
    theirs_layers = for layer <- theirs["layers"], do: theirs(layer)
    same!(length(ours), length(theirs_layers), :layers, stack)

    for {one, other} <- Enum.zip(ours, theirs_layers),
        key <- Map.keys(one),
        do: same!(one[key], other[key], {one.name, key}, stack)

    effective = Config.effective(config)
    values = plain(theirs["config"])
    compare_values(effective, values, [], stack)

    expected =
      for {key, origin} <- theirs["origins"], into: %{}, do: {bare(key), from(origin["name"])}

    found =
      for {path, origin} <- Config.origins(config),
          Config.get(config, path) not in [[], %{}],
          do: {Enum.join(path, "."), {origin.layer, origin.file}}

    for {key, origin} <- found,
        do: same!(origin, expected[key], {:origin, key}, stack)

    length(found)
  end

  defp compare(ours, theirs, stack),
    do: flunk("#{inspect(stack)}\nours: #{inspect(ours)}\ntheirs: #{inspect(theirs, limit: 20)}")

  defp ours(layer),
    do: Map.take(layer, [:name, :file, :version, :config, :disabled_reason])

  defp theirs(layer) do
    {name, file} = from(layer["name"])

    %{
      name: name,
      file: file,
      version: layer["version"],
      config: plain(layer["config"]),
      disabled_reason: layer["disabledReason"]
    }
  end

  defp from(%{"type" => "user", "file" => file}), do: {:user, file}
  defp from(%{"type" => "system", "file" => file}), do: {:system, file}
  defp from(%{"type" => "sessionFlags"}), do: {:session_flags, nil}

  defp from(%{"type" => "project", "dotCodexFolder" => folder}),
    do: {:project, folder <> "/config.toml"}

  # Keys that the CLI knows, with the defaults that it fills in beside them.
  defp compare_values(%{} = ours, %{} = theirs, path, stack) do
    for {key, value} <- ours,
        Map.has_key?(theirs, key),
        do: compare_values(value, theirs[key], [key | path], stack)
  end

  defp compare_values(ours, theirs, path, stack) when is_list(ours) and is_list(theirs) do
    same!(length(ours), length(theirs), path, stack)
    for {one, other} <- Enum.zip(ours, theirs), do: compare_values(one, other, path, stack)
  end

  # 1 and 1.0, in the layer of a wrong value.
  defp compare_values(ours, theirs, _path, _stack) when is_number(ours) and ours == theirs,
    do: :ok

  defp compare_values(ours, theirs, path, stack),
    do: same!(ours, theirs, path, stack)

  defp same!(same, same, _what, _stack), do: :ok

  defp same!(ours, theirs, what, stack),
    do:
      flunk(
        "#{inspect(what)}\nours:   #{inspect(ours)}\ntheirs: #{inspect(theirs)}\nof #{inspect(stack)}"
      )

  defp bare(key),
    do: String.replace(key, ~r/\.\$(serde_json::private::Number|__toml_private_datetime)$/, "")

  defp plain(%{"$serde_json::private::Number" => digits}), do: elem(Codex.JSON.decode(digits), 1)
  defp plain(%{"$__toml_private_datetime" => text}), do: text
  defp plain(%{} = map), do: Map.new(map, fn {key, value} -> {key, plain(value)} end)
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(other), do: other
end
