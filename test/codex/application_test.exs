defmodule Codex.ApplicationTest do
  # A VM that has loaded the package and not started it, as `bin/app eval` of a release does.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  # Every call that needs a process of the application.
  @calls %{
    "Thread.run" => ~S|Codex.Thread.run(thread, "hi")|,
    "Thread.run_streamed" => ~S|Codex.Thread.run_streamed(thread, "hi")|,
    "Thread.run_turn_streamed" => ~S|Codex.Thread.run_turn_streamed(thread, "hi")|,
    "Thread.review" => ~S|Codex.Thread.review(thread, :uncommitted_changes)|,
    "Thread.preflight" => ~S|Codex.Thread.preflight(thread)|,
    "Thread.rate_limits" => ~S|Codex.Thread.rate_limits(thread)|,
    "Exec.run" => ~S|Codex.Exec.run("hi", codex_opts: [codex_path: codex])|,
    "Exec.run_stream" => ~S|Codex.Exec.run_stream("hi", codex_opts: [codex_path: codex])|,
    "Exec.cancel" => ~S|Codex.Exec.cancel("token")|,
    "running" => "Codex.running()",
    "stop" => ~S|Codex.stop("thread")|,
    "Auth.read" => ~S|Codex.Auth.read(codex_home: dir)|,
    "Config.load" => ~S|Codex.Config.load(codex_home: dir)|,
    "Auth.preflight" => ~S|Codex.Auth.preflight(codex_home: dir)|,
    "Login.api_key" => ~S|Codex.Login.api_key("sk-test", codex_path: codex, codex_home: dir)|,
    "Login.cancel" => ~S|Codex.Login.cancel(make_ref())|,
    "Models.fetch" => ~S|Codex.Models.fetch(codex_path: codex, codex_home: dir)|,
    "Doctor.run" => ~S|Codex.Doctor.run(codex_home: dir, codex_path: codex)|,
    "Home.Isolated.create" => ~S|Codex.Home.Isolated.create(dir: dir)|,
    "RateLimit.snapshot" => ~S|Codex.RateLimit.snapshot("x")|,
    "RateLimit.observe" => ~S|Codex.RateLimit.observe("x", %{"primary" => %{}})|,
    "AppServer.connect" => ~S|Codex.AppServer.connect(codex_path: codex, codex_home: dir)|,
    "AppServer.connect_remote" => ~S|Codex.AppServer.connect_remote("ws://127.0.0.1:1")|,
    "AppServer.answer" => ~S|Codex.AppServer.answer("token", :accept)|,
    "AppServer.request" => ~S|Codex.AppServer.request(self, "x/y", %{})|
  }

  test "is a sentence that names the application, or an answer", %{tmp_dir: dir} do
    codex = Codex.Stub.write!(dir, "cat > /dev/null; exit 1")

    calls =
      for {name, call} <- @calls, into: "" do
        call = String.replace(call, "self,", "spawn(fn -> :ok end),")
        "said.(#{inspect(name)}, fn -> #{call} end)\n"
      end

    script = """
    dir = #{inspect(dir)}
    codex = #{inspect(codex)}
    {:ok, thread} = Codex.start_thread([codex_path: codex], skip_git_repo_check: true)

    said = fn name, fun ->
      text =
        try do
          "returned " <> inspect(fun.(), limit: 5, printable_limit: 200)
        rescue
          error -> "raised " <> inspect(error.__struct__) <> " " <> Exception.message(error)
        catch
          kind, why -> "\#{kind} " <> inspect(why)
        end

      IO.puts("SAID " <> name <> ": " <> String.replace(text, "\\n", " "))
    end

    #{calls}
    """

    {output, 0} = Codex.OtherVM.run(script, [], ":ok")
    said = for "SAID " <> line <- String.split(output, "\n"), do: line
    assert length(said) == map_size(@calls)

    for line <- said do
      [name, text] = String.split(line, ": ", parts: 2)

      assert text =~ ~r/^raised RuntimeError .*:codex_sdk.*not started/ or
               String.starts_with?(text, "returned "),
             "#{name}: #{text}"
    end

    for name <- ~w(Thread.run Doctor.run AppServer.connect Models.fetch RateLimit.observe),
        do: assert(Enum.any?(said, &(&1 =~ ~r/^#{name}: raised RuntimeError/)), name)
  end
end
