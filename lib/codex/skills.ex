defmodule Codex.Skills do
  @moduledoc """
  Lists, reads, enables and disables skills: folders with a file `SKILL.md`.

      {:ok, %{"data" => [%{"skills" => skills, "errors" => errors}]}} = Codex.Skills.list()
      {:ok, text} = Codex.Skills.load(hd(skills))
      {:ok, _} = Codex.Skills.disable(:home, {:name, "deploy"})

  The first argument is a connection to an app-server, or `:home` for the files of this machine.
  Both give the same list, except for skills of installed plugins, which only a server lists. With
  `:home`, no CLI runs.

  Skills are searched at most 6 folders below these roots; hidden folders are left out:

    * scope `"repo"`: `.codex/skills` and `.agents/skills` of the working directory and of its
      parents up to the project root, whether the project is trusted or not
    * scope `"user"`: `skills` of the CLI's home, and `~/.agents/skills`
    * scope `"system"`: `skills/.system` of the home, with the skills that the CLI unpacks at its
      start, unless `skills.bundled.enabled` is false
    * scope `"admin"`: `/etc/codex/skills`

  The front matter of a skill needs a `description`; its `name` (default: the folder) has at most 64
  characters. A skill in a folder of a plugin (`.codex-plugin/plugin.json`) is called
  `plugin:skill`.
  """

  alias Codex.{AppServer, Config, FileSystem, JSON, Native, NativePool}
  alias Codex.Options.{Schema, Type}
  alias Codex.Skills.{Roots, Rules}

  @typedoc "A connection, or `:home` for the files of this machine."
  @type target :: AppServer.conn() | :home

  @typedoc """
  A skill, as in the answer to `skills/list`: `"name"`, `"description"`, `"path"`, `"scope"`,
  `"enabled"`, `"pluginId"`, and perhaps `"shortDescription"`, `"interface"`, `"dependencies"`.
  """
  @type skill :: %{String.t() => term()}

  @typedoc "The skills that a change is about: a path, all skills of a name, or a listed skill."
  @type selector :: {:path, Path.t()} | {:name, String.t()} | skill()

  @typedoc """
  A file or directory that was not read. `reason` is `:unreadable`, `:missing_front_matter`,
  `:invalid_yaml`, `:missing_field`, `:invalid_field` (the skill is not listed),
  `:invalid_interface` (the skill is listed without `agents/openai.yaml`), `:unreadable_directory`
  or `:limit` (2,000 directories or 20,000 entries below a root).
  """
  @type problem :: %{path: Path.t(), reason: atom(), message: String.t()}

  @home [
    {:codex_home, :os_path, "the CLI's home", shown: "see `Codex.Home.resolve/1`"},
    {:env, :environment, "the environment that `CODEX_HOME` and `HOME` are read from",
     secret: true, shown: "the environment of the VM"},
    {:profile, :text, "the name of a profile", shown: "no profile"},
    {:overrides, {:list, :text}, "the values of `-c`", default: [], secret: true},
    {:system_dir, :os_path, "the directory of the system's files", default: "/etc/codex"},
    {:timeout, :milliseconds, "the time limit for reading all files", default: 5_000}
  ]
  @cwds {:cwds, {:list, :text}, "the working directories, one entry of `\"data\"` for each",
         default: [], shown: "the current directory"}
  # Options of earlier releases: skills need no feature.
  @ignored for name <- [:skills_enabled, :config, :codex_home, :cwd], do: {name, :any, "ignored"}
  @always {:force_reload, :boolean, "ignored: files are always read"}
  @offline Schema.new([@cwds, @always | @home])
  @reload {:force_reload, :boolean, "makes the server read the files again"}
  @server {:app_server, :any, "a module in place of `Codex.AppServer`"}
  @online Schema.new([@cwds, @reload, @server | @ignored])
  @write [:codex_home, :env, :profile, :timeout]

  @doc """
  Lists the skills of working directories:
  `{:ok, %{"data" => [%{"cwd" => cwd, "skills" => skills, "errors" => errors}]}}`.

  Skills are in the order of their scopes (repo, user, system, admin), names and paths; several may
  have one name. An entry of `"errors"` has the `"path"` of a `SKILL.md` that is not listed, and a
  `"message"`.

  Options with `:home`:

  #{Schema.docs(@offline)}

  Options with a connection: `:cwds`, `:force_reload`, and `:app_server`, a module in place of
  `Codex.AppServer`. Errors: a `Codex.Config.Error`, the reason of a file, or those of a request.
  Raises `Codex.OptionError`.
  """
  @spec list(target(), keyword()) ::
          {:ok, map()}
          | {:error, Config.Error.t() | Codex.Reason.file() | AppServer.reason()}
  def list(target \\ :home, opts \\ [])

  def list(:home, opts) do
    opts = Schema.validate!(@offline, opts)

    with {:ok, entries} <- entries(opts) do
      {:ok, %{"data" => Enum.map(entries, &Map.delete(&1, :problems))}}
    end
  end

  def list(conn, opts) do
    opts = Schema.validate!(@online, opts)

    params =
      for {name, value} <- Map.take(opts, [:cwds, :force_reload]), value != nil, do: {name, value}

    (opts.app_server || AppServer).skills_list(conn, params)
  end

  @doc """
  Lists the problems of the files on this machine, with reasons: `{:ok, problems}`. Some of them
  are unknown to `list/2`: the CLI ignores them silently. Options and errors: those of `list/2` with
  `:home`.
  """
  @spec problems(keyword()) ::
          {:ok, [problem()]} | {:error, Config.Error.t() | Codex.Reason.file()}
  def problems(opts \\ []) do
    with {:ok, entries} <- @offline |> Schema.validate!(opts) |> entries(),
         do: {:ok, entries |> Enum.flat_map(& &1.problems) |> Enum.uniq()}
  end

  @doc """
  Returns the text of a skill: of a listed skill, or of the path of its `SKILL.md`. Errors:
  `:missing_path`, and the reason of a file (see `t:Codex.Reason.file/0`). `opts` are ignored.
  """
  @spec load(skill() | %{path: Path.t()} | Path.t(), keyword()) ::
          {:ok, String.t()} | {:error, :missing_path | Codex.Reason.file()}
  def load(skill, opts \\ [])
  def load(%{"path" => path}, opts) when is_binary(path), do: load(path, opts)
  def load(%{path: path}, opts) when is_binary(path), do: load(path, opts)
  def load(path, _opts) when is_binary(path) and path != "", do: FileSystem.read(path)
  def load(_other, _opts), do: {:error, :missing_path}

  @doc """
  Enables skills that `skills.config` disables. See `disable/3`.
  """
  @spec enable(target(), selector(), keyword()) ::
          {:ok, map()} | {:error, Config.Error.t() | AppServer.reason()}
  def enable(target, selector, opts \\ []), do: set(target, selector, true, opts)

  @doc """
  Disables skills in `skills.config` of the user's `config.toml`: `{:ok, result}`. A disabled skill
  is listed with `"enabled" => false`. Names and paths of no skill are written, too.

  With `:home`, takes `:codex_home`, `:env`, `:profile` and `:timeout` of `Codex.Config.batch/2` and
  returns its results. With a connection, returns the answer of the server; the only option is
  `:app_server`. Raises `ArgumentError` for an invalid selector.
  """
  @spec disable(target(), selector(), keyword()) ::
          {:ok, map()} | {:error, Config.Error.t() | AppServer.reason()}
  def disable(target, selector, opts \\ []), do: set(target, selector, false, opts)

  defp set(:home, selector, enabled, opts) do
    {key, value} = selected(selector)
    opts = Keyword.take(Schema.pairs!(opts), @write)
    Rules.write({key, if(key == "path", do: Path.expand(value), else: value)}, enabled, opts)
  end

  defp set(conn, selector, enabled, opts) do
    {key, value} = selected(selector)
    module = Keyword.get(opts, :app_server, AppServer)
    module.skills_config_write(conn, %{key => value, "enabled" => enabled})
  end

  defp selected({:path, path}) when is_binary(path), do: {"path", path}
  defp selected({:name, name}) when is_binary(name), do: {"name", name}
  defp selected(%{"path" => path}) when is_binary(path), do: {"path", path}

  defp selected(other) do
    raise ArgumentError,
          "expected {:path, path}, {:name, name} or a listed skill, got: #{Type.kind(other)}"
  end

  defp entries(opts) do
    cwds = if opts.cwds == [], do: [File.cwd!()], else: opts.cwds

    Enum.reduce_while(cwds, {:ok, []}, fn cwd, {:ok, done} ->
      case entry(cwd, opts) do
        {:ok, entry} -> {:cont, {:ok, done ++ [entry]}}
        error -> {:halt, error}
      end
    end)
  end

  defp entry(cwd, opts) do
    dir = Path.expand(cwd)
    user_home = if opts.env, do: opts.env["HOME"], else: System.user_home()

    with {:ok, config} <- Config.load([cwd: dir] ++ config_options(opts)),
         roots = Roots.of(config, dir, user_home, opts.system_dir),
         rules = Rules.of(config),
         {:ok, scans, rules} <- scan(roots, rules, opts.timeout) do
      scanned = Enum.zip(roots, scans)

      skills =
        for {root, scan} <- scanned, skill <- scan["skills"] do
          Map.merge(skill, %{"scope" => root.scope, "enabled" => true, "pluginId" => nil})
        end

      problems = for {root, scan} <- scanned, problem <- scan["problems"], do: {root, problem}

      {:ok,
       %{
         :problems => for({_root, problem} <- problems, do: problem(problem)),
         "cwd" => cwd,
         "skills" => skills |> Enum.uniq_by(& &1["path"]) |> Rules.apply(rules) |> sort(),
         "errors" =>
           for({root, problem} <- problems, reported?(root, problem), do: error(problem))
       }}
    end
  end

  defp config_options(opts) do
    for name <- [:codex_home, :env, :profile, :overrides, :system_dir, :timeout],
        value = Map.fetch!(opts, name),
        do: {name, value}
  end

  defp scan(roots, rules, timeout) do
    places = for root <- roots, do: {root.path, root.links}
    paths = for {"path", path, _enabled} <- rules, do: path

    with {:ok, json} <- NativePool.call(&Native.skills_scan(&1, &2, places, paths), timeout) do
      {:ok, [scans, resolved]} = JSON.decode(json)
      names = paths |> Enum.zip(resolved) |> Map.new()

      {:ok, scans,
       for({key, value, enabled} <- rules, do: {key, Map.get(names, value, value), enabled})}
    end
  end

  @ranks %{"repo" => 0, "user" => 1, "system" => 2, "admin" => 3}
  defp sort(skills), do: Enum.sort_by(skills, &{@ranks[&1["scope"]], &1["name"], &1["path"]})

  @listed ~w(unreadable missing_front_matter invalid_yaml missing_field invalid_field)
  defp reported?(root, problem), do: root.scope != "system" and problem["reason"] in @listed

  defp error(problem), do: Map.take(problem, ["path", "message"])

  @reasons Map.new(
             @listed ++ ~w(invalid_interface unreadable_directory limit),
             &{&1, String.to_atom(&1)}
           )
  defp problem(%{"path" => path, "reason" => reason, "message" => message}),
    do: %{path: path, reason: Map.fetch!(@reasons, reason), message: message}
end
