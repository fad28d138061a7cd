defmodule Codex.TestTest do
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.Test

  setup_all do
    {:ok, _} = Application.ensure_all_started(:inets)
    :ok
  end

  ## A small HTTP client; `raw_post` shows the bytes, for answers that break off.

  defp post(model, body \\ "{}", headers \\ []),
    do: http(:post, model.url <> "/responses", headers, body)

  defp http(method, url, headers \\ [], body \\ "") do
    headers = for {k, v} <- headers, do: {to_charlist(k), to_charlist(v)}

    request =
      if method == :get, do: {url, headers}, else: {url, headers, ~c"application/json", body}

    {:ok, {{_, status, _}, headers, body}} =
      :httpc.request(method, request, [timeout: 30_000], body_format: :binary)

    {status, Map.new(headers, fn {k, v} -> {to_string(k), to_string(v)} end), body}
  end

  defp connect(model) do
    %URI{port: port} = URI.parse(model.url)
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    socket
  end

  defp send_raw(model, text) do
    socket = connect(model)
    :ok = :gen_tcp.send(socket, text)
    socket
  end

  defp raw_post(model, body \\ "{}") do
    send_raw(
      model,
      "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: #{byte_size(body)}\r\n\r\n#{body}"
    )
  end

  defp read_all(socket, read \\ "") do
    case :gen_tcp.recv(socket, 0, 30_000) do
      {:ok, bytes} -> read_all(socket, read <> bytes)
      {:error, :closed} -> read
    end
  end

  defp events(sse) do
    for "event: " <> event <- String.split(sse, "\n\n", trim: true) do
      [name, "data: " <> data] = String.split(event, "\n")
      {:ok, %{"type" => ^name} = decoded} = Codex.JSON.decode(data)
      decoded
    end
  end

  defp types(sse), do: for(event <- events(sse), do: event["type"])

  describe "the stream" do
    test "of a message" do
      model = Test.start!([message("Hello", deltas: ["Hel", "lo"])])
      assert {200, %{"content-type" => "text/event-stream"}, sse} = post(model)

      assert [created, added, d1, d2, done, completed] = events(sse)
      assert created == %{"type" => "response.created", "response" => %{"id" => "resp_1"}}
      assert added["item"]["content"] == []
      assert {d1["delta"], d2["delta"]} == {"Hel", "lo"}
      assert done["item"]["content"] == [%{"type" => "output_text", "text" => "Hello"}]
      assert done["item"]["id"] == added["item"]["id"] and d1["item_id"] == done["item"]["id"]
      assert completed["response"]["usage"]["total_tokens"] == 120
    end

    test "ids are unique in a server" do
      model = Test.start!([respond([shell("a"), shell("b")]), shell("c")])

      ids =
        for _ <- 1..2,
            {200, _, sse} = post(model),
            %{"type" => "response.output_item.done", "item" => item} <- events(sse),
            do: {item["id"], item["call_id"]}

      assert length(Enum.uniq(ids)) == 3
    end

    test "headers of a response" do
      model = Test.start!([respond(["x"], headers: %{"x-codex-primary-used-percent" => 42})])
      assert {200, %{"x-codex-primary-used-percent" => "42"}, _} = post(model)
    end

    test "without its end" do
      model = Test.start!([cut(["x"]), cut(["x"], after: 2), failed("c", "m"), incomplete("r")])

      assert List.last(types(elem(post(model), 2))) == "response.output_item.done"

      # dropped in mid stream: the last chunk, which says that the body is complete, is missing
      bytes = read_all(raw_post(model))
      assert bytes =~ "response.output_item.added" and not (bytes =~ "output_text.delta")
      refute String.ends_with?(bytes, "0\r\n\r\n")

      assert types(elem(post(model), 2)) == ~w(response.created response.failed)
      assert types(elem(post(model), 2)) == ~w(response.created response.incomplete)
    end

    test "raw bytes, and headers of one's own" do
      model = Test.start!([raw(["a", "", "b"], headers: [{"Content-Type", "text/plain"}])])
      assert {200, %{"content-type" => "text/plain"}, "ab"} = post(model)
    end
  end

  test "http errors" do
    model = Test.start!([http_error(429, %{a: 1}, [{"retry-after", 1}]), http_error(599, "text")])

    assert {429, %{"retry-after" => "1", "content-type" => "application/json"}, ~S({"a":1})} =
             post(model)

    assert {599, %{"content-type" => "text/plain" <> _}, "text"} = post(model)
  end

  test "silence: nothing at all, headers alone, and items first" do
    model =
      Test.start!([
        silence(0),
        silence(0, headers: true),
        silence(0, after: ["x"]),
        silence(:infinity)
      ])

    assert read_all(raw_post(model)) == ""
    assert "HTTP/1.1 200 OK" <> _ = read_all(raw_post(model))
    assert read_all(raw_post(model)) =~ "response.output_item.done"

    # a client that goes away ends an endless silence
    socket = raw_post(model)
    {:ok, _} = Test.await_request(model)
    {:ok, _} = Test.await_request(model)
    {:ok, _} = Test.await_request(model)
    {:ok, _} = Test.await_request(model)
    {:links, links} = Process.info(model.pid, :links)
    refs = for pid <- links, is_pid(pid), pid != self(), do: Process.monitor(pid)
    :gen_tcp.close(socket)
    assert_receive {:DOWN, ref, :process, _, :normal}, 30_000
    assert ref in refs
  end

  describe "the script" do
    test "in order, then a clear failure" do
      model = Test.start!(["one"])
      assert Test.remaining(model) == 1
      assert {200, _, sse} = post(model)
      assert sse =~ "one"
      assert Test.remaining(model) == 0
      assert {400, _, text} = post(model)

      assert text =~
               "Codex.Test: no step is left for request 2 (POST /v1/responses): the script had 1."
    end

    test "push, by itself and in a list" do
      model = Test.start!()
      Test.push(model, "one")
      Test.push(model, ["two", message("three")])
      for text <- ~w(one two three), do: assert(elem(post(model), 2) =~ text)
    end

    test "default" do
      model = Test.start!(["one"], default: "again")
      for text <- ~w(one again again), do: assert(elem(post(model), 2) =~ text)
    end

    test "rules: text, pattern, header, times; they leave the steps alone" do
      model =
        Test.start!(["step 1", "step 2"],
          rules: [
            [contains: "magic", step: "text"],
            %{contains: ~r/n=\d+/, times: 2, step: "pattern"},
            [header: {"X-Kind", "sub"}, times: :infinity, step: "header"]
          ]
        )

      for {body, headers, text} <- [
            {~S("magic"), [], "text"},
            {~S("magic"), [], "step 1"},
            {~S("n=1"), [], "pattern"},
            {~S("n=22"), [], "pattern"},
            {"{}", [{"x-kind", "sub"}], "header"},
            {"{}", [{"x-kind", "sub"}], "header"},
            {~S("n=3"), [{"x-kind", "other"}], "step 2"}
          ],
          do: assert(elem(post(model, body, headers), 2) =~ text)
    end

    test "functions of the request, which may use the server" do
      model = Test.start!()

      Test.push(model, [
        fn request ->
          :ok = Test.push(model, "pushed by the first")
          respond(["got " <> request.body["q"]])
        end
      ])

      assert elem(post(model, ~S({"q":"this"})), 2) =~ "got this"
      assert elem(post(model), 2) =~ "pushed by the first"
    end

    test "functions that fail, or return no step, say so" do
      model = Test.start!([fn _ -> raise "oops" end, fn _ -> :nothing end, "alive"])
      assert {400, _, text} = post(model)
      assert text =~ "(RuntimeError) oops"
      assert {400, _, text} = post(model)
      assert text =~ "not a step: :nothing"
      assert {200, _, _} = post(model)
    end

    test "an invalid step or option raises in the caller" do
      model = Test.start!()

      for {start, text} <- [
            {fn -> Test.start([:hello]) end, ~r/not a step: :hello/},
            {fn -> Test.start([<<0xFF>>]) end, ~r/not valid UTF-8/},
            {fn -> Test.push(model, 1) end, ~r/not a step: 1/}
          ],
          do: assert_raise(ArgumentError, text, start)

      for {start, text} <- [
            {fn -> Test.start([], retry: 1) end,
             ~r/unknown option :retry; did you mean :retries\?/},
            {fn -> Test.start([], retries: -1) end, ~r/:retries must be 0 or .*, got: -1/},
            {fn -> Test.start([], models: []) end, ~r/:models must be a list of one or more/},
            {fn -> Test.start([], env: %{a: {1}}) end, ~r/:env must be a map .*\[redacted\]/},
            {fn -> Test.start([], rules: [[contain: "x"]]) end,
             ~r/unknown option :contain; did you mean :contains/},
            {fn -> Test.start([], rules: [[contains: "x"]]) end, ~r/:step is missing/},
            {fn -> Test.start([], rules: [[step: "x", times: 0]]) end, ~r/:times must be 1 or/},
            {fn -> Test.child_spec({["x"], dirr: "/"}) end, ~r/did you mean :dir\?/}
          ],
          do: assert_raise(Codex.OptionError, text, start)
    end
  end

  describe "the CLI" do
    @describetag :tmp_dir

    test "may not be too old", %{tmp_dir: dir} do
      cli = fn version ->
        path = Path.join(dir, version)
        File.write!(path, "#!/bin/sh\necho codex-cli #{version}\n")
        File.chmod!(path, 0o755)
        path
      end

      assert {:error, error} = Codex.Test.start([], codex_path: cli.("0.42.0"))
      assert Exception.message(error) =~ "needs codex-cli 0.80.0 or newer, and #{dir}"
      assert Exception.message(error) =~ "0.42.0 is 0.42.0: run `npm install"
      assert {:ok, model} = Codex.Test.start([], codex_path: cli.("0.81.0"))
      assert Codex.Test.options(model)[:codex_path] == cli.("0.81.0")
      assert {:ok, _model} = Codex.Test.start([], codex_path: Path.join(dir, "none"))
    end
  end

  describe "requests" do
    test "are kept in order, decoded or as they came" do
      model = Test.start!([], default: "ok")
      post(model, ~S({"a":[1]}), [{"X-One", "1"}])
      post(model, "not json")
      post(model, ~S({"a":1}), [{"content-encoding", "zstd"}])
      http(:get, model.url <> "/models?client_version=1")

      assert [first, %{body: "not json"}, %{body: ~S({"a":1})}, models] = Test.requests(model)

      assert %{
               method: "POST",
               path: "/v1/responses",
               body: %{"a" => [1]},
               headers: headers,
               at: at
             } = first

      assert headers["x-one"] == "1" and at >= 0
      assert %{method: "GET", path: "/v1/models?client_version=1", body: ""} = models
    end

    test "can be awaited, each once, in order" do
      model = Test.start!([], default: "ok")
      assert Test.await_request(model, 0) == {:error, :timeout}

      waiting = Task.async(fn -> Test.await_request(model, :infinity) end)
      post(model, "1")
      assert {:ok, %{body: 1}} = Task.await(waiting)

      post(model, "2")
      http(:get, model.url <> "/models")
      post(model, "3")
      assert {:ok, %{body: 2}} = Test.await_request(model)
      assert {:ok, %{body: 3}} = Test.await_request(model)
      assert Test.await_request(model, 0) == {:error, :timeout}
    end

    test "at the same time" do
      model = Test.start!([], default: fn request -> "echo #{request.body}" end)

      1..30
      |> Task.async_stream(fn n -> assert elem(post(model, "#{n}"), 2) =~ "echo #{n}" end,
        max_concurrency: 30
      )
      |> Stream.run()

      assert length(Test.requests(model)) == 30
    end

    test "elsewhere" do
      model = Test.start!()
      assert {200, _, models} = http(:get, model.url <> "/models")
      assert {:ok, %{"models" => []}} = Codex.JSON.decode(models)
      assert {404, _, _} = http(:get, model.url <> "/nothing")
      assert {404, _, _} = http(:post, model.url <> "/files", [], "{}")

      upgrade = "GET /v1/responses HTTP/1.1\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n\r\n"
      assert "HTTP/1.1 426 " <> _ = read_all(send_raw(model, upgrade))
    end

    test "that are no HTTP, too large or chunked are refused; long headers and Expect are not" do
      model = Test.start!([], default: "ok")
      post = "POST /v1/responses HTTP/1.1\r\n"

      for {text, status} <- [
            {"hello\r\n", 400},
            {post <> "content-length: 67108865\r\n\r\nx", 413},
            {post <> "content-length: -1\r\n\r\n", 400},
            {post <> "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411},
            {post <> "x-long: #{String.duplicate("a", 60_000)}\r\ncontent-length: 2\r\n\r\n{}",
             200}
          ] do
        socket = send_raw(model, text)
        :ok = :gen_tcp.shutdown(socket, :write)
        assert "HTTP/1.1 " <> rest = read_all(socket)
        assert {^status, _} = Integer.parse(rest)
      end

      socket = send_raw(model, post <> "expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
      assert {:ok, "HTTP/1.1 100 Continue\r\n\r\n"} = :gen_tcp.recv(socket, 0, 30_000)
      :ok = :gen_tcp.send(socket, "{}")
      assert read_all(socket) =~ "response.completed"
    end
  end

  describe "directories" do
    test "are private, apart, and gone afterwards" do
      [one, two] = for _ <- 1..2, do: Test.start!()
      dirs = for m <- [one, two], dir <- [m.home, m.workspace, m.env["HOME"]], do: dir

      assert length(Enum.uniq(dirs)) == 6

      for dir <- dirs do
        assert Path.type(dir) == :absolute
        assert Bitwise.band(File.stat!(dir).mode, 0o777) == 0o700
      end

      config = File.read!(Path.join(one.home, "config.toml"))

      for line <- ["analytics.enabled = false", "features.plugins = false", inspect(one.url)],
          do: assert(config =~ line)

      for m <- [one, two], do: assert(Test.stop(m) == :ok)
      refute Enum.any?(dirs, &File.exists?/1)
      refute File.exists?(Path.dirname(one.home))
    end

    test "may be given" do
      tmp = Test.start!().workspace
      work = Path.join(tmp, "work")
      File.mkdir_p!(work)
      model = Test.start!([], dir: Path.join(tmp, "homes"), workspace: work)
      assert String.starts_with?(model.home, Path.join(tmp, "homes"))
      assert model.workspace == work
      Test.stop(model)
      assert File.ls!(Path.join(tmp, "homes")) == []
      assert File.dir?(work)
    end

    test "that cannot be made are an error" do
      Process.flag(:trap_exit, true)
      assert {:error, %File.Error{}} = Test.start([], dir: __ENV__.file)
      assert_raise File.Error, fn -> Test.start!([], dir: __ENV__.file) end
    end

    test "config and env are added to" do
      model = Test.start!([], config: "[mcp_servers.x]\ncommand = 'x'", env: %{"A" => "b"})
      assert File.read!(Path.join(model.home, "config.toml")) =~ "\n[mcp_servers.x]\n"
      assert %{"A" => "b", "NO_PROXY" => _, "HOME" => _} = Test.options(model)[:env]
    end
  end

  test "the arguments of a thread" do
    model = Test.start!([], codex_path: "given/codex")
    path = Path.expand("given/codex")
    assert Test.options(model) == [codex_home: model.home, env: model.env, codex_path: path]

    assert Test.thread_options(model) ==
             [working_directory: model.workspace, skip_git_repo_check: true]
  end

  # Environment and current directory belong to a whole VM, so this asks another one: without Mix
  # and ExUnit.
  test "origin of the CLI" do
    program = ~S"""
    [tmp] = System.argv()
    put = fn path -> File.mkdir_p!(Path.dirname(path)); File.write!(path, ""); File.chmod!(path, 0o755) end
    show = fn -> IO.puts(inspect(Codex.Test.codex_path())) end

    File.cd!(tmp)
    System.delete_env("CODEX_PATH")
    System.put_env("PATH", Path.join(tmp, "bin"))
    show.()
    put.("bin/codex")
    show.()

    for {platform, triple} <- [
          {"linux-x64", "x86_64-unknown-linux-musl"},
          {"linux-arm64", "aarch64-unknown-linux-musl"},
          {"darwin-x64", "x86_64-apple-darwin"},
          {"darwin-arm64", "aarch64-apple-darwin"}
        ],
        do: put.(".codex-cli/node_modules/@openai/codex-#{platform}/vendor/#{triple}/bin/codex")

    show.()
    System.put_env("CODEX_PATH", "nowhere/codex")
    show.()
    put.("nowhere/codex")
    show.()

    model = Codex.Test.start!()
    IO.puts(Path.dirname(Path.dirname(model.home)) == System.tmp_dir!())
    Codex.Test.stop(model)
    """

    tmp = Test.start!().workspace
    ebin = :codex_sdk |> :code.lib_dir() |> Path.join("ebin")

    {out, 0} =
      System.cmd("elixir", ["-pa", ebin, "-e", program, "--", tmp], stderr_to_stdout: true)

    [none, on_path, local, missing, named, outside_mix] = String.split(out, "\n", trim: true)

    assert none =~ "{:error, " and none =~ "npm install --prefix .codex-cli @openai/codex@"
    assert on_path == inspect({:ok, tmp <> "/bin/codex"})
    assert local =~ ~r"{:ok, .*/\.codex-cli/node_modules/@openai/codex-.*/bin/codex"

    assert missing =~
             "CODEX_PATH or CODEX_BINARY names #{tmp}/nowhere/codex, but there is no such file"

    assert named == inspect({:ok, tmp <> "/nowhere/codex"})
    assert outside_mix == "true"
  end

  describe "life" do
    # A process that starts a server and waits; its end is the test's doing.
    defp owner(start) do
      me = self()

      pid =
        spawn(fn ->
          send(me, {:started, start.()})
          Process.sleep(:infinity)
        end)

      assert_receive {:started, model}, 30_000
      {pid, model}
    end

    @tag :capture_log
    test "ends with its owner, and so do open connections" do
      for reason <- [:shutdown, :kill] do
        {owner, model} = owner(fn -> Test.start!([silence(:infinity, headers: true)]) end)
        socket = raw_post(model)
        {:ok, "HTTP/1.1 200" <> _} = :gen_tcp.recv(socket, 0, 30_000)
        ref = Process.monitor(model.pid)
        Process.exit(owner, reason)
        assert_receive {:DOWN, ^ref, :process, _, _}, 30_000
        read_all_or_reset(socket)
        refute File.exists?(model.home)
        refute File.exists?(model.workspace)

        %URI{port: port} = URI.parse(model.url)
        assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 1}, port, [])
      end
    end

    defp read_all_or_reset(socket) do
      case :gen_tcp.recv(socket, 0, 30_000) do
        {:ok, _} -> read_all_or_reset(socket)
        {:error, reason} -> assert reason in [:closed, :econnreset]
      end
    end

    test "under a supervisor, by script or with options, one beside the other" do
      one = Test.handle(start_supervised!({Test, ["one"]}))
      spec = Supervisor.child_spec({Test, {["two"], models: ["m"]}}, id: :second)
      two = start_supervised!(spec)

      assert elem(post(one), 2) =~ "one"
      assert elem(post(Test.handle(two)), 2) =~ "two"
      assert [%{path: "/v1/responses"}] = Test.requests(two)

      :ok = stop_supervised(Test)
      refute File.exists?(one.home)
    end

    test "a connection that breaks leaves the server running" do
      model = Test.start!(["ok"])
      socket = connect(model)
      :ok = :inet.setopts(socket, linger: {true, 0})
      :gen_tcp.close(socket)
      assert {200, _, _} = post(model)
    end
  end
end
