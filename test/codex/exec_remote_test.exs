defmodule Codex.ExecRemoteTest do
  # `codex exec --remote`: the turn runs in an app-server that listens on a socket.
  use ExUnit.Case, async: true

  alias Codex.{Error, Test, Thread}

  defp refused(options, turn, resume \\ nil) do
    options = Keyword.put(options, :remote, "unix:///nowhere")

    {:ok, thread} =
      case resume do
        nil -> Codex.start_thread([codex_path_override: "/bin/true"], options)
        {:fork, id} -> Codex.fork_thread(id, [codex_path_override: "/bin/true"], options)
        id -> Codex.resume_thread(id, [codex_path_override: "/bin/true"], options)
      end

    assert {:error, reason} = Thread.run(thread, "Hi", turn)
    Error.normalize(reason)
  end

  test "options of the agent, forks and reviews are refused by name" do
    for {options, turn, name} <- [
          {[model: "m"], [], ":model"},
          {[sandbox: :read_only], [], ":sandbox"},
          {[working_directory: "/tmp"], [], ":working_directory"},
          {[config: %{"a" => 1}], [], ":config"},
          {[], [images: ["README.md"]], ":images"},
          {[], [output_schema: %{"type" => "object"}], ":output_schema"},
          {[], [config_overrides: ["a=1"]], ":config_overrides"}
        ] do
      assert refused(options, turn).message =~ "option #{name} does not go with :remote"
    end

    for {resume, word} <- [
          {:last, ":last"},
          {{:fork, "019aaaaa-0000-7000-8000-000000000000"}, ":fork"}
        ] do
      assert refused([], [], resume).message =~ "resumed by their id, got: #{word}"
    end

    {:ok, thread} =
      Codex.start_thread([codex_path_override: "/bin/true"], remote: "unix:///nowhere")

    assert {:error, reason} = Thread.review(thread, :uncommitted_changes)
    assert Error.normalize(reason).message =~ "resumed by their id, got: :review"
  end

  @tag :codex_cli
  test "runs turns in a server, and resumes them there" do
    model = Test.start!(["One.", "Two."])
    {:ok, codex} = Test.codex_path()
    {:ok, version} = Codex.CLI.Program.version(codex)

    socket =
      Path.join(System.tmp_dir!(), "codex_remote_#{System.unique_integer([:positive])}.sock")

    {:ok, server} =
      Codex.Subprocess.open(
        [codex, "app-server", "--listen", "unix://" <> socket],
        env: Map.put(model.env, "CODEX_HOME", model.home),
        cwd: model.workspace
      )

    try do
      wait_for(socket)
      other = Test.start!([])
      options = [remote: "unix://" <> socket, skip_git_repo_check: true]
      {:ok, thread} = Codex.start_thread(Test.options(other), options)

      if Version.match?(version, ">= 0.171.0") do
        assert {:ok, %{final_response: %{text: "One."}} = result} = Thread.run(thread, "Hi")
        assert {:ok, result} = Thread.run(result.thread, "And?")
        assert result.final_response.text == "Two."
        assert length(Test.requests(model)) == 2
        assert Test.requests(other) == []
      else
        assert {:error, reason} = Thread.run(thread, "Hi")
        assert Error.normalize(reason).kind == :cli_unsupported
      end
    after
      Codex.Subprocess.stop(server)
      File.rm(socket)
    end
  end

  defp wait_for(socket) do
    case :gen_tcp.connect({:local, socket}, 0, [:binary], 1_000) do
      {:ok, connection} ->
        :gen_tcp.close(connection)

      {:error, _not_yet} ->
        Process.sleep(20)
        wait_for(socket)
    end
  end
end
