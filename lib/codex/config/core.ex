defmodule Codex.Config.Core do
  @moduledoc """
  Reads the core tables of a configuration as plain maps with atom keys. Missing values get the
  defaults of the CLI, if those are known.

      {:ok, config} = Codex.Config.load()
      Codex.Config.Core.history(config)
      #=> %{persistence: :save_all, max_bytes: nil}
  """

  alias Codex.{Config, FileSystem}
  alias Codex.Config.Project

  # The enum strings of the CLI. Other strings do not become atoms.
  @enums %{
    "save-all" => :save_all,
    "none" => :none,
    "core" => :core,
    "all" => :all,
    "include" => :include,
    "exclude" => :exclude,
    "file" => :file,
    "keyring" => :keyring,
    "auto" => :auto,
    "ephemeral" => :ephemeral,
    "chatgpt" => :chatgpt,
    "api" => :api,
    "read-only" => :read_only,
    "workspace-write" => :workspace_write,
    "danger-full-access" => :danger_full_access,
    "trusted" => :trusted,
    "untrusted" => :untrusted
  }

  @doc """
  Returns how prompts are recorded: `persistence` (default `:save_all`) and `max_bytes` (bytes, nil
  for no limit).
  """
  @spec history(Config.t()) :: %{
          persistence: :save_all | :none,
          max_bytes: non_neg_integer() | nil
        }
  def history(%Config{} = config) do
    %{
      persistence: enum(config, "history.persistence") || :save_all,
      max_bytes: Config.get(config, "history.max_bytes")
    }
  end

  @doc """
  Returns the environment that commands get: `inherit` (nil if not set: everything), `exclude` and
  `include_only` (lists of patterns), `set` (variables to add), and `filters` (patterns mapped to
  `:include` or `:exclude`).
  """
  @spec shell_environment_policy(Config.t()) :: %{
          inherit: :core | :all | :none | nil,
          ignore_default_excludes: boolean() | nil,
          exclude: [String.t()],
          include_only: [String.t()],
          set: %{String.t() => String.t()},
          filters: %{String.t() => :include | :exclude},
          experimental_use_profile: boolean() | nil
        }
  def shell_environment_policy(%Config{} = config) do
    policy = Config.get(config, "shell_environment_policy", %{})

    %{
      inherit: @enums[policy["inherit"]],
      ignore_default_excludes: policy["ignore_default_excludes"],
      exclude: policy["exclude"] || [],
      include_only: policy["include_only"] || [],
      set: policy["set"] || %{},
      filters:
        Map.new(policy["filters"] || %{}, fn {pattern, word} -> {pattern, @enums[word]} end),
      experimental_use_profile: policy["experimental_use_profile"]
    }
  end

  @doc "Returns the store of the login (default `:file`)."
  @spec cli_auth_credentials_store(Config.t()) :: :file | :keyring | :auto | :ephemeral
  def cli_auth_credentials_store(%Config{} = config),
    do: enum(config, "cli_auth_credentials_store") || :file

  @doc "Returns the store of the tokens of MCP servers (default `:auto`)."
  @spec mcp_oauth_credentials_store(Config.t()) :: :file | :keyring | :auto
  def mcp_oauth_credentials_store(%Config{} = config),
    do: enum(config, "mcp_oauth_credentials_store") || :auto

  @doc "Returns the only login method that is allowed, or nil."
  @spec forced_login_method(Config.t()) :: :chatgpt | :api | nil
  def forced_login_method(%Config{} = config), do: enum(config, "forced_login_method")

  @doc "Returns the ids of the workspaces that a login must belong to; `[]` allows every workspace."
  @spec forced_chatgpt_workspace_ids(Config.t()) :: [String.t()]
  def forced_chatgpt_workspace_ids(%Config{} = config),
    do: config |> Config.get("forced_chatgpt_workspace_id", []) |> List.wrap()

  @doc """
  Returns the model settings; values that are not set are nil. Efforts and summaries are strings,
  because models define their own.
  """
  @spec model(Config.t()) :: %{
          model: String.t() | nil,
          review_model: String.t() | nil,
          model_provider: String.t() | nil,
          model_reasoning_effort: String.t() | nil,
          model_reasoning_summary: String.t() | nil,
          model_verbosity: String.t() | nil,
          model_context_window: integer() | nil
        }
  def model(%Config{} = config) do
    %{
      model: Config.get(config, "model"),
      review_model: Config.get(config, "review_model"),
      model_provider: Config.get(config, "model_provider"),
      model_reasoning_effort: Config.get(config, "model_reasoning_effort"),
      model_reasoning_summary: Config.get(config, "model_reasoning_summary"),
      model_verbosity: Config.get(config, "model_verbosity"),
      model_context_window: Config.get(config, "model_context_window")
    }
  end

  @doc "Returns the configured providers by name, unchanged. Built-in providers are not included."
  @spec model_providers(Config.t()) :: %{String.t() => map()}
  def model_providers(%Config{} = config), do: Config.get(config, "model_providers", %{})

  @doc "Returns the command sandbox. `mode` is nil if not set; `writable_roots` are absolute paths."
  @spec sandbox(Config.t()) :: %{
          mode: :read_only | :workspace_write | :danger_full_access | nil,
          writable_roots: [Path.t()],
          network_access: boolean(),
          exclude_tmpdir_env_var: boolean(),
          exclude_slash_tmp: boolean()
        }
  def sandbox(%Config{} = config) do
    details = Config.get(config, "sandbox_workspace_write", %{})

    %{
      mode: enum(config, "sandbox_mode"),
      writable_roots: details["writable_roots"] || [],
      network_access: details["network_access"] || false,
      exclude_tmpdir_env_var: details["exclude_tmpdir_env_var"] || false,
      exclude_slash_tmp: details["exclude_slash_tmp"] || false
    }
  end

  @doc "Returns the names of files and directories that mark a project root (default `[\".git\"]`)."
  @spec project_root_markers(Config.t()) :: [String.t()]
  def project_root_markers(%Config{} = config),
    do: Config.get(config, "project_root_markers", [".git"])

  @doc "Returns the project root of a directory, or the directory itself if there is no marker."
  @spec project_root(Config.t(), Path.t()) :: Path.t()
  def project_root(%Config{} = config, cwd) when is_binary(cwd),
    do:
      Project.find(Path.expand(cwd), %{"project_root_markers" => project_root_markers(config)}).root

  @doc "Returns the trust level that is configured for exactly this directory, or nil."
  @spec trust(Config.t(), Path.t()) :: :trusted | :untrusted | nil
  def trust(%Config{} = config, dir) when is_binary(dir),
    do: enum(config, ["projects", Path.expand(dir), "trust_level"])

  @doc "Returns the features that are set, by name: a boolean or a table of settings."
  @spec features(Config.t()) :: %{String.t() => boolean() | map()}
  def features(%Config{} = config), do: Config.get(config, "features", %{})

  @doc """
  Returns whether a feature is on or off, or nil if no layer sets it. In a table of settings, the
  key `enabled` decides.
  """
  @spec feature_enabled?(Config.t(), String.t()) :: boolean() | nil
  def feature_enabled?(%Config{} = config, name) when is_binary(name) do
    case features(config)[name] do
      %{} = settings -> settings["enabled"]
      value -> value
    end
  end

  @doc "Returns the sorted names of the profiles that have a file in the home."
  @spec profiles(Config.t()) :: [String.t()]
  def profiles(%Config{home: home}) do
    for {:ok, names} <- [FileSystem.list(home)],
        name <- names,
        [_, profile] <- [Regex.run(~r/\A([A-Za-z0-9_-]+)\.config\.toml\z/, name)],
        do: profile
  end

  @doc "Returns the table `[otel]` unchanged, or an empty map."
  @spec otel(Config.t()) :: map()
  def otel(%Config{} = config), do: Config.get(config, "otel", %{})

  defp enum(config, key), do: @enums[Config.get(config, key)]
end
