defmodule Codex.SkillsTest do
  use ExUnit.Case, async: true

  alias Codex.{Config, JSON, Skills}

  @moduletag :tmp_dir

  # Every case of the home in `test/fixtures/skills/files.json`, which is a home of recorded lists.
  @files "test/fixtures/skills/files.json" |> File.read!() |> JSON.decode() |> elem(1)

  defp write(path, text) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  defp fill(context) do
    for {name, content} <- @files do
      path = place(name, context)

      case content do
        %{"base64" => bytes} -> write(path, Base.decode64!(bytes))
        %{"link" => target} -> link(place(target, context), path)
        text -> write(path, text)
      end
    end

    write(Path.join(context.work, ".git/HEAD"), "ref: refs/heads/main\n")
  end

  defp link(target, path) do
    File.mkdir_p!(Path.dirname(path))
    File.ln_s!(target, path)
  end

  defp place("home/" <> rest, context), do: Path.join(context.home, rest)
  defp place("user/" <> rest, context), do: Path.join(context.user, rest)
  defp place("work/" <> rest, context), do: Path.join(context.work, rest)
  defp place("away/" <> rest, context), do: Path.join(context.away, rest)

  setup %{tmp_dir: dir} do
    places = Map.new([:home, :user, :work, :away], &{&1, Path.join(dir, "#{&1}")})
    for {_name, path} <- places, do: File.mkdir_p!(path)
    Map.put(places, :env, %{"HOME" => places.user, "CODEX_HOME" => places.home})
  end

  defp list!(context, opts \\ []) do
    {:ok, %{"data" => data}} =
      Skills.list(:home, [env: context.env, cwds: [context.work]] ++ opts)

    data
  end

  defp names([%{"skills" => skills}]), do: Enum.map(skills, & &1["name"])

  describe "with the CLI" do
    @describetag :codex_cli

    # An added file or folder of the server itself would show in both lists.
    @tag :cli_pin
    test "the server's list of every case is ours", context do
      model = Codex.Test.start!([])
      context = %{context | home: model.home}
      context = %{context | env: %{context.env | "CODEX_HOME" => model.home}}
      fill(context)
      settings = Path.join(model.home, "config.toml")

      File.write!(settings, """
      #{File.read!(settings)}
      [[skills.config]]
      path = "#{model.home}/skills/linked/SKILL.md"
      enabled = false
      [[skills.config]]
      path = "#{model.home}/skills/off/SKILL.md"
      enabled = false
      [[skills.config]]
      name = "offname"
      enabled = false
      [[skills.config]]
      name = "dup"
      enabled = false
      [[skills.config]]
      path = "#{model.home}/skills/dup2/SKILL.md"
      enabled = true
      [[skills.config]]
      path = "#{model.home}/skills/plain/SKILL.md"
      name = "plain"
      enabled = false
      """)

      options = Codex.Test.options(model)
      options = Keyword.update(options, :env, context.env, &Map.merge(&1, context.env))
      {:ok, conn} = Codex.AppServer.connect(options, cwd: context.work)
      on_exit(fn -> Codex.AppServer.disconnect(conn) end)
      cwds = [context.work, Path.join(context.work, "sub"), context.away, "/no/such/directory"]

      {:ok, %{"data" => theirs}} = Skills.list(conn, cwds: cwds, force_reload: true)
      {:ok, %{"data" => ours}} = Skills.list(:home, cwds: cwds, env: context.env)

      for {their, our} <- Enum.zip(theirs, ours) do
        assert Enum.map(our["skills"], & &1["path"]) == Enum.map(their["skills"], & &1["path"])
        assert our["skills"] == their["skills"]
        assert our["errors"] == Enum.sort_by(their["errors"], & &1["path"])
      end

      assert Enum.map(ours, & &1["cwd"]) == Enum.map(theirs, & &1["cwd"])
      assert length(hd(ours)["skills"]) > 25 and length(hd(ours)["errors"]) > 6

      # A change by one is seen by the other.
      {:ok, %{"effectiveEnabled" => false}} = Skills.disable(conn, {:name, "colon"})
      refute enabled?(list!(context), "colon")
      {:ok, _} = Skills.enable(:home, {:name, "colon"}, env: context.env)
      {:ok, _} = Skills.disable(:home, {:name, "crlf"}, env: context.env)
      {:ok, %{"data" => data}} = Skills.list(conn, cwds: [context.work], force_reload: true)
      assert enabled?(data, "colon") and not enabled?(data, "crlf")
      assert data == list!(context) or hd(data)["skills"] == hd(list!(context))["skills"]
    end
  end

  defp enabled?([%{"skills" => skills}], name),
    do: Enum.find(skills, &(&1["name"] == name))["enabled"]

  test "the recorded names of a home, and the reasons of its problems", context do
    fill(context)
    [%{"errors" => errors}] = data = list!(context)
    assert "linked" in names(data) and "[a" in names(data) and "inner" in names(data)
    for name <- ~w(hidden deep8 homecodex lower subdir), do: refute(name in names(data))

    {:ok, problems} = Skills.problems(env: context.env, cwds: [context.work])
    reasons = Map.new(problems, &{&1.path |> Path.dirname() |> Path.basename(), &1.reason})

    assert %{"bin" => :unreadable, "bom" => :missing_front_matter, "longname" => :invalid_field} =
             reasons

    assert %{"nodesc" => :missing_field, "badquote" => :invalid_yaml} = reasons
    assert %{"agents" => :invalid_interface} = reasons
    assert length(errors) == length(problems) - 1
  end

  test "a change keeps other rules and other lines, and enabling removes the rule", context do
    fill(context)
    file = Path.join(context.home, "config.toml")

    File.write!(
      file,
      "# mine\nmodel = \"m\" # kept\n[skills]\nconfig = [{name = \"b\", enabled = false}]\n"
    )

    before = File.read!(file)
    path = Path.join(context.home, "skills/plain/SKILL.md")

    {:ok, %{file: ^file}} = Skills.disable(:home, {:path, path}, env: context.env)
    text = File.read!(file)
    assert text =~ "# mine\nmodel = \"m\" # kept\n"
    refute enabled?(list!(context), "plain")

    {:ok, _} = Skills.enable(:home, %{"path" => path}, env: context.env)
    assert enabled?(list!(context), "plain")
    {:ok, config} = Config.load(codex_home: context.home, cwd: false)
    assert Config.get(config, "skills.config") == [%{"name" => "b", "enabled" => false}]
    assert {:ok, _} = Skills.enable(:home, {:name, "b"}, env: context.env)
    refute File.read!(file) =~ "enabled"
    assert before =~ "enabled"
    # By a name that newer compilers do not check.
    disable = :erlang.make_fun(Skills, :disable, 3)
    assert_raise ArgumentError, fn -> disable.(:home, "plain", env: context.env) end
  end

  test "an administrator's skills, without bundled skills", context do
    system = Path.join(context.away, "etc")
    skill = "---\ndescription: d\n---\n"
    write(Path.join(system, "skills/ours/SKILL.md"), skill)
    write(Path.join(context.home, "skills/.system/theirs/SKILL.md"), skill)
    assert [%{"skills" => skills}] = list!(context, system_dir: system)

    assert Enum.map(skills, &{&1["name"], &1["scope"]}) == [
             {"theirs", "system"},
             {"ours", "admin"}
           ]

    File.write!(Path.join(context.home, "config.toml"), "[skills.bundled]\nenabled = false\n")
    assert names(list!(context, system_dir: system)) == ["ours"]
  end

  test "loads a text by path, and needs no feature", context do
    fill(context)
    File.write!(Path.join(context.home, "config.toml"), "[features]\nskills = false\n")
    [%{"skills" => skills}] = list!(context)
    skill = Enum.find(skills, &(&1["name"] == "plain"))
    assert {:ok, "---\nname: plain" <> _ = text} = Skills.load(skill)
    assert Skills.load(skill["path"]) == {:ok, text}
    assert Skills.load(%{path: skill["path"]}, skills_enabled: false) == {:ok, text}
    assert Skills.load(%{}) == {:error, :missing_path}
    assert Skills.load("/no/such/file") == {:error, :enoent}
  end

  defmodule Fake do
    def skills_list(conn, params), do: {:ok, %{"data" => [conn, params]}}
    def skills_config_write(conn, params), do: {:ok, %{"was" => [conn, params]}}
  end

  test "shapes of calls with a connection; options of a feature gate are ignored" do
    opts = [cwds: ["/a"], force_reload: true, skills_enabled: false, app_server: Fake]
    assert {:ok, %{"data" => [:c, params]}} = Skills.list(:c, [config: %{}, cwd: "/"] ++ opts)
    assert Enum.sort(params) == [cwds: ["/a"], force_reload: true]

    assert {:ok, %{"was" => [:c, %{"path" => "/p", "enabled" => true}]}} =
             Skills.enable(:c, %{"path" => "/p"}, app_server: Fake)
  end

  test "a loop of links ends", context do
    write(Path.join(context.home, "skills/a/SKILL.md"), "---\ndescription: d\n---\n")
    File.ln_s!(Path.join(context.home, "skills"), Path.join(context.home, "skills/a/again"))
    assert names(list!(context)) == ["a"]
  end
end
