defmodule Codex.ModelsTest do
  use ExUnit.Case, async: true

  import Codex.ModelsCase
  import ExUnit.CaptureLog
  alias Codex.{Error, Models, Stub}
  alias Codex.Models.{Catalog, Query}

  @moduletag :tmp_dir

  setup %{tmp_dir: dir}, do: %{home: home!(dir)}

  defp models(catalog), do: Enum.map(catalog.presets, & &1.model)
  defp prints(slug), do: ~s(echo '{"models":[{"slug":"#{slug}","visibility":"list"}]}')

  test "each call asks the CLI, which alone keeps a cache", %{tmp_dir: dir, home: home} do
    codex = stub!(dir, prints("a"))
    opts = [codex_home: home, codex_path: codex]

    for more <- [[], [], [refresh: true], [bundled: true], [working_directory: dir]],
        do: assert({:ok, %{source: :cli}} = Models.fetch(more ++ opts))

    assert runs(dir) == 5
    assert {:ok, catalog} = Models.fetch(codex_home: home, codex_path: stub!(dir, prints("b")))
    assert models(catalog) == ["b"]

    # A failure is not kept either.
    assert {:error, %Error{kind: :crashed}} =
             Models.fetch(codex_home: home, codex_path: stub!(dir, "exit 1"))

    assert {:ok, _} = Models.fetch(opts)
    assert File.ls!(home) == []
  end

  test "many callers at once", %{tmp_dir: dir, home: home} do
    opts = [codex_home: home, codex_path: stub!(dir, prints("shared")), timeout: 60_000]
    callers = for _ <- 1..20, do: Task.async(fn -> Models.fetch(opts) end)

    for {:ok, catalog} <- Task.await_many(callers, 60_000),
        do: assert(models(catalog) == ["shared"])

    assert runs(dir) == 20
  end

  describe "how the CLI is run" do
    test "its home, directory, arguments, and no more of the environment than it needs",
         context do
      %{tmp_dir: dir, home: home} = context

      codex =
        stub!(dir, """
        env > #{dir}/env
        pwd > #{dir}/pwd
        [ -t 0 ] || read line && exit 3
        #{prints("a")}
        """)

      System.put_env("CODEX_SDK_TEST_SECRET", "not for others")
      on_exit(fn -> System.delete_env("CODEX_SDK_TEST_SECRET") end)

      opts = [codex_home: home, codex_path: codex, cwd: home, env: %{MINE: "1", LANG: nil}]
      assert {:ok, catalog} = Models.fetch([bundled: true] ++ opts)
      assert catalog.cli_version == Codex.CLI.Program.tested_version()

      assert File.read!(Path.join(dir, "runs")) == "debug models --bundled\n"
      assert String.trim(File.read!(Path.join(dir, "pwd"))) == home
      env = File.read!(Path.join(dir, "env"))
      assert env =~ "CODEX_HOME=#{home}\n"
      assert env =~ "MINE=1\n"
      refute env =~ ~r/^LANG=/m
      refute env =~ "CODEX_SDK_TEST_SECRET"
    end

    test "the output may be long", %{tmp_dir: dir, home: home} do
      codex =
        stub!(dir, """
        printf '{"models":['
        i=0; while [ $i -lt 2000 ]; do
          printf '{"slug":"m%d","base_instructions":"%01000d"},' $i 0; i=$((i+1))
        done
        printf '{"slug":"last"}]}'
        """)

      assert {:ok, %{presets: presets}} = Models.fetch(codex_home: home, codex_path: codex)
      assert length(presets) == 2001
    end

    test "one that never ends is ended, and so is one that never stops printing", context do
      %{tmp_dir: dir, home: home} = context
      hangs = stub!(dir, "echo $$ > #{dir}/pid; exec sleep 600")
      opts = [codex_home: home, codex_path: hangs, timeout: 2_000]
      assert {:error, %Error{kind: :timeout, details: %{timeout_ms: 2_000}}} = Models.fetch(opts)
      pid = dir |> Path.join("pid") |> File.read!() |> String.trim()
      refute Stub.alive?(pid)

      floods = stub!(dir, "exec yes")

      assert {:error, %Error{kind: :protocol} = error} =
               Models.fetch(codex_home: home, codex_path: floods)

      assert error.message =~ "over 16777216 bytes"
      assert Stub.running(floods) == []
    end
  end

  describe "errors" do
    test "of a CLI that answers otherwise", %{tmp_dir: dir, home: home} do
      fetch = &Models.fetch(codex_home: home, codex_path: stub!(dir, &1))

      assert {:error, %Error{kind: :crashed} = error} =
               fetch.(
                 "echo WARNING: x >&2; echo Error: no good >&2; echo '  | secret' >&2; exit 1"
               )

      assert error.message == "codex debug models exited with status 1: Error: no good"
      assert %{exit_status: 1, stderr: "WARNING: x\nError: no good\n  | secret"} = error.details

      assert {:error, %Error{kind: :crashed, message: message}} = fetch.("exit 7")
      assert message =~ "it printed no message"

      assert {:error, %Error{kind: :killed, details: %{signal: :kill}}} = fetch.("kill -9 $$")

      assert {:error, %Error{kind: :cli_unsupported}} =
               fetch.("echo \"error: unrecognized subcommand 'models'\" >&2; exit 2")

      assert {:error, %Error{kind: :crashed, details: %{stderr: "a\uFFFDb"}}} =
               fetch.("printf 'a\\377b' >&2; exit 1")

      for body <- [
            "exit 0",
            "echo hello",
            "echo '{}'",
            ~s(echo '{"models":[]}'),
            ~s(echo '{"models":3}')
          ],
          do: assert({:error, %Error{kind: :protocol}} = fetch.(body))
    end

    test "of a CLI that cannot be run", %{tmp_dir: dir, home: home} do
      for {path, code} <- [
            {Path.join(dir, "none"), :codex_binary_missing},
            {dir, :codex_binary_not_regular},
            {path("README.md"), :codex_binary_not_executable}
          ] do
        assert {:error, %Error{kind: :cli_not_found} = error} =
                 Models.fetch(codex_home: home, codex_path: path)

        assert error.details == %{code: code}
        assert error.message =~ path
      end

      text = Path.join(dir, "text")
      File.write!(text, "#!/no/such/interpreter\n")
      File.chmod!(text, 0o755)

      assert {:error, %Error{kind: :cli_not_found, details: %{code: :enoent}}} =
               Models.fetch(codex_home: home, codex_path: text)
    end

    test "of a home or directory that is not there", %{tmp_dir: dir, home: home} do
      none = Path.join(dir, "none")

      assert {:error, %Error{kind: :config, details: %{code: :missing_home}} = error} =
               Models.fetch(codex_home: none)

      assert error.message =~ none

      assert {:error, %Error{kind: :config, details: %{code: :missing_cwd}}} =
               Models.fetch(codex_home: home, cwd: none)
    end

    test "misuse raises, and shows no variable" do
      assert_raise Codex.OptionError, ~r/:tiemout; did you mean :timeout\?/, fn ->
        Models.fetch(tiemout: 1)
      end

      assert_raise Codex.OptionError, ~r/:timeout must be a positive integer.*, got: 0/, fn ->
        Models.fetch(timeout: 0)
      end

      assert_raise Codex.OptionError, ~r/:source must be .*got: :web/, fn ->
        Models.fetch(source: :web)
      end

      assert_raise Codex.OptionError, ~r/:codex_home/, fn -> Models.fetch(codex_home: 1) end
      assert_raise Codex.OptionError, ~r/:refresh/, fn -> Models.fetch(refresh: "yes") end
      assert_raise Codex.OptionError, ~r/keyword/, fn -> Models.fetch(:refresh) end

      error = assert_raise Codex.OptionError, fn -> Models.fetch(env: %{"KEY" => "sk-1\0"}) end
      refute Exception.message(error) =~ "sk-1"
    end

    test "a query shows no variable", %{home: home} do
      {:ok, query} = Query.new(codex_home: home, env: %{"KEY" => "sk-secret"})
      refute inspect(query) =~ "sk-secret"
    end
  end

  describe "which source wins" do
    test "the CLI, over a fresh cache file", %{tmp_dir: dir, home: home} do
      cache!(home, 1)
      opts = [codex_home: home, codex_path: stub!(dir, prints("own"))]
      assert {:ok, %{source: :cli} = catalog} = Models.fetch(opts)
      assert models(catalog) == ["own"]
      assert {:ok, %{source: :cache}} = Models.fetch([source: :cache] ++ opts)
    end

    test "the cache file, if the CLI cannot answer", %{tmp_dir: dir, home: home} do
      cache!(home, 1)

      for path <- [
            Path.join(dir, "none"),
            stub!(dir, "exit 2"),
            stub!(dir, "exec sleep 600")
          ] do
        opts = [codex_home: home, codex_path: path, timeout: 2_000]
        assert {:ok, %{source: :cache} = catalog} = Models.fetch(opts)
        assert models(catalog) == ["remote-only"]
        assert {:error, %Error{}} = Models.fetch([source: :cli] ++ opts)
      end
    end

    test "but a CLI that refuses is right", %{tmp_dir: dir, home: home} do
      cache!(home, 1)
      opts = [codex_home: home, codex_path: stub!(dir, "exit 1")]
      assert {:error, %Error{kind: :crashed}} = Models.fetch(opts)
    end

    test "and a stale cache file does not count", %{tmp_dir: dir, home: home} do
      cache!(home, 400)
      opts = [codex_home: home, codex_path: Path.join(dir, "none")]
      assert {:error, %Error{kind: :cli_not_found}} = Models.fetch(opts)
    end
  end

  test "list_visible takes modes as text, and options", %{tmp_dir: dir, home: home} do
    codex = stub!(dir, "cat #{path("debug_models.json")}")
    opts = [codex_home: home, codex_path: codex, cwd: dir]
    names = fn mode -> Enum.map(Models.list_visible(mode, opts), & &1.model) end

    {:ok, catalog} = Models.fetch(opts)
    expected = Enum.map(Catalog.visible(catalog, :api), & &1.model)
    assert "gpt-6.1-sol" in expected and "codex-auto-review" not in expected

    for mode <- [:api, "api", :chatgpt, "chatgpt", :other, "other", nil],
        do: assert(names.(mode) == expected)

    assert Models.list_visible(:api, opts) |> hd() |> Map.fetch!(:is_default)
  end

  test "without a catalog, list_visible is empty and warns once", %{
    tmp_dir: dir,
    home: home
  } do
    # `:killed` is a kind that no other test logs.
    opts = [codex_home: home, codex_path: stub!(dir, "echo sk-secret >&2; kill -9 $$")]

    log =
      capture_log(fn ->
        for _ <- 1..3, do: assert(Models.list_visible(:api, opts) == [])
      end)

    assert [_, _] = String.split(log, "has no catalog (:killed)")
    refute log =~ "sk-secret"
  end

  test "versions" do
    for {given, expected} <- [
          {"0.169.0", {0, 169, 0}},
          {" 1.2.3-alpha.4 ", {1, 2, 3}},
          {[0, 60, 1], {0, 60, 1}},
          {"", {0, 0, 0}},
          {"1.2", {0, 0, 0}},
          {[1, 2], {0, 0, 0}},
          {[1, -2, 3], {0, 0, 0}},
          {nil, {0, 0, 0}}
        ],
        do: assert({given, Models.parse_client_version(given)} == {given, expected})
  end
end
