defmodule Codex.Sessions.GeneratedTest do
  # Stores that a script makes, with the sums that it knows.
  use ExUnit.Case, async: true

  alias Codex.Sessions

  @moduletag :tmp_dir
  @moduletag :generator

  @script Path.expand("../../support/make_sessions.py", __DIR__)

  for seed <- 1..3 do
    test "sums of the store of seed #{seed} are exact", %{tmp_dir: folder} do
      args = [
        @script,
        folder,
        "--sessions",
        "60",
        "--bytes",
        "6000000",
        "--seed",
        "#{unquote(seed)}"
      ]

      {_out, 0} = System.cmd("python3", args)
      {:ok, expected} = folder |> Path.join("expect.json") |> File.read!() |> Codex.JSON.decode()
      home = Path.join(folder, "home")

      {:ok, usage} = Sessions.usage(codex_home: home, by: :model)
      assert usage.usage == expected["usage"]
      assert Map.new(usage.rows, &{&1.key, &1.usage}) == expected["usage_by_model"]

      {:ok, page} = Sessions.list(codex_home: home, limit: 1_000)
      assert length(page.sessions) == expected["threads"]
      assert Enum.count(page.sessions, & &1.archived) == expected["archived"]
      assert page.sessions |> Enum.map(& &1.bad_lines) |> Enum.sum() == expected["bad_lines"]

      {:ok, turns} = Sessions.usage(codex_home: home, scope: :turn)
      assert turns.usage == expected["usage"]
      assert turns.rows |> Enum.map(& &1.id) |> Enum.uniq() |> length() == expected["turns_own"]

      # The newest file that counts is read only once with an index.
      index = Path.join(folder, "index")
      {:ok, first} = Sessions.usage(codex_home: home, index: index)
      assert File.regular?(index)
      {:ok, second} = Sessions.usage(codex_home: home, index: index)
      assert {first.usage, second} == {expected["usage"], first}
    end
  end
end
