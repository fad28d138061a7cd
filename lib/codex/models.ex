defmodule Codex.Models do
  @moduledoc """
  The models that the CLI knows: which there are, which one it runs of its own accord, and how hard each can think.

      {:ok, catalog} = Codex.Models.fetch()
      Codex.Models.Catalog.default(catalog, :chatgpt).model
      #=> "gpt-6.1-sol"

  No list of models is part of this library. The CLI is asked (`codex debug models`, CLI 0.169.0), and the SDK never fetches one
  over the network itself: where the CLI has a login that allows it, it asks its provider, and keeps the answer in
  `models_cache.json` of its home for 300 seconds; otherwise, or after 5 seconds in vain, it tells what it has built in. Without a
  login it reaches for no network; with `bundled: true` it never does.

  ## Which source wins

  1. The CLI. It alone knows its login and its configuration (`model_catalog_json`), and whether its cache file is of the
     same account and provider.
  2. `models_cache.json`, not older than 300 seconds, where there is no CLI, where it is too old to be asked, or where it does not
     come to an end. A CLI that refuses, for example a broken configuration, is right: that is an error.

  `fetch/1` can be told to take one of them only, or a file; `from_model_list/2` takes what an app-server told. Each catalog
  says its source, its age and the version of the CLI (`Codex.Models.Catalog`).

  ## What is kept

  An answer is kept in the VM for 300 seconds, and a failure, or a cache file instead of the CLI, for 30: at most 64 of them, by home,
  CLI, directory, environment and options, and by the state of `config.toml`, `auth.json` and the CLI's program, so that a change of these is
  seen at once. A change of the file that `model_catalog_json` names is seen later, or with `refresh: true`. Any number of callers
  share one run of the CLI.

  ## Plain answers

  The other functions return plain values for the default home and CLI. They never raise for a model that is not known, and go
  without a catalog where there is none: lists are empty, values nil or false. Each model that the catalog lacks, and each kind of
  failure, is one warning in the log of the VM.

  A model that no catalog knows may be used all the same, and the SDK passes a model or an effort only if you set it. A `model`
  in the user's `config.toml` wins over the default that is told here.
  """

  require Logger

  alias Codex.Error
  alias Codex.Models.{Cache, Catalog, Effort, Query, Source}

  @typedoc """
  A model. `extra` has what else the CLI says about it (`"context_window"`, `"input_modalities"`, `"shell_type"`, …), under
  the CLI's names, which differ between sources; prompts and texts over 4 KiB are left out.

  `supported_in_api` is nil where the source does not say (`:model_list`).
  """
  @type preset :: %{
          id: String.t(),
          model: String.t(),
          display_name: String.t(),
          description: String.t() | nil,
          default_reasoning_effort: effort() | nil,
          supported_reasoning_efforts: [%{effort: effort(), description: String.t() | nil}],
          is_default: boolean(),
          upgrade: upgrade() | nil,
          show_in_picker: boolean(),
          supported_in_api: boolean() | nil,
          extra: %{String.t() => term()}
        }

  @typedoc "An effort that is known is an atom; one that only a catalog names is its text."
  @type effort :: Effort.t() | String.t()

  @typedoc "The model that takes the place of another. What the CLI does not tell (any more) is nil."
  @type upgrade :: %{
          id: String.t(),
          reasoning_effort_mapping: nil,
          migration_config_key: nil,
          model_link: String.t() | nil,
          upgrade_copy: String.t() | nil,
          migration_markdown: String.t() | nil
        }

  @type auth_mode :: :api | :chatgpt

  # --- Catalogs -----------------------------------------------------------------------------------------------------

  @doc """
  The catalog of a home. Options:

  #{Query.docs()}

  `:working_directory` and `:codex_path_override` are other names for `:cwd` and `:codex_path`; what `Codex.Test.options/1`
  returns is taken too. Raises `ArgumentError` for unknown or wrong options. Blocks until the CLI has answered, if it has to
  be asked: for `:timeout`, and up to 5 seconds for its version.

  Errors are a `Codex.Error` of these kinds:

    * `:cli_not_found` - there is no CLI, or it could not be started; `details.code` says why
    * `:cli_unsupported` - the CLI has no `debug models`
    * `:crashed`, `:killed` - the CLI ended without an answer; `details` has `:exit_status` or `:signal`, and `:stderr`
    * `:timeout` - it took longer than `details.timeout_ms`
    * `:protocol` - what it printed is no catalog
    * `:config` - there is no such home (`details.code` is `:missing_home`, `:empty_home`) or directory (`:missing_cwd`), or a
      file cannot serve: `:missing`, `:not_regular`, `:unreadable`, `:too_large` (over 16 MiB), `:not_json`, `:no_models`,
      `:no_time`, `:stale` (`details.age_ms`)
  """
  @spec fetch(keyword()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def fetch(opts \\ []) do
    with {:ok, query} <- Query.new(opts) do
      case Cache.get(Query.key(query), fn -> Source.read(query) end, query.refresh) do
        {:ok, catalog} -> {:ok, Catalog.aged(catalog)}
        {:error, %Error{}} = error -> error
        {:error, {:exited, _}} -> {:error, Error.new(:unknown, "asking for the models failed")}
      end
    end
  end

  @doc """
  The catalog that an app-server's reply to `model/list` holds: `%{"data" => [...]}`, the result of the call. Pages are put
  together by joining their `data`. Options: `:fetched_at` (default now), `:cli_version` (default nil).

  The app-server leaves out hidden models unless `includeHidden` is asked for. Error: a `Codex.Error` of kind `:protocol`,
  where no entry names a model.

      iex> {:ok, catalog} =
      ...>   Codex.Models.from_model_list(%{
      ...>     "data" => [
      ...>       %{
      ...>         "id" => "gpt-6-sol",
      ...>         "displayName" => "GPT-6-Sol",
      ...>         "isDefault" => true,
      ...>         "defaultReasoningEffort" => "medium",
      ...>         "supportedReasoningEfforts" => [%{"reasoningEffort" => "medium", "description" => "Balanced"}]
      ...>       }
      ...>     ]
      ...>   })
      iex> [preset] = catalog.presets
      iex> {catalog.source, preset.model, preset.is_default, preset.default_reasoning_effort}
      {:model_list, "gpt-6-sol", true, :medium}
      iex> preset.supported_reasoning_efforts
      [%{effort: :medium, description: "Balanced"}]
      iex> {:error, error} = Codex.Models.from_model_list(%{"data" => []})
      iex> error.kind
      :protocol
  """
  @spec from_model_list(map(), keyword()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def from_model_list(reply, opts \\ []) when is_map(reply) and not is_struct(reply) do
    opts =
      Codex.Options.Keywords.validate!(opts, fetched_at: DateTime.utc_now(), cli_version: nil)

    case Catalog.new(reply["data"], :model_list, opts) do
      {:ok, catalog} -> {:ok, Catalog.aged(catalog)}
      :error -> {:error, Error.new(:protocol, "the reply to model/list names no model")}
    end
  end

  # --- Models -------------------------------------------------------------------------------------------------------

  @doc "The models to choose from for the way to pay that is set up: `list_visible/2` with what the login says."
  @spec list() :: [preset()]
  def list, do: list_visible(Codex.Auth.infer_auth_mode())

  @doc """
  The models to choose from: those that the CLI shows, for `:api` without those that the API does not have. The mode may be a
  string; one that is unknown counts as `:api`.

  Options as for `fetch/1`. `[]` where there is no catalog.
  """
  @spec list_visible(auth_mode() | String.t(), keyword()) :: [preset()]
  def list_visible(auth_mode \\ :api, opts \\ []) do
    case catalog(opts) do
      nil -> []
      catalog -> Catalog.visible(catalog, mode(auth_mode))
    end
  end

  defp mode(mode) when mode in [:chatgpt, "chatgpt"], do: :chatgpt
  defp mode(_other), do: :api

  @overrides ~w(CODEX_MODEL OPENAI_DEFAULT_MODEL CODEX_MODEL_DEFAULT)

  @doc """
  The default model: the first of the environment variables #{Enum.map_join(@overrides, ", ", &"`#{&1}`")} that is set and not
  blank, whether or not a catalog knows it; else the catalog's default for the way to pay (by default, what the login says);
  else nil.
  """
  @spec default_model(auth_mode() | String.t() | nil) :: String.t() | nil
  def default_model(auth_mode \\ nil) do
    with nil <- Enum.find_value(@overrides, &variable/1),
         %Catalog{} = catalog <- catalog([]),
         %{model: model} <-
           Catalog.default(catalog, mode(auth_mode || Codex.Auth.infer_auth_mode())),
         do: model
  end

  defp variable(name) do
    case String.trim(System.get_env(name, "")) do
      "" -> nil
      value -> value
    end
  end

  @doc "The model's description, or nil."
  @spec description(String.t() | nil) :: String.t() | nil
  def description(model), do: get(model, :description, nil)

  @doc "The model's name for people, or nil."
  @spec display_name(String.t() | nil) :: String.t() | nil
  def display_name(model), do: get(model, :display_name, nil)

  @doc "The model that takes the place of this one, or nil."
  @spec get_upgrade(String.t() | nil) :: upgrade() | nil
  def get_upgrade(model), do: get(model, :upgrade, nil)

  @doc "Whether the API has the model. False for one that is not known, or where that is not told."
  @spec supported_in_api?(String.t() | nil) :: boolean()
  def supported_in_api?(model), do: get(model, :supported_in_api, false) == true

  @doc "Whether the model may run commands: true unless its shell is disabled, or it is not known."
  @spec tool_enabled?(String.t() | nil) :: boolean()
  def tool_enabled?(model) do
    case find(model) do
      nil -> false
      preset -> preset.extra["shell_type"] != "disabled"
    end
  end

  # --- Efforts ------------------------------------------------------------------------------------------------------

  @doc "The effort with which the CLI runs a model unless told otherwise; nil for nil, and for a model that is not known."
  @spec default_reasoning_effort(String.t() | nil) :: effort() | nil
  def default_reasoning_effort(model), do: get(model, :default_reasoning_effort, nil)

  @doc "The same for `default_model/0`."
  @spec default_reasoning_effort() :: effort() | nil
  def default_reasoning_effort, do: default_reasoning_effort(default_model())

  @doc "The efforts that a model has, weakest first, with the CLI's words about each; `[]` for one that is not known."
  @spec supported_reasoning_efforts(String.t() | nil) ::
          [%{effort: effort(), description: String.t() | nil}]
  def supported_reasoning_efforts(model), do: get(model, :supported_reasoning_efforts, [])

  @doc """
  All efforts that have an atom, weakest first. A catalog may name others, as text, and the option `reasoning_effort` takes
  them.

      iex> Codex.Models.reasoning_efforts()
      [:none, :minimal, :low, :medium, :high, :xhigh, :max, :ultra]
  """
  @spec reasoning_efforts() :: [Effort.t()]
  def reasoning_efforts, do: Effort.all()

  @doc """
  An effort as its atom. Case and spaces do not count; `extra_high` and `extra-high` are `:xhigh`; nil and blank text are nil.

      iex> Codex.Models.normalize_reasoning_effort(" Extra-High ")
      {:ok, :xhigh}
      iex> Codex.Models.normalize_reasoning_effort("")
      {:ok, nil}
      iex> Codex.Models.normalize_reasoning_effort("turbo")
      {:error, {:invalid_reasoning_effort, "turbo"}}
  """
  @spec normalize_reasoning_effort(term()) ::
          {:ok, Effort.t() | nil} | {:error, {:invalid_reasoning_effort, term()}}
  def normalize_reasoning_effort(nil), do: {:ok, nil}

  def normalize_reasoning_effort(value) do
    with :error <- Effort.parse(value) do
      if is_binary(value) and String.valid?(value) and String.trim(value) == "",
        do: {:ok, nil},
        else: {:error, {:invalid_reasoning_effort, value}}
    end
  end

  @doc """
  The word that the CLI takes for an effort. Text that is no known effort is returned as it is; another atom raises
  `ArgumentError`.

      iex> Codex.Models.reasoning_effort_to_string(:xhigh)
      "xhigh"
  """
  @spec reasoning_effort_to_string(effort() | :extra_high) :: String.t()
  def reasoning_effort_to_string(text) when is_binary(text), do: Effort.word(text)

  def reasoning_effort_to_string(value) do
    case Effort.parse(value) do
      {:ok, effort} ->
        Atom.to_string(effort)

      :error ->
        raise ArgumentError,
              "expected one of #{inspect(Effort.all())}, got: #{Codex.Options.Keywords.shown(value)}"
    end
  end

  # --- Other --------------------------------------------------------------------------------------------------------

  @doc false
  def parse_client_version([major, minor, patch])
      when is_integer(major) and is_integer(minor) and is_integer(patch) and
             major >= 0 and minor >= 0 and patch >= 0,
      do: {major, minor, patch}

  def parse_client_version(text) when is_binary(text) do
    case Version.parse(String.trim(text)) do
      {:ok, version} -> {version.major, version.minor, version.patch}
      :error -> {0, 0, 0}
    end
  end

  def parse_client_version(_other), do: {0, 0, 0}

  defp get(model, key, default) do
    case find(model) do
      nil -> default
      preset -> Map.fetch!(preset, key)
    end
  end

  defp find(nil), do: nil

  defp find(model) do
    with %Catalog{} = catalog <- catalog([]) do
      preset = Catalog.find(catalog, model)
      if preset == nil, do: warn_unknown(model, catalog)
      preset
    end
  end

  defp catalog(opts) do
    case fetch(opts) do
      {:ok, catalog} ->
        catalog

      # The CLI's own words may quote the configuration, so they stay in the error.
      {:error, error} ->
        warn(
          {:failed, error.kind},
          "Codex.Models has no catalog (#{inspect(error.kind)}) and goes without; Codex.Models.fetch/1 returns the error"
        )

        nil
    end
  end

  defp warn_unknown(model, catalog) do
    name = inspect(model, printable_limit: 100, limit: 10)
    warn({:unknown, model}, "the CLI's catalog (#{catalog.source}) has no model #{name}")
  end

  defp warn(name, message) do
    _ = if Cache.first?(name), do: Logger.warning(Codex.Text.line(message))
    :ok
  end
end
