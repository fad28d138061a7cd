defmodule Codex.GuardTest do
  # Not async: the guard holds for the whole VM.
  use ExUnit.Case, async: false

  alias Codex.{AppServer, Auth, Config, Home, Login, Models, Test, Thread}
  alias Codex.Config.Error

  @moduletag :tmp_dir

  setup do
    :ok = Test.guard!()
    on_exit(fn -> Test.guard!(false) end)
  end

  defp home!(dir) do
    home = Path.join(dir, "home")
    File.mkdir_p!(home)
    File.write!(Path.join(home, "auth.json"), ~s({"OPENAI_API_KEY":"sk-of-the-developer"}))
    home
  end

  # A CLI that leaves a trace if it is started.
  defp cli!(dir), do: Codex.Stub.write!(dir, "touch #{dir}/started")

  test "the home of the developer is refused at every door, and no CLI starts", %{tmp_dir: dir} do
    home = home!(dir)
    client = [codex_home: home, codex_path: cli!(dir)]
    {:ok, thread} = Codex.start_thread(client, skip_git_repo_check: true)

    for {door, result} <- [
          run: Thread.run(thread, "hi"),
          streamed: Thread.run_turn_streamed(thread, "hi"),
          review: Thread.review(thread, "look"),
          connect: AppServer.connect(client, cwd: dir),
          broken: AppServer.connect(client, cwd: dir, broken_config: :allow),
          variable:
            AppServer.connect([codex_path: client[:codex_path]], env: %{CODEX_HOME: home}),
          preflight: Thread.preflight(thread),
          config: Config.load(codex_home: home),
          put: Config.put("model", "x", codex_home: home),
          read: Auth.read(codex_home: home),
          write: Auth.write(Auth.Credentials.api_key("sk-x-0123456789"), codex_home: home),
          delete: Auth.delete(codex_home: home),
          login: Login.api_key("sk-x-0123456789", client),
          logout: Login.logout(client),
          command: Codex.CLI.features_list(client),
          home: Home.resolve(codex_home: home)
        ] do
      assert {^door, {:error, reason}} = {door, result}
      error = Codex.Error.normalize(reason)
      assert {door, error.kind} == {door, :config}
      assert error.message =~ "#{home}, which neither Codex.Test nor"
      refute error.message =~ "sk-"
    end

    assert {:error, %{message: message}} = Models.fetch(client)
    assert message =~ home
    refute File.exists?(Path.join(dir, "started"))
    assert File.read!(Path.join(home, "auth.json")) =~ "sk-of-the-developer"
  end

  test "the default home is refused, also a missing one", %{tmp_dir: dir} do
    env = %{"HOME" => dir, "CODEX_HOME" => nil}
    client = [codex_path: cli!(dir), env: env]
    {:ok, thread} = Codex.start_thread(client, skip_git_repo_check: true)
    assert {:error, %Error{reason: :foreign_home}} = Thread.run(thread, "hi")
    assert {:error, %Error{reason: :foreign_home}} = AppServer.connect(client, cwd: dir)
    refute File.exists?(Path.join(dir, "started"))
  end

  @tag :codex_cli
  test "homes that this package made run" do
    model = Test.start!([], default: "Hi.")
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    assert {:ok, _} = Thread.run(thread, "hi")
    {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
    {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
    assert {:ok, _} = Thread.run(thread, "hi")
    AppServer.disconnect(conn)
    {:ok, home} = Home.Isolated.create()
    assert {:ok, ^home} = Home.resolve(codex_home: home)
  end

  test "without the guard every home will do", %{tmp_dir: dir} do
    :ok = Test.guard!(false)
    assert {:ok, _} = Home.resolve(codex_home: home!(dir))
  end
end
