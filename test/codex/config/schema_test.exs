defmodule Codex.Config.SchemaTest do
  @moduledoc """
  The schema data against `codex app-server --strict-config --print-startup-config`: both accept the same configurations, and
  name the same line where they do not. What is left out stands in `Codex.ConfigSchemaCases`; the lines that differ in
  `listed?/1`.
  """
  use ExUnit.Case, async: true

  alias Codex.{Config, ConfigSchemaCases, ConfigStacks}

  @moduletag :codex_cli

  @dir Path.join(Mix.Project.build_path(), "codex_test")

  @base """
  analytics.enabled = false
  features.plugins = false
  model_provider = "mock"
  model_providers.mock.name = "mock"
  model_providers.mock.base_url = "http://127.0.0.1:9/v1"
  """
  @base_lines 5

  setup do
    dir = Path.join(@dir, "schema-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    %{dir: dir, schema: ConfigSchemaCases.schema()}
  end

  defp each(count, dir, fun) do
    1..count
    |> Task.async_stream(
      fn seed ->
        ConfigStacks.seed(seed)
        home = Path.join(dir, "#{seed}")
        File.mkdir_p!(home)
        fun.(home)
      end,
      max_concurrency: 2,
      timeout: 30_000
    )
    |> Enum.map(fn {:ok, result} -> result end)
  end

  @tag :cli_pin
  test "200 good configurations", %{dir: dir, schema: schema} do
    each(200, dir, fn home ->
      {text, _} = schema |> ConfigSchemaCases.good() |> ConfigSchemaCases.text(@base_lines)
      ours = with {:ok, _config} <- load(home, text), do: :ok
      assert {text, ours, theirs(home)} == {text, :ok, :ok}
    end)
  end

  @tag :cli_pin
  test "200 with one thing wrong", %{dir: dir, schema: schema} do
    results = each(200, dir, &broken(&1, schema))
    # Cases without a message of the CLI stay rare, and so do different lines.
    assert Enum.count(results, &(&1 == :same_line)) > 180
    assert Enum.count(results, &(&1 == :silent)) in 1..10
  end

  defp broken(home, schema) do
    {leaves, path} = schema |> some() |> ConfigSchemaCases.broken()
    {text, lines} = ConfigSchemaCases.text(leaves, @base_lines)

    case {load(home, text), theirs(home)} do
      {{:error, %{line: line}}, {:error, line, _}} ->
        assert {text, line} == {text, lines[path]}
        :same_line

      {{:error, error}, {:error, theirs, message}} ->
        assert {text, error.line} == {text, lines[path]}

        assert listed?(path) and theirs < error.line,
               "#{text}\n#{inspect(path)}: #{error.line} and #{message}"

        :listed

      {{:ok, config}, :ok} ->
        assert {text, silent?(path, config)} == {text, true}
        :silent

      {ours, theirs} ->
        flunk("#{text}\nours: #{inspect(ours)}\ntheirs: #{inspect(theirs)}")
    end
  end

  defp some(schema) do
    case ConfigSchemaCases.good(schema) do
      [] -> some(schema)
      leaves -> leaves
    end
  end

  # Ours names the line of the key; the CLI that of the table, where it puts its type together of
  # several.
  defp listed?([top | _])
       when top in ~w(agents approval_policy apps experimental_thread_store otel),
       do: true

  defp listed?(["tui", "notification" <> _]), do: true
  defp listed?(["tools", "web_search" | _]), do: true
  defp listed?(_path), do: false

  # Any value may stand below `desktop`; elsewhere the SDK warns. A value of another type may be
  # valid by chance if a key takes several types.
  defp silent?(["desktop" | _], config), do: Config.warnings(config) == []

  defp silent?(path, config) do
    warned = Enum.map(Config.warnings(config), & &1.path)
    warned == if List.last(path) == "zz_not_a_key", do: [path], else: []
  end

  defp load(home, text) do
    File.write!(Path.join(home, "config.toml"), @base <> text)
    Config.load(codex_home: home, cwd: false, strict: true, env: %{"HOME" => home})
  end

  defp theirs(home) do
    {:ok, codex} = Codex.Test.codex_path()
    # The CLI prints a stack to stderr with every error.
    args = [
      "-c",
      ~S(exec "$0" app-server --strict-config --print-startup-config 2>/dev/null),
      codex
    ]

    {out, _} = System.cmd("sh", args, env: [{"CODEX_HOME", home}, {"HOME", home}], cd: home)

    case Codex.JSON.decode(out) do
      {:ok, %{"error" => %{"data" => %{"line" => line, "detail" => detail}}}} ->
        {:error, line, detail}

      {:ok, %{"appServerVersion" => _}} ->
        :ok
    end
  end
end
