defmodule Codex.ArgumentsTest do
  # Values of the wrong kind, as people write them by mistake.
  use ExUnit.Case, async: true

  alias Codex.{AppServer, Error, Thread, Threads}

  @tag :tmp_dir
  @tag timeout: 600_000
  test "of every public function are answered by that function", %{tmp_dir: dir} do
    codex = Codex.Stub.write!(dir, "exit 1")

    # In a VM and a home of its own: some calls write.
    script = """
    File.cd!(#{inspect(dir)})
    for name <- ~w(HOME CODEX_HOME), do: System.put_env(name, #{inspect(dir)})
    System.put_env("CODEX_PATH", #{inspect(codex)})
    Logger.configure(level: :none)
    Codex.Arguments.sweep(#{inspect(codex)})
    """

    {output, 0} = Codex.OtherVM.run(script)
    lines = String.split(output, "\n", trim: true)
    assert ["CALLS " <> calls] = Enum.filter(lines, &String.starts_with?(&1, "CALLS "))
    assert String.to_integer(calls) > 10_000
    assert Enum.filter(lines, &String.starts_with?(&1, "BAD ")) == []
  end

  test "that cannot be used are errors that name the argument, without the value" do
    alias Codex.{Auth, Doctor, Exec, Login, Models, RateLimit, Retry}

    for {name, fun} <- [
          fun: &Retry.with_retry/1,
          fun: &Retry.with_stream_retry/1,
          attempt: &Retry.calculate_delay/1,
          fun: &RateLimit.with_rate_limit_handling/1,
          info: &RateLimit.handle/1,
          info: &RateLimit.calculate_delay/1,
          attempt: &RateLimit.calculate_delay(%{}, &1),
          settings: &RateLimit.account/1,
          account: &RateLimit.snapshot/1,
          account: &RateLimit.reached/1,
          token: &Exec.cancel/1,
          login: &Login.await/1,
          timeout: &Login.await(make_ref(), &1),
          login: &Login.cancel/1,
          reply: &Models.from_model_list/1,
          more: &Auth.shell_environment_policy/1,
          policy: &Auth.shell_environment_policy([], &1)
        ],
        {value, shown} <- [{nil, "nil"}, {{:ok, "sk-1"}, ~s("a tuple")}] do
      error = assert_raise Codex.OptionError, fn -> fun.(value) end
      assert {error.reason, error.path} == {:argument, [name]}
      assert Exception.message(error) =~ ~r/^argument :#{name} must be .+, got: #{shown}$/
    end

    secret = %{"sk-1" => 1}

    for fun <- [
          &Codex.stop/1,
          &Codex.Config.put(&1, 1),
          &Codex.Config.put([&1], 1),
          &Doctor.text/1,
          &Doctor.text([&1]),
          &Codex.Test.start([&1]),
          &Codex.Test.start([], default: &1),
          &Codex.Test.requests/1,
          &Retry.with_retry(fn -> &1 end),
          &Retry.with_retry(fn -> {:error, :closed} end, strategy: fn _ -> &1 end)
        ] do
      error = assert_raise ArgumentError, fn -> fun.(secret) end
      refute Exception.message(error) =~ "sk-1"
    end
  end

  test "that look like a thread or a connection get a sentence" do
    {:ok, thread} = Codex.start_thread()
    nobody = spawn(fn -> :ok end)

    for {result, words} <- [
          {Thread.run({:ok, thread}, "hi"), ~r/^argument :thread must be a Codex.Thread/},
          {Thread.run("hi", thread), ~r/^argument :thread must be a Codex.Thread.*got: "hi"/},
          {Thread.run(nil, "hi"), ~r/got: nil$/},
          {Thread.run_streamed(nil, "hi"), ~r/^argument :thread/},
          {Thread.review(nil, :uncommitted_changes), ~r/^argument :thread/},
          {Thread.interrupt("id"), ~r/^argument :thread/},
          {Thread.steer("id", "hi"), ~r/^argument :thread/},
          {Codex.resume_thread(thread), ~r/^argument :id must be the id or the name/},
          {Codex.fork_thread(nil), ~r/^argument :id/},
          {Codex.start_thread([], transport: {:app_server, {:ok, nobody}}),
           ~r/:transport must be .*got: {:app_server, {:ok, /},
          {AppServer.subscribe({:ok, nobody}), ~r/^argument :conn must be a connection/},
          {AppServer.request("x", "y"), ~r/^argument :conn/},
          {AppServer.thread_list(thread), ~r/^argument :conn/},
          {AppServer.thread_list(nobody), ~r/^the connection is lost/},
          {AppServer.pending(:codex_nobody), ~r/^the connection is lost/}
        ] do
      assert {:error, reason} = result
      error = Error.normalize(reason)
      assert error.message =~ words
      assert error.kind in [:invalid_request, :crashed]
    end

    for value <- [thread, [], nil, {:ok, nobody}] do
      error = assert_raise(Error, fn -> Threads.list(value) end)
      assert error.message =~ "argument :conn must be a connection"
    end

    for fun <- [&AppServer.disconnect/1, &AppServer.alive?/1],
        do:
          assert_raise(Codex.OptionError, ~r/must be a connection/, fn -> fun.({:ok, nobody}) end)
  end
end
