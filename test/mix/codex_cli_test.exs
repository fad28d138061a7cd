defmodule Mix.Tasks.Codex.CliTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  alias Codex.CLI.Program
  alias Codex.Surface
  alias Mix.Tasks.Codex.Cli

  @moduletag :tmp_dir

  # The whole of a CLI is read, which takes long on a loaded machine.
  @moduletag timeout: 600_000

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
  end

  defp run(argv), do: Cli.run(argv)

  defp output do
    assert_received {:mix_shell, :info, [text]}
    text
  end

  # A copy of the data of this package.
  defp copy!(dir) do
    stored = Surface.stored!(File.cwd!())
    Surface.write!(dir, stored)
    stored
  end

  @tag :codex_cli
  @tag :cli_pin
  test "the data is the one of the pinned CLI" do
    run(["--check"])
    version = Program.tested_version()
    assert output() == "codex #{version} is as the data of #{version}."
  end

  @tag :codex_cli
  @tag :cli_pin
  test "prints the differences, ends with status 1, and writes the data", %{tmp_dir: dir} do
    copy!(dir)
    path = Path.join(dir, "priv/protocol/app_server.exs")
    known = File.read!(path)

    doctored =
      known
      |> String.replace(~r/^  request: {"thread\/archive", .*\n/m, "")
      |> String.replace("request: {\"model/list\",", "request: {\"model/lists\",")
      |> String.replace(
        "type: {\"TurnInterruptParams\", {:fields, [required: ",
        "type: {\"TurnInterruptParams\", {:fields, [optional: {\"gone\", :null}, optional: "
      )
      |> String.replace(
        ~S(type: {"SortDirection", {:one_of, [word: "asc", word: "desc"]}}),
        ~S(type: {"SortDirection", {:one_of, [word: "asc", word: "up"]}})
      )

    File.write!(path, doctored)
    File.write!(Path.join(dir, "priv/cli/version"), "0.1.0\n")
    version = Program.tested_version()

    lines = [
      "~ cli 0.1.0 is now #{version}",
      "+ request model/list ModelListParams -> ModelListResponse",
      "- request model/lists ModelListParams -> ModelListResponse",
      "+ request thread/archive ThreadArchiveParams -> ThreadArchiveResponse",
      "+ type SortDirection 'desc'",
      "- type SortDirection 'up'",
      "- type TurnInterruptParams.gone null",
      "~ type TurnInterruptParams.threadId string is now string (required)"
    ]

    assert catch_exit(run(["--check", "--data", dir])) == {:shutdown, 1}
    assert String.split(output(), "\n") == lines
    assert File.read!(path) == doctored

    run(["--write", "--json", "--data", dir])

    assert {:ok, %{"from" => "0.1.0", "to" => ^version, "changes" => changes}} =
             Codex.JSON.decode(output())

    assert length(changes) == length(lines)

    assert %{
             "change" => "removed",
             "path" => "type SortDirection 'up'",
             "from" => "",
             "to" => nil
           } in changes

    for file <- ["priv/protocol/app_server.exs", "priv/cli/version"],
        do: assert(File.read!(Path.join(dir, file)) == File.read!(file))
  end

  # A program with the given behaviour for `--version` and other commands.
  defp program!(dir, version, command) do
    path = Path.join(dir, "codex-#{System.unique_integer([:positive])}")
    bundle = ~s("$4/codex_app_server_protocol.schemas.json")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = --version ]; then #{version}; exit; fi
    mkdir "$4"; bundle=#{bundle}
    #{command}
    """)

    File.chmod!(path, 0o755)
    path
  end

  test "a program that is not the CLI is an error that describes its behaviour", %{tmp_dir: dir} do
    version = "echo codex-cli 9.9.9"

    for {version, command, message} <- [
          {"echo kaput >&2; exit 3", "", ~r/--version` ended with .*3.*kaput/s},
          {"echo hello", "", ~r/printed no version: hello/},
          {version, "echo kaput >&2; exit 2",
           ~r/app-server generate-json-schema .*ended with.*2.*kaput/},
          {version, "", ~r/wrote no codex_app_server_protocol.schemas.json: no such file/},
          {version, "echo nope > $bundle", ~r/is not JSON \(syntax at byte/},
          {version, "echo {} > $bundle", ~r/expected a JSON schema with definitions/}
        ] do
      program = program!(dir, version, command)
      assert_raise Mix.Error, message, fn -> run(["--check", "--codex", program]) end
    end

    assert_raise Mix.Error, ~r/did not start/, fn ->
      run(["--check", "--codex", Path.join(dir, "nowhere")])
    end
  end

  test "unknown arguments and missing files are errors", %{tmp_dir: dir} do
    for argv <- [
          [],
          ["--chek"],
          ["--check", "--codex"],
          ["--check", "now"],
          ["--check", "--write"]
        ] do
      assert_raise Mix.Error, ~r/usage: mix codex.cli/, fn -> run(argv) end
    end

    assert_raise Mix.Error, ~r/no such file/, fn -> run(["--check", "--data", dir]) end

    copy!(dir)
    File.write!(Path.join(dir, "priv/protocol/app_server.exs"), "odd\n")

    assert_raise Mix.Error, ~r/expected protocol data, got: odd/, fn ->
      run(["--check", "--data", dir])
    end
  end
end
