defmodule Mix.Tasks.Codex.ConfigTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  alias Mix.Tasks.Codex.Config

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)

    File.write!(Path.join(dir, "config.toml"), "model = \"user\"\n[history]\nmax_bytes = 7\n")
    File.write!(Path.join(dir, "p.config.toml"), "model = \"profile\"\n")
    :ok
  end

  defp run(dir, argv) do
    Config.run(argv ++ ["--codex-home", dir, "--cwd", dir])
    assert_received {:mix_shell, :info, [text]}
    text
  end

  test "get prints the value, explain its origin and the values below", %{tmp_dir: dir} do
    assert run(dir, ~w(get history.max_bytes)) == "7"
    assert run(dir, ~w(get history)) == ~S({"max_bytes":7})
    assert run(dir, ~w(get nothing)) == "null"

    assert run(dir, ~w(explain model --profile p)) == """
           model = "profile"
             set by profile (#{dir}/p.config.toml:1)
             below: "user" of user (#{dir}/config.toml:1)\
           """

    assert run(dir, ~w(explain nothing)) =~ "nothing is not set by any layer"
    assert run(dir, ~w(explain)) =~ "  user           #{dir}/config.toml (2 keys)"
  end

  test "--json is one object on one line", %{tmp_dir: dir} do
    json = run(dir, ~w(explain model --json --profile p))
    refute json =~ "\n"
    assert {:ok, object} = Codex.JSON.decode(json)
    assert %{"key" => "model", "value" => "profile"} = object

    assert object["origin"] == %{
             "layer" => "profile",
             "file" => dir <> "/p.config.toml",
             "line" => 1
           }

    assert [%{"layer" => "profile"}, %{"layer" => "user", "value" => "user"}] = object["layers"]
    assert json =~ ~r/^{"key": .*, "value": .*, "origin": {.*}, "layers": \[.*\]}$/

    assert {:ok, %{"value" => nil, "origin" => nil, "layers" => []}} =
             Codex.JSON.decode(run(dir, ~w(get nothing --json)))
  end

  test "an error ends the task", %{tmp_dir: dir} do
    assert_raise Mix.Error, ~r/usage: mix codex.config/, fn -> run(dir, ["show"]) end
    assert_raise Mix.Error, ~r/--jsn/, fn -> run(dir, ~w(get model --jsn)) end
    assert_raise Mix.Error, ~r/not a configuration key/, fn -> run(dir, ~w(get a..b)) end
    File.write!(Path.join(dir, "config.toml"), "model = 3\n")
    assert_raise Mix.Error, ~r/config.toml:1:9: invalid type/, fn -> run(dir, ~w(get model)) end
  end

  test "text of a file reaches the terminal printable", %{tmp_dir: dir} do
    key = ~S("a\u001b[31mb\nforged\u202e")
    model = ~S("\u001b[31m\u009b2J")
    File.write!(Path.join(dir, "config.toml"), "#{key} = 1\nmodel = #{model}\n")

    for argv <- [~w(get model), ~w(explain model), ~w(explain --json model), ~w(explain)] do
      text = run(dir, argv)
      assert Codex.Text.printable(text) == text
    end

    assert {:ok, "\e[31m\u009B2J"} = dir |> run(~w(get model)) |> Codex.JSON.decode()

    for argv <- [["get", "model", "--profile", "a\e[2J"], ["get", "a..\e[2Jb"], ["--\e[2Jx"]] do
      text = Exception.message(assert_raise(Mix.Error, fn -> run(dir, argv) end))
      assert Codex.Text.printable(text) == text
    end
  end
end
