defmodule Codex.Models do
  @moduledoc """
  Lists the models that the CLI knows, its default model, and the reasoning efforts of each model.

      {:ok, catalog} = Codex.Models.fetch()
      Codex.Models.Catalog.default(catalog, :chatgpt).model
      #=> "gpt-6.1-sol"

  This library contains no list of models and fetches none over the network. It asks the CLI
  (`codex debug models`). With a login that allows it, the CLI asks its provider and keeps the
  answer in `models_cache.json` of its home for 300 seconds. Otherwise, and if the provider does
  not answer within 5 seconds, the CLI returns its built-in list. Without a login, and with
  `bundled: true`, it uses no network.

  ## Sources

  1. The CLI. Only the CLI knows its login and its configuration (`model_catalog_json`), and whether
     its cache file belongs to the same account and provider.
  2. `models_cache.json` of at most 300 seconds, if the CLI is missing, is too old to know the
  command,
     or does not end. A CLI that fails, for example because of a broken configuration, is an error.

  An option of `fetch/1` restricts it to one source, or names a file. `from_model_list/2` takes the
  reply of an app-server. A catalog names its source, its age and the version of the CLI
  (`Codex.Models.Catalog`).

  ## Cost

  The CLI's cache file is the only cache. Each call of `fetch/1`, and of each function below that
  looks up a model, starts the CLI, which takes about 20 ms. To look up several models, or to answer
  many requests, keep the catalog of one `fetch/1` and use the functions of `Codex.Models.Catalog`,
  which start nothing.

  ## Plain answers

  The other functions return plain values for the default home and CLI. They never raise for an
  unknown model. Without a catalog, lists are empty, and values are nil or false. Each unknown
  model, and each kind of failure, is logged once as a warning.

  A model that no catalog contains may be used, too. The SDK passes a model or an effort only if you
  set it. A `model` in the user's `config.toml` wins over the default that these functions return.
  """

  require Logger

  alias Codex.Error
  alias Codex.Models.{Catalog, Query, Source}
  alias Codex.Options.{Effort, Schema, Type}

  @typedoc """
  A model. `extra` has the other fields of the CLI (`"context_window"`, `"input_modalities"`,
  `"shell_type"`, …), under the CLI's names, which differ between sources; prompts and texts over
  4 KiB are left out.

  `supported_in_api` is nil if the source has no such field (`:model_list`).
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

  @typedoc "A known reasoning effort."
  @type known_effort :: unquote(Enum.reduce(Effort.all(), &{:|, [], [&1, &2]}))

  @typedoc "A known effort is an atom. An effort that only a catalog names is a string."
  @type effort :: known_effort() | String.t()

  @typedoc "The successor of a model. Fields that the CLI does not have are nil."
  @type upgrade :: %{
          id: String.t(),
          reasoning_effort_mapping: nil,
          migration_config_key: nil,
          model_link: String.t() | nil,
          upgrade_copy: String.t() | nil,
          migration_markdown: String.t() | nil
        }

  @typedoc "The kind of login that a list of models is for."
  @type auth_mode :: :api | :chatgpt

  # --- Catalogs ---------------------------------------------------------------------------------

  @doc """
  Fetches the catalog of a home. Options:

  #{Query.docs()}

  `:working_directory` and `:codex_path_override` are other names for `:cwd` and `:codex_path`, so
  the options of `Codex.Test.options/1` are accepted. Raises `Codex.OptionError` for unknown or
  invalid options. Blocks until the CLI has answered: at most for `:timeout`, and the first time
  up to 5 seconds for its version.

  Errors are a `Codex.Error` of these kinds:

    * `:cli_not_found` - there is no CLI, or it could not be started; `details.code` is the reason
    * `:cli_unsupported` - the CLI has no `debug models`
    * `:crashed`, `:killed` - the CLI ended without an answer; `details` has `:exit_status` or
      `:signal`, and `:stderr`
    * `:timeout` - it took longer than `details.timeout_ms`
    * `:protocol` - the output is not a catalog
    * `:config` - the home is missing (`details.code` is `:missing_home`, `:empty_home`), or the
      directory (`:missing_cwd`), or a file is invalid: `:missing`, `:not_regular`, `:unreadable`,
      `:too_large` (over 16 MiB), `:not_json`, `:no_models`, `:no_time`, `:stale` (`details.age_ms`)
  """
  @spec fetch(keyword()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def fetch(opts \\ []) do
    :ok = Codex.Started.check!()

    with {:ok, query} <- Query.new(opts),
         {:ok, catalog} <- Source.read(query),
         do: {:ok, Catalog.aged(catalog)}
  end

  @catalog Schema.new([
             {:fetched_at, :any, "the time of the reply", shown: "now"},
             {:cli_version, :text, "the version of the server"}
           ])

  @doc """
  Makes a catalog of an app-server's reply to `model/list`: `%{"data" => [...]}`, the result of the
  call. Join the `data` of several pages first. Options: `:fetched_at` (default now), `:cli_version`
  (default nil).

  The app-server leaves out hidden models unless the request has `includeHidden`. Returns a
  `Codex.Error` of kind `:protocol` if no entry names a model.

      iex> {:ok, catalog} =
      ...>   Codex.Models.from_model_list(%{
      ...>     "data" => [
      ...>       %{
      ...>         "id" => "gpt-6-sol",
      ...>         "displayName" => "GPT-6-Sol",
      ...>         "isDefault" => true,
      ...>         "defaultReasoningEffort" => "medium",
      ...>         "supportedReasoningEfforts" => [
      ...>           %{"reasoningEffort" => "medium", "description" => "Balanced"}
      ...>         ]
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
  def from_model_list(reply, opts \\ [])

  def from_model_list(reply, opts) when is_map(reply) and not is_struct(reply) do
    opts = Schema.validate!(@catalog, opts)
    opts = %{opts | fetched_at: opts.fetched_at || DateTime.utc_now()}

    case Catalog.new(reply["data"], :model_list, Map.to_list(opts)) do
      {:ok, catalog} -> {:ok, Catalog.aged(catalog)}
      :error -> {:error, Error.new(:protocol, "the reply to model/list names no model")}
    end
  end

  def from_model_list(other, _opts), do: Codex.OptionError.wrong!(:reply, other, "a map")

  # --- Models -----------------------------------------------------------------------------------

  @doc "Returns `list_visible/2` for the auth mode of the login."
  @spec list() :: [preset()]
  def list, do: list_visible(Codex.Auth.infer_auth_mode())

  @doc """
  Returns the models that the CLI shows in its picker, for `:api` without models that the API
  lacks. The mode may be a string; an unknown mode counts as `:api`.

  Takes the options of `fetch/1`. Returns `[]` if there is no catalog.
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
  Returns the default model.

  This is the value of the first environment variable that is set and not blank, whether or not a
  catalog contains it: #{Enum.map_join(@overrides, ", ", &"`#{&1}`")}. Otherwise it is the
  catalog's default for the auth mode (by default that of the login), or nil.
  """
  @spec default_model(auth_mode() | String.t() | nil) :: String.t() | nil
  def default_model(auth_mode \\ nil) do
    with nil <- override(),
         %{model: model} <- default_preset(auth_mode),
         do: model
  end

  defp default_preset(auth_mode) do
    with %Catalog{} = catalog <- catalog([]),
         do: Catalog.default(catalog, mode(auth_mode || Codex.Auth.infer_auth_mode()))
  end

  defp override, do: Enum.find_value(@overrides, &variable/1)

  defp variable(name) do
    case String.trim(System.get_env(name, "")) do
      "" -> nil
      value -> value
    end
  end

  @doc "Returns the description of a model, or nil."
  @spec description(String.t() | nil) :: String.t() | nil
  def description(model), do: get(model, :description, nil)

  @doc "Returns the name of a model for people, or nil."
  @spec display_name(String.t() | nil) :: String.t() | nil
  def display_name(model), do: get(model, :display_name, nil)

  @doc "Returns the successor of a model, or nil."
  @spec get_upgrade(String.t() | nil) :: upgrade() | nil
  def get_upgrade(model), do: get(model, :upgrade, nil)

  @doc "Returns true if the API has the model; false also if the model or this fact is unknown."
  @spec supported_in_api?(String.t() | nil) :: boolean()
  def supported_in_api?(model), do: get(model, :supported_in_api, false) == true

  @doc "Returns true if the model is known and its shell is not disabled: it may run commands."
  @spec tool_enabled?(String.t() | nil) :: boolean()
  def tool_enabled?(model) do
    case find(model) do
      nil -> false
      preset -> preset.extra["shell_type"] != "disabled"
    end
  end

  # --- Efforts ----------------------------------------------------------------------------------

  @doc "Returns the CLI's default effort of a model; nil for nil and for an unknown model."
  @spec default_reasoning_effort(String.t() | nil) :: effort() | nil
  def default_reasoning_effort(model), do: get(model, :default_reasoning_effort, nil)

  @doc "Returns the default effort of `default_model/0`, or nil."
  @spec default_reasoning_effort() :: effort() | nil
  def default_reasoning_effort do
    case override() do
      nil -> with %{default_reasoning_effort: effort} <- default_preset(nil), do: effort
      model -> default_reasoning_effort(model)
    end
  end

  @doc "Returns the efforts of a model with descriptions, weakest first; `[]` for an unknown model."
  @spec supported_reasoning_efforts(String.t() | nil) ::
          [%{effort: effort(), description: String.t() | nil}]
  def supported_reasoning_efforts(model), do: get(model, :supported_reasoning_efforts, [])

  @doc """
  Returns the efforts that have an atom, weakest first. A catalog may name others as strings,
  which the option `reasoning_effort` accepts, too.

      iex> Codex.Models.reasoning_efforts()
      [:none, :minimal, :low, :medium, :high, :xhigh, :max, :ultra]
  """
  @spec reasoning_efforts() :: [known_effort()]
  def reasoning_efforts, do: Effort.all()

  @doc """
  Converts an effort to its atom. Case and spaces do not matter; `extra_high` and `extra-high` are
  `:xhigh`; nil and blank strings are nil.

      iex> Codex.Models.normalize_reasoning_effort(" Extra-High ")
      {:ok, :xhigh}
      iex> Codex.Models.normalize_reasoning_effort("")
      {:ok, nil}
      iex> Codex.Models.normalize_reasoning_effort("turbo")
      {:error, {:invalid_reasoning_effort, "turbo"}}
  """
  @spec normalize_reasoning_effort(term()) ::
          {:ok, known_effort() | nil} | {:error, {:invalid_reasoning_effort, term()}}
  def normalize_reasoning_effort(nil), do: {:ok, nil}

  def normalize_reasoning_effort(value) do
    with :error <- Effort.parse(value) do
      if is_binary(value) and String.valid?(value) and String.trim(value) == "",
        do: {:ok, nil},
        else: {:error, {:invalid_reasoning_effort, value}}
    end
  end

  @doc """
  Converts an effort to the word of the CLI. Other strings are returned unchanged; other atoms raise
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
        shown = Type.kind(value)
        raise ArgumentError, "expected one of #{inspect(Effort.all())}, got: #{shown}"
    end
  end

  # --- Other ------------------------------------------------------------------------------------

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

      # The CLI's output may quote the configuration, so the log does not have it.
      {:error, error} ->
        why = "Codex.Models has no catalog (#{inspect(error.kind)}) and returns empty values"
        warn({:failed, error.kind}, why <> "; Codex.Models.fetch/1 returns the error")
        nil
    end
  end

  defp warn_unknown(model, catalog) do
    name = inspect(model, printable_limit: 100, limit: 10)
    warn({:unknown, model}, "the CLI's catalog (#{catalog.source}) has no model #{name}")
  end

  # Warns once for each name, and not at all after this number of names: they come from callers.
  @most_warnings 256

  defp warn(name, message) do
    key = {__MODULE__, :crypto.hash(:sha256, :erlang.term_to_binary(name))}
    counter = warnings()

    if :persistent_term.get(key, nil) == nil and :counters.get(counter, 1) < @most_warnings do
      :persistent_term.put(key, :warned)
      :counters.add(counter, 1, 1)
      Logger.warning(Codex.Text.line(message))
    end

    :ok
  end

  defp warnings do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      counter = :counters.new(1, [])
      :persistent_term.put(__MODULE__, counter)
      counter
    end
  end
end
