defmodule Codex.NativeCompilerTest do
  # Runs the Mix compiler in a project of its own, with copies of its files, so that `priv/native`
  # of this project stays as it is. cargo is a script that notes its arguments; the real cargo built
  # the library that these tests run with. Archives come from a web server on loopback.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  @root Path.expand("../..", __DIR__)
  @files ~w(Cargo.toml Cargo.lock native/compiler.exs native/prebuilt.exs) ++
           ~w(native/codex_launcher/Cargo.toml native/codex_launcher/src/main.rs)

  setup %{tmp_dir: dir} do
    for file <- @files do
      target = Path.join([dir, "project", file])
      File.mkdir_p!(Path.dirname(target))
      File.cp!(Path.join(@root, file), target)
    end

    File.write!(Path.join(dir, "project/mix.exs"), """
    Code.require_file("native/compiler.exs", __DIR__)

    defmodule Sample.MixProject do
      use Mix.Project

      def project,
        do: [app: :sample, version: "0.1.0", compilers: [:codex_native] ++ Mix.compilers()]

      def application, do: []
    end
    """)

    %{project: Path.join(dir, "project"), bin: Path.join(dir, "bin")}
  end

  test "builds once, again when a source or an artefact changed, and links priv at once",
       context do
    cargo(context, "1.91.0")
    assert {out, 0} = compile(context)
    assert out =~ "Compiling the native parts of codex_sdk with cargo (release)"

    assert [nif, launcher] = builds(context)
    assert nif =~ ~r"^build -p codex_nif --release --locked --target test-host --target-dir /"

    assert launcher =~
             ~r"^rustc -p codex_launcher --bin codex_launcher --release --locked --target test-host "

    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
    assert File.exists?(Path.join(context.project, "_build/dev/lib/sample/priv/native"))

    assert {out, 0} = compile(context)
    refute out =~ "cargo"
    assert length(builds(context)) == 2

    # another size, as times have a resolution of a second
    File.write!(
      Path.join(context.project, "native/codex_launcher/src/main.rs"),
      "// changed\n",
      [:append]
    )

    assert {_, 0} = compile(context)
    assert length(builds(context)) == 4

    File.rm!(Path.join(context.project, "priv/native/codex_launcher"))
    assert {_, 0} = compile(context)
    assert length(builds(context)) == 6
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
  end

  test "a build that fails fails the compilation", context do
    cargo(context, "1.95.0", "echo 'error: something' >&2; exit 101")
    assert {out, 1} = compile(context)
    assert out =~ "error: something"
    assert_told_once(out, "cargo build failed with exit status 101")
    assert installed(context) == []
  end

  test "without cargo, one message names the program to install", context do
    assert {out, 1} = compile(context)

    assert_told_once(
      out,
      "codex_sdk needs Rust 1.91 or newer (https://rustup.rs), but there is no `cargo` on PATH"
    )

    assert out =~ "Or set CODEX_SDK_NATIVE_DIR"
  end

  test "with a cargo that is too old, one message names both versions", context do
    cargo(context, "1.70.0")
    assert {out, 1} = compile(context)
    assert_told_once(out, "codex_sdk needs Rust 1.91 or newer")
    assert out =~ "but cargo is 1.70"
    assert builds(context) == []
  end

  test "CODEX_SDK_NATIVE_DIR is used instead of cargo", %{tmp_dir: dir} = context do
    ready = Path.join(dir, "ready")
    File.mkdir_p!(ready)
    File.write!(Path.join(ready, "codex_launcher"), "launcher")

    assert {out, 1} = compile(context, [{"CODEX_SDK_NATIVE_DIR", ready}])
    assert_told_once(out, "CODEX_SDK_NATIVE_DIR is #{ready}")
    assert out =~ "libcodex_nif.so does not exist"
    assert installed(context) == []

    File.write!(Path.join(ready, "libcodex_nif.so"), "library")
    assert {_, 0} = compile(context, [{"CODEX_SDK_NATIVE_DIR", ready}])
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]

    assert File.read!(Path.join(context.project, "priv/native/codex_launcher")) == "launcher"
  end

  test "a folder of the package that cannot be written is one message", context do
    cargo(context, "1.91.0")
    # A file in place of the folder refuses root, too.
    File.write!(Path.join(context.project, "priv"), "")
    assert {out, 1} = compile(context)
    assert_told_once(out, "priv/native cannot be written: not a directory")
    assert out =~ "Make the folder of codex_sdk writable"
    assert builds(context) == []
  end

  test "builds of several projects at once leave one whole installation", context do
    cargo(context, "1.91.0")
    _links = path(context)

    results =
      for n <- 1..4 do
        Task.async(fn -> compile(context, [{"MIX_BUILD_ROOT", "_build/#{n}"}]) end)
      end
      |> Task.await_many(100_000)

    assert for({_out, status} <- results, do: status) == [0, 0, 0, 0]
    assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
    assert File.ls!(Path.join(context.project, "priv/native")) |> length() == 3

    calls = builds(context)
    assert {out, 0} = compile(context)
    refute out =~ "cargo"
    assert builds(context) == calls
  end

  describe "prebuilt archives" do
    setup context do
      archive = archive(context)
      list(context, archive)
      %{archive: archive}
    end

    test "come from a web server, once for a machine, without cargo", context do
      {url, requests} = serve(fn _path -> ok(context.archive) end)
      assert {out, 0} = compile(context, [{"CODEX_SDK_PREBUILT", url <> "/releases/"}])
      assert out =~ "Using the prebuilt native parts of codex_sdk: #{archive_name()}"
      assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
      launcher = Path.join(context.project, "priv/native/codex_launcher")
      assert File.read!(launcher) == "built launcher"
      assert Bitwise.band(File.stat!(launcher).mode, 0o111) == 0o111
      assert requests.() == ["/releases/" <> archive_name()]

      File.rm_rf!(Path.join(context.project, "priv"))
      assert {_, 0} = compile(context, [{"CODEX_SDK_PREBUILT", url <> "/releases/"}])
      assert installed(context) == ["codex_launcher", "libcodex_nif.so"]
      assert length(requests.()) == 1

      # They stay, also for a command that does not name the place.
      assert {out, 0} = compile(context)
      refute out =~ "cargo"
      assert {out, 1} = compile(context, [{"CODEX_SDK_BUILD", "1"}])
      assert_told_once(out, "there is no `cargo` on PATH")
    end

    test "come from a folder, and from the address in the list", context do
      folder = Path.join(context.tmp_dir, "archives")
      File.mkdir_p!(folder)
      File.write!(Path.join(folder, archive_name()), context.archive)
      File.write!(sums(context), "address #{folder}\n", [:append])
      assert {out, 0} = compile(context)
      assert out =~ "Using the prebuilt"
    end

    test "are verified over TLS", context do
      %{server_config: server, client_config: client} = certificates()
      {url, _} = serve(fn _path -> ok(context.archive) end, server)
      env = [{"CODEX_SDK_PREBUILT", url}]

      # The system's authorities do not know the server: cargo builds.
      cargo(context, "1.91.0")
      assert {out, 0} = compile(context, env)
      assert out =~ "cannot be fetched: the TLS connection failed (unknown_ca)"
      assert out =~ "with cargo"

      File.rm_rf!(Path.join(context.project, "priv"))
      authorities = Path.join(context.tmp_dir, "authorities.pem")
      entries = for der <- client[:cacerts], do: {:Certificate, der, :not_encrypted}
      File.write!(authorities, :public_key.pem_encode(entries))
      assert {out, 0} = compile(context, [{"SSL_CERT_FILE", authorities} | env])
      assert out =~ "Using the prebuilt"
    end

    test "come through the proxy of the environment", context do
      {url, requests} = serve(fn _path -> ok(context.archive) end)

      env = [
        {"CODEX_SDK_PREBUILT", "http://archives.test"},
        {"HTTP_PROXY", String.replace(url, "http://", "http://user:p%40ss@")}
      ]

      assert {out, 0} = compile(context, env)
      assert out =~ "Using the prebuilt"
      assert requests.() == ["http://archives.test/" <> archive_name()]
    end

    test "of a wrong sum, cut, missing or out of reach leave the work to cargo", context do
      cargo(context, "1.91.0")

      answers = [
        {ok("other bytes"), "has the SHA-256 sum"},
        {["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"], "cannot be fetched"},
        {["HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"], "answered with the HTTP status 404"}
      ]

      for {answer, words} <- answers do
        File.rm_rf!(Path.join(context.project, "priv"))
        before = length(builds(context))
        {url, requests} = serve(fn _path -> answer end)
        assert {out, 0} = compile(context, [{"CODEX_SDK_PREBUILT", url}])
        assert_told_once(out, words)
        assert length(builds(context)) == before + 2

        # The same archive is not asked for again.
        assert {_, 0} = compile(context, [{"CODEX_SDK_PREBUILT", url}])
        assert length(requests.()) == 1
        assert length(builds(context)) == before + 2
      end

      {:ok, listen} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, free} = :inet.port(listen)
      :ok = :gen_tcp.close(listen)
      File.rm_rf!(Path.join(context.project, "priv"))
      assert {out, 0} = compile(context, [{"CODEX_SDK_PREBUILT", "http://127.0.0.1:#{free}"}])
      assert_told_once(out, "cannot be fetched: connection refused")
    end

    test "are not used for a build that is asked for, or of other features", context do
      cargo(context, "1.91.0")
      {url, requests} = serve(fn _path -> ok(context.archive) end)

      for {name, value} <- [{"CODEX_SDK_BUILD", "true"}, {"CODEX_SDK_KEYRING", "false"}] do
        assert {out, 0} = compile(context, [{"CODEX_SDK_PREBUILT", url}, {name, value}])
        assert out =~ "with cargo"
      end

      assert requests.() == []
    end

    test "without cargo and without an archive, both reasons are said", context do
      File.write!(sums(context), "")
      assert {out, 1} = compile(context, [{"CODEX_SDK_PREBUILT", "http://127.0.0.1:1"}])
      assert_told_once(out, "this release has no archive #{archive_name()}")
      assert_told_once(out, "there is no `cargo` on PATH")
    end
  end

  # --- The project and its cargo -----------------------------------------------------------------

  @build """
  while [ $1 != --target-dir ]; do shift; done
  mkdir -p $2/test-host/release; cd $2/test-host/release
  echo nif >libcodex_nif.so; echo nif >libcodex_nif.dylib; echo launcher >codex_launcher
  """

  defp cargo(%{bin: bin}, version, build \\ nil) do
    File.mkdir_p!(bin)
    path = Path.join(bin, "cargo")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = -vV ]; then
      echo "cargo #{version} (0000000 2026-01-01)"
      echo "host: test-host"
      exit
    fi
    echo "$*" >>#{bin}/builds
    #{build || @build}
    """)

    File.chmod!(path, 0o755)
  end

  defp builds(%{bin: bin}) do
    case File.read(Path.join(bin, "builds")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  defp installed(%{project: project}) do
    case File.ls(Path.join(project, "priv/native")) do
      {:ok, names} -> names |> Enum.reject(&String.starts_with?(&1, ".")) |> Enum.sort()
      {:error, :enoent} -> []
    end
  end

  defp compile(%{project: project} = context, env \\ []) do
    cleared =
      for name <-
            ~w(MIX_ENV MIX_BUILD_PATH MIX_DEPS_PATH MIX_EXS MIX_BUILD_ROOT CARGO_TARGET_DIR) ++
              ~w(CODEX_SDK_NATIVE_DIR CODEX_SDK_BUILD CODEX_SDK_PREBUILT CODEX_SDK_KEYRING) ++
              ~w(HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy SSL_CERT_FILE),
          do: {name, nil}

    cache = [{"XDG_CACHE_HOME", Path.join(context.tmp_dir, "cache")}]
    env = cleared ++ [{"PATH", path(context)} | cache] ++ env
    System.cmd("mix", ["compile"], cd: project, env: env, stderr_to_stdout: true)
  end

  # The PATH without the real cargo.
  defp path(%{bin: bin, tmp_dir: tmp_dir}), do: "#{bin}:#{Codex.WithoutRust.path(tmp_dir)}"

  defp assert_told_once(out, message) do
    assert [_, _] = String.split(out, message), "expected once #{inspect(message)} in: #{out}"
    refute out =~ "(elixir "
  end

  # --- Archives and their server -----------------------------------------------------------------

  defp sums(%{project: project}), do: Path.join(project, "native/prebuilt.sums")

  defp archive_name, do: CodexSdk.Prebuilt.name("0.1.0", CodexSdk.Prebuilt.target())

  defp list(context, archive) do
    sum = Base.encode16(:crypto.hash(:sha256, archive), case: :lower)
    File.write!(sums(context), "#{sum}  #{archive_name()}\n")
  end

  defp archive(%{tmp_dir: dir}) do
    path = Path.join(dir, "made.tar.gz") |> String.to_charlist()
    files = [{~c"libcodex_nif.so", "built nif"}, {~c"codex_launcher", "built launcher"}]
    :ok = :erl_tar.create(path, files, [:compressed])
    File.read!(path)
  end

  defp certificates do
    key = {:rsa, 2048, 65_537}
    name = [{:extensions, [{:Extension, {2, 5, 29, 17}, false, [dNSName: ~c"localhost"]}]}]

    :public_key.pkix_test_data(%{
      server_chain: %{root: [key: key], intermediates: [], peer: [{:key, key} | name]},
      client_chain: %{root: [key: key], intermediates: [], peer: [key: key]}
    })
  end

  defp ok(body), do: ["HTTP/1.1 200 OK\r\ncontent-length: #{byte_size(body)}\r\n\r\n", body]

  # Answers each request with the bytes of `answer`. Returns the URL, and a function that returns
  # the targets of the requests so far.
  defp serve(answer, tls \\ nil) do
    {:ok, log} = Agent.start_link(fn -> [] end)
    {module, scheme} = if tls, do: {:ssl, "https"}, else: {:gen_tcp, "http"}
    options = [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}] ++ (tls || [])
    {:ok, listen} = module.listen(0, options)
    {:ok, {_, port}} = if tls, do: :ssl.sockname(listen), else: :inet.sockname(listen)
    start_supervised!({Task, fn -> accept(module, listen, answer, log) end}, id: port)
    host = if tls, do: "localhost", else: "127.0.0.1"
    {"#{scheme}://#{host}:#{port}", fn -> Agent.get(log, &Enum.reverse/1) end}
  end

  defp accept(module, listen, answer, log) do
    with {:ok, socket} <- connection(module, listen) do
      case module.recv(socket, 0, 10_000) do
        {:ok, {:http_request, :GET, target, _}} ->
          target = target(target)
          Agent.update(log, &[target | &1])
          headers(module, socket)
          module.send(socket, answer.(target))

        _ ->
          :ok
      end

      module.close(socket)
    end

    accept(module, listen, answer, log)
  end

  defp connection(:gen_tcp, listen), do: :gen_tcp.accept(listen)

  defp connection(:ssl, listen) do
    with {:ok, socket} <- :ssl.transport_accept(listen), do: :ssl.handshake(socket, 10_000)
  end

  defp headers(module, socket) do
    with {:ok, {:http_header, _, _, _, _}} <- module.recv(socket, 0, 10_000),
         do: headers(module, socket)
  end

  defp target({:abs_path, path}), do: path
  defp target({:absoluteURI, scheme, host, _port, path}), do: "#{scheme}://#{host}#{path}"
end
