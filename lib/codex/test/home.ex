defmodule Codex.Test.Home do
  @moduledoc false
  # The directories of a server: a CODEX_HOME with config.toml, a HOME for the shell, and a
  # workspace.

  alias Codex.TemporaryDirectories

  @enforce_keys [:home, :user_home, :workspace, :owned]
  defstruct [:home, :user_home, :workspace, :owned]

  @type t :: %__MODULE__{
          home: Path.t(),
          user_home: Path.t(),
          workspace: Path.t(),
          owned: [Path.t()]
        }

  # The fields that the CLI requires, and the few that give a model plain function tools
  # (`shell_type`, `apply_patch_tool_type`). The tools of built-in models depend on the slug, and an
  # unknown slug causes an `error` item in every turn.
  @model %{
    display_name: "Codex.Test",
    base_instructions: "You are a scripted model.",
    supported_reasoning_levels:
      for(effort <- ~w(low medium high xhigh), do: %{effort: effort, description: effort}),
    default_reasoning_level: "medium",
    shell_type: "unified_exec",
    apply_patch_tool_type: "freeform",
    visibility: "list",
    supported_in_api: true,
    priority: 1,
    support_verbosity: true,
    truncation_policy: %{mode: "tokens", limit: 10_000},
    experimental_supported_tools: [],
    input_modalities: ["text", "image"],
    context_window: 272_000,
    # Required by CLIs up to 0.145, and unknown to later ones.
    supports_parallel_tool_calls: true,
    supports_reasoning_summaries: true
  }

  @doc "Makes the directories and the configuration for a server that listens at `url`."
  @spec create!(map(), String.t()) :: t()
  def create!(opts, url) do
    root = fresh!(opts.dir || default_dir())

    try do
      fill!(root, opts, url)
    rescue
      error ->
        _ = File.rm_rf(root)
        _ = TemporaryDirectories.forget([root])
        reraise error, __STACKTRACE__
    end
  end

  defp fill!(root, opts, url) do
    home = mkdir!(Path.join(root, "home"))
    user_home = mkdir!(Path.join(root, "user"))
    catalog = Path.join(home, "models.json")
    :ok = Codex.Home.mark(home)

    File.write!(catalog, Codex.JSON.encode!(%{models: Enum.map(opts.models, &model/1)}))
    File.write!(Path.join(home, "config.toml"), config(opts, url, catalog))

    {workspace, owned} = workspace!(opts)
    %__MODULE__{home: home, user_home: user_home, workspace: workspace, owned: [root | owned]}
  end

  @doc """
  Removes the directories of `create!/2`. A CLI that is about to end (`busy?`) still writes there
  and makes removed directories again, so this repeats for half a second.
  """
  @spec remove(t(), busy? :: boolean()) :: :ok
  def remove(%__MODULE__{owned: owned}, busy?) do
    :ok = remove(owned, busy?, 10)
    _ = TemporaryDirectories.forget(owned)
    :ok
  end

  defp remove(dirs, busy?, tries) do
    gone? = dirs |> Enum.map(&File.rm_rf/1) |> Enum.all?(&match?({:ok, _}, &1))

    if tries > 1 and (busy? or not gone?) do
      Process.sleep(50)
      remove(dirs, busy?, tries - 1)
    else
      :ok
    end
  end

  defp model(slug), do: Map.put(@model, :slug, slug)

  # Dotted keys only, so that `config` may continue with keys or open its own tables. Without the
  # first lines the CLI would look up hosts outside this machine. With connection retries, a CLI
  # that outlives its server would never end.
  defp config(opts, url, catalog) do
    """
    analytics.enabled = false
    features.plugins = false
    features.unbounded_connection_retries = false
    model = #{toml(hd(opts.models))}
    model_catalog_json = #{toml(catalog)}
    model_provider = "mock"
    model_providers.mock.name = "mock"
    model_providers.mock.base_url = #{toml(url)}
    model_providers.mock.wire_api = "responses"
    model_providers.mock.request_max_retries = #{opts.retries}
    model_providers.mock.stream_max_retries = #{opts.retries}
    tools.update_plan.enabled = true
    #{opts.config}
    """
  end

  # A JSON string is a TOML basic string, except for the DEL character.
  defp toml(text), do: text |> Codex.JSON.encode!() |> String.replace("\x7F", "\\u007F")

  # The workspace is not under the build directory: the user's repository would be its project root,
  # and the model would get its AGENTS.md.
  defp workspace!(%{workspace: nil} = opts) do
    if opts.git and System.find_executable("git") == nil,
      do: raise("git: true needs `git` on PATH")

    dir = fresh!(System.tmp_dir!())
    if opts.git, do: git_init!(dir)
    {dir, [dir]}
  end

  defp workspace!(%{workspace: dir}), do: {Path.expand(dir), []}

  defp git_init!(dir) do
    {out, status} = System.cmd("git", ["init", "--quiet", dir], stderr_to_stdout: true)
    if status != 0, do: raise("git init #{dir} failed with exit status #{status}: #{out}")
  end

  # The CLI warns on stderr about a home inside the system's temporary directory.
  defp default_dir do
    mix? = List.keymember?(Application.started_applications(), :mix, 0)

    if mix? and Mix.Project.get() != nil,
      do: Path.join(Mix.Project.build_path(), "codex_test"),
      else: System.tmp_dir!()
  end

  # 80 random bits are unique across processes and restarts of the VM.
  defp fresh!(parent) do
    parent = Path.expand(parent)
    File.mkdir_p!(parent)
    suffix = Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
    dir = Path.join(parent, "codex_test-" <> suffix)
    # Without the application, the server alone removes it.
    _ = TemporaryDirectories.adopt([dir], self(), :leave)
    mkdir!(dir)
  end

  defp mkdir!(dir) do
    case Codex.FileSystem.make_private(dir) do
      :ok -> dir
      {:error, reason} -> raise "cannot make #{dir}: #{Codex.FileSystem.message(reason)}"
    end
  end
end
