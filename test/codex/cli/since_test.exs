defmodule Codex.CLI.SinceTest do
  use ExUnit.Case, async: true
  doctest Codex.CLI.Since

  alias Codex.{AppServer, JSON, Stub, Test, Thread}
  alias Codex.CLI.{Program, Range, Since}

  @moduletag :tmp_dir

  test "parameters are found in lists, under any key, and by their words" do
    lacks = Since.lacks("0.151.0")
    file = %{"type" => "image", "fileId" => "f"}

    for {method, params, names} <- [
          {"turn/start", %{"input" => [%{"type" => "text"}, file]}, ["turn/start.input.fileId"]},
          {"turn/start", %{"additionalContext" => %{"x" => %{"name" => "n"}}},
           ["turn/start.additionalContext.*.name"]},
          {"thread/realtime/start", %{"voice" => "rio"}, ["thread/realtime/start.voice=rio"]},
          {"thread/list", %{"excludedThreadIds" => [], "originators" => ["x"]},
           ["thread/list.originators", "thread/list.excludedThreadIds"]}
        ] do
      assert {:error, {:cli_unsupported, ^names, since, "0.151.0"}} =
               Since.check(lacks, method, params)

      assert since == names |> Enum.map(&Since.first/1) |> Enum.max(Version)
    end

    for {method, params} <- [
          {"turn/start", %{"input" => [%{"type" => "text"}], "additionalContext" => %{}}},
          {"thread/realtime/start", %{"voice" => "alloy"}},
          {"thread/list", %{"excludedThreadIds" => nil}},
          {"thread/list", nil},
          {"a/b", %{}}
        ],
        do: assert(Since.check(lacks, method, params) == :ok)

    assert Since.lacks(nil) == nil
  end

  test "the file has each name once, by versions in order" do
    versions = Since.names() |> Enum.map(&elem(&1, 1)) |> Enum.dedup()
    assert versions == Enum.sort(versions, Version)
    assert Enum.all?(versions, &(Version.compare(&1, Range.lowest()) == :gt))
    assert Since.names() == Enum.uniq_by(Since.names(), &elem(&1, 0))
  end

  test "codex exec refuses an option before it starts the CLI", %{tmp_dir: dir} do
    path = Stub.write!(dir, "touch #{dir}/started")
    old = String.replace(File.read!(path), Program.tested_version(), "0.152.0")
    File.write!(path, old)

    for {name, since} <- [worktree: "0.154.0", trust: "0.169.0"] do
      {:ok, thread} = Codex.start_thread([codex_path: path], [{name, true}])
      assert {:error, reason} = Thread.run(thread, "go")
      assert reason == {:cli_unsupported, [inspect(name)], since, "0.152.0"}
      error = Codex.Error.normalize(reason)
      assert %{kind: :cli_unsupported, retryable?: false} = error

      assert error.message ==
               ":#{name} needs codex-cli #{since} or newer, and this is 0.152.0: update the CLI"
    end

    refute File.exists?(Path.join(dir, "started"))
    {:ok, thread} = Codex.start_thread([codex_path: path], worktree: false)
    assert {:error, _no_answer} = Thread.run(thread, "go")
    assert File.exists?(Path.join(dir, "started"))
  end

  test "an app-server is sent nothing that it lacks", %{tmp_dir: dir} do
    path =
      Stub.write!(dir, """
      read -r line
      echo '{"id":0,"result":{"userAgent":"codex_sdk/0.160.1 (Debian; x86_64) xterm (x; 1)"}}'
      while read -r line; do echo "$line" >> #{dir}/lines; done
      """)

    home = Path.join(dir, "home")
    File.mkdir_p!(home)
    {:ok, conn} = AppServer.connect(codex_path: path, codex_home: home)

    assert {:error, {:cli_unsupported, ["thread/list.excludedThreadIds"], "0.163.0", "0.160.1"}} =
             AppServer.thread_list(conn, excluded_thread_ids: ["a"])

    assert {:error, {:cli_unsupported, ["thread/items/read"], _, _} = reason} =
             AppServer.request(conn, "thread/items/read", %{"threadId" => "a"})

    assert Codex.Error.normalize(reason).kind == :cli_unsupported
    assert {:error, {:timeout, _, 1}} = AppServer.request(conn, "a/b", nil, timeout_ms: 1)
    lines = Path.join(dir, "lines")
    assert Stub.eventually(fn -> File.exists?(lines) and File.read!(lines) =~ "a/b" end)
    AppServer.disconnect(conn)
    refute File.read!(lines) =~ "thread/"
  end

  # `bin/test` runs this with each tested version.
  @tag :codex_cli
  test "the installed CLI has the names of the file from their versions on", %{tmp_dir: dir} do
    {:ok, program} = Test.codex_path()
    {:ok, version} = Program.version(program)
    env = [{"CODEX_HOME", "/dev/null"}]
    generate = ["app-server", "generate-json-schema", "--experimental", "--out", dir]
    {_, 0} = System.cmd(program, generate, env: env, stderr_to_stdout: true)
    {help, 0} = System.cmd(program, ["exec", "--help"], env: env, stderr_to_stdout: true)
    {:ok, schema} = dir |> Path.join("ClientRequest.json") |> File.read!() |> JSON.decode()

    requests =
      for %{"properties" => %{"method" => %{"enum" => [method]}} = own} <- schema["oneOf"],
          into: %{},
          do: {method, own["params"]}

    for {name, since} <- Since.names() do
      has? =
        case String.split(name, ".") do
          ["--" <> _ = flag] ->
            help =~ ~r/^ +(-\w, )?#{flag}(?![\w-])/m

          [method | path] ->
            Map.has_key?(requests, method) and
              (path == [] or has?(requests[method], path, schema["definitions"]))
        end

      assert {name, has?} == {name, Version.compare(version, since) != :lt}
    end
  end

  defp has?(nil, _path, _types), do: false
  defp has?(_type, [], _types), do: true

  defp has?(%{"$ref" => "#/definitions/" <> name}, path, types),
    do: has?(types[name], path, Map.delete(types, name))

  defp has?(%{} = type, [key | rest] = path, types) do
    here =
      case {key, String.split(key, "=")} do
        {"*", _} -> has?(type["additionalProperties"], rest, types)
        {_, [key, word]} -> word?(type["properties"][key], word, types)
        {_, [key]} -> has?(type["properties"][key], rest, types)
      end

    here or Enum.any?(inside(type), &has?(&1, path, types))
  end

  defp has?(_any, _path, _types), do: false

  defp word?(%{"$ref" => "#/definitions/" <> name}, word, types),
    do: word?(types[name], word, Map.delete(types, name))

  defp word?(%{} = type, word, types),
    do: word in (type["enum"] || []) or Enum.any?(inside(type), &word?(&1, word, types))

  defp word?(_none, _word, _types), do: false

  defp inside(type),
    do: [type["items"] | Enum.flat_map(["anyOf", "oneOf", "allOf"], &(type[&1] || []))]
end
