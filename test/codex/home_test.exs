defmodule Codex.HomeTest do
  use ExUnit.Case, async: true
  doctest Codex.Home

  alias Codex.Home

  @moduletag :tmp_dir

  test "the option, then CODEX_HOME, then ~/.codex", %{tmp_dir: dir} do
    for name <- ~w(option variable .codex), do: File.mkdir!(Path.join(dir, name))
    env = %{"CODEX_HOME" => Path.join(dir, "variable"), "HOME" => dir}

    assert Home.resolve(codex_home: Path.join(dir, "option"), env: env) ==
             {:ok, Path.join(dir, "option")}

    assert Home.resolve(env: env) == {:ok, Path.join(dir, "variable")}
    assert Home.resolve(env: %{"HOME" => dir}) == {:ok, Path.join(dir, ".codex")}
  end

  test "an empty or missing home is an error that says so", %{tmp_dir: dir} do
    assert {:error, %{reason: :empty_home} = empty} = Home.resolve(env: %{"CODEX_HOME" => ""})
    assert Exception.message(empty) == "the environment variable CODEX_HOME is empty"
    assert {:error, %{reason: :empty_home}} = Home.resolve(env: %{})

    missing = Path.join(dir, "none")
    assert {:error, %{reason: :missing_home, file: ^missing}} = Home.resolve(codex_home: missing)

    # The CLI makes the default home alone.
    assert {:error, %{message: message}} = Home.resolve(env: %{"HOME" => missing})
    assert message =~ "/.codex, but there is no such directory: `mix codex.login`"
  end

  test "every entry has a path" do
    for {entry, path} <- Home.paths("/h"), do: assert(Home.path("/h", entry) == path)
    assert Home.paths("/h").archived_sessions == "/h/archived_sessions"
  end
end
