defmodule Codex.OverridesTest do
  # The CLI reads back the values that were given: values of every form, under names of every form,
  # passed with `--config` to the real app-server and read with `config/read`.
  use ExUnit.Case, async: true

  alias Codex.{JSON, Subprocess}
  alias Codex.Options.Overrides

  @moduletag :codex_cli

  test "values and names of every form come back as they were given" do
    :rand.seed(:exsss, {3, 1, 4})
    model = Codex.Test.start!([])

    for _ <- 1..8 do
      given = for _ <- 1..50, into: %{}, do: {name(), value(3)}
      # Passed in two parts, so that tables must be merged.
      {first, second} = given |> Enum.shuffle() |> Enum.split(25)
      told = [{"desktop", Map.new(first)}, {"desktop", Map.new(second)}]
      assert read_back(model, told) == expected(given)
    end
  end

  test "later values win, tables are merged, and inline tables are used if needed" do
    model = Codex.Test.start!([])

    told = [
      {"desktop.a.b", 1},
      {"desktop", %{"a" => %{"c" => 2}, "x.y" => %{"z" => 1}}},
      "desktop.raw=text that is no TOML",
      "desktop.gone.a=1",
      "desktop.gone={b=2}",
      {"desktop.a.b", 3},
      {"desktop", %{"x.y" => %{"w" => ~D[2026-01-02]}}}
    ]

    assert read_back(model, told) == %{
             "a" => %{"b" => 3, "c" => 2},
             "x.y" => %{"z" => 1, "w" => "2026-01-02"},
             "raw" => "text that is no TOML",
             "gone" => %{"b" => 2}
           }
  end

  ## Making them

  defp value(0), do: scalar()

  defp value(depth) do
    case :rand.uniform(10) do
      n when n <= 6 -> scalar()
      n when n <= 8 -> for _ <- 1..(:rand.uniform(4) - 1)//1, do: value(depth - 1)
      _ -> for _ <- 1..(:rand.uniform(4) - 1)//1, into: %{}, do: {name(), value(depth - 1)}
    end
  end

  defp scalar do
    case :rand.uniform(9) do
      1 ->
        :rand.uniform(2) == 1

      2 ->
        Enum.random([0, 1, -1, 2 ** 63 - 1, -(2 ** 63), :rand.uniform(1_000_000)])

      3 ->
        Enum.random([0.5, -1.0e-7, 1.0e300, 3.14, 1.0e16, 123_456_789.125])

      4 ->
        Enum.random([
          ~D[1979-05-27],
          ~N[1979-05-27 07:32:00],
          ~U[1979-05-27 07:32:00Z],
          ~T[07:32:00]
        ])

      5 ->
        Enum.random([:low, :"workspace-write"])

      _ ->
        text()
    end
  end

  # No null byte: an argument cannot have one, and in TOML text it is an escape, which is tried
  # below.
  @characters Enum.concat([
                0x01..0x1F,
                ?\s..?~,
                [0x7F, 0x80, 0xE9, 0x2028, 0xFEFF, 0x1F600, 0x10FFFF, ?", ?\\, ?', 0]
              ])

  defp text,
    do: for(_ <- 1..(:rand.uniform(12) - 1)//1, into: "", do: <<Enum.random(@characters)::utf8>>)

  defp name do
    case :rand.uniform(4) do
      1 ->
        Enum.random(["", ".", "a.b", "a=b", " a ", "\"q\"", "/x/y.z", "ключ"]) <>
          "#{:rand.uniform(1_000_000)}"

      2 ->
        text() <> "#{:rand.uniform(1_000_000)}"

      _ ->
        "k#{:rand.uniform(1_000_000)}"
    end
  end

  ## Expected values

  defp expected(%module{} = value) when module in [Date, NaiveDateTime, DateTime, Time],
    do: module.to_iso8601(value)

  defp expected(%{} = map), do: Map.new(map, fn {name, value} -> {name, expected(value)} end)
  defp expected(list) when is_list(list), do: Enum.map(list, &expected/1)
  defp expected(value) when is_atom(value) and not is_boolean(value), do: Atom.to_string(value)
  defp expected(value), do: value

  # In this table the CLI writes numbers as objects.
  defp plain(%{"$serde_json::private::Number" => text}) do
    {:ok, number} = JSON.decode(text)
    number
  end

  defp plain(%{} = map), do: Map.new(map, fn {name, value} -> {name, plain(value)} end)
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(value), do: value

  ## Asking the CLI

  defp read_back(model, told) do
    {:ok, told} = Overrides.new(told)
    {:ok, arguments} = Overrides.arguments(told)
    {:ok, codex} = Codex.Test.codex_path()
    argv = [codex, "app-server"] ++ Enum.flat_map(arguments, &["-c", &1])
    {:ok, sub} = Subprocess.open(argv, env: Map.put(model.env, "CODEX_HOME", model.home))

    requests = [
      %{id: 1, method: "initialize", params: %{clientInfo: %{name: "test", version: "1"}}},
      %{id: 2, method: "config/read", params: %{includeLayers: true}}
    ]

    {:ok, sub} = Subprocess.write(sub, Enum.map(requests, &[JSON.encode!(&1), "\n"]))
    {answer, sub} = answer(sub, "")
    {:ok, _} = Subprocess.stop(sub)
    layer = Enum.find(answer["result"]["layers"], &(&1["name"]["type"] == "sessionFlags"))
    plain(layer["config"]["desktop"])
  end

  defp answer(sub, buffer) do
    {:ok, sub, outputs} = Subprocess.next(sub, 20_000)
    refute Enum.any?(outputs, &match?({:exit, _}, &1)), Subprocess.stderr(sub)
    buffer = for {:stdout, bytes} <- outputs, into: buffer, do: bytes
    lines = buffer |> String.split("\n") |> Enum.drop(-1)

    case Enum.find_value(lines, fn line ->
           match?({:ok, %{"id" => 2}}, JSON.decode(line)) && line
         end) do
      nil -> answer(sub, buffer)
      line -> {elem(JSON.decode(line), 1), sub}
    end
  end
end
