defmodule Mix.Tasks.Codex.ProtocolTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  @moduletag :tmp_dir

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
  end

  defp run(argv), do: Mix.Tasks.Codex.Protocol.run(argv)

  defp output do
    assert_received {:mix_shell, :info, [text]}
    text
  end

  @tag :codex_cli
  test "the data is the one of the pinned CLI" do
    run(["--check"])
    version = Codex.CLI.tested_version()
    assert output() == "The protocol of codex #{version} is the one of #{version}."
  end

  @tag :codex_cli
  test "writes the file as it is in the library", %{tmp_dir: dir} do
    path = Path.join(dir, "new/app_server.exs")
    run(["--data", path])
    assert output() =~ path
    assert File.read!(path) == File.read!(Codex.Protocol.path())
  end

  @tag :codex_cli
  test "prints the differences, and ends with status 1", %{tmp_dir: dir} do
    known = File.read!(Codex.Protocol.path())

    doctored =
      known
      |> String.replace("cli: \"0.169.0\"", "cli: \"0.168.0\"")
      |> String.replace(~r/^  request: {"thread\/archive", .*\n/m, "")
      |> String.replace("request: {\"model/list\",", "request: {\"model/lists\",")
      |> String.replace(
        "type: {\"TurnInterruptParams\", {:fields, [required: ",
        "type: {\"TurnInterruptParams\", {:fields, [optional: {\"gone\", :null}, optional: "
      )
      |> String.replace(
        "type: {\"SortDirection\", {:one_of, [word: \"asc\", word: \"desc\"]}}",
        "type: {\"SortDirection\", {:one_of, [word: \"asc\", word: \"up\"]}}"
      )

    path = Path.join(dir, "doctored.exs")
    File.write!(path, doctored)

    assert catch_exit(run(["--check", "--data", path])) == {:shutdown, 1}

    assert String.split(output(), "\n") == [
             "~ cli 0.168.0 is now 0.169.0",
             "+ request model/list ModelListParams -> ModelListResponse",
             "- request model/lists ModelListParams -> ModelListResponse",
             "+ request thread/archive ThreadArchiveParams -> ThreadArchiveResponse",
             "+ SortDirection 'desc'",
             "- SortDirection 'up'",
             "- TurnInterruptParams.gone null",
             "~ TurnInterruptParams.threadId string is now string (required)"
           ]

    assert File.read!(path) == doctored
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

  test "unknown arguments and a missing file are errors", %{tmp_dir: dir} do
    for argv <- [["--chek"], ["--codex"], ["now"]] do
      assert_raise Mix.Error, ~r/usage: mix codex.protocol/, fn -> run(argv) end
    end

    path = Path.join(dir, "odd.exs")

    assert_raise Mix.Error, ~r/no such file/, fn -> run(["--check", "--data", path]) end

    File.write!(path, "odd\n")

    assert_raise Mix.Error, ~r/expected protocol data, got: odd/, fn ->
      run(["--check", "--data", path])
    end
  end
end
