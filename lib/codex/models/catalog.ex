defmodule Codex.Models.Catalog do
  @moduledoc """
  A list of models with its source. `Codex.Models.fetch/1` returns it.

    * `presets` - the models in the CLI's order (see `t:Codex.Models.preset/0`), hidden ones
      included
    * `source` - `:cli` (`codex debug models`), `:cache` (`models_cache.json` in the home),
      `:model_list` (the app-server's reply) or `:file` (a file like that of `model_catalog_json`)
    * `fetched_at` - the time of the list (`DateTime`, UTC): the time of the call of the CLI, the
      time in the cache file, or the file's time of change. A list of the CLI may be up to 300 s
      older, because the CLI reads its own cache file
    * `age_ms` - the age of the list when this value was returned, in ms; 0 for a time in the future
    * `cli_version` - the version of the CLI, or nil if it is unknown
    * `skipped` - the number of entries without a model, or with a repeated one

  The functions are pure: they read no file and start no program.
  """

  alias Codex.Models.Preset

  @enforce_keys [:source, :fetched_at]
  defstruct [:source, :fetched_at, :cli_version, age_ms: 0, presets: [], skipped: 0]

  @typedoc "The origin of a catalog."
  @type source :: :cli | :cache | :model_list | :file
  @typedoc "A list of models. Fields: see above."
  @type t :: %__MODULE__{
          source: source(),
          fetched_at: DateTime.t(),
          age_ms: non_neg_integer(),
          cli_version: String.t() | nil,
          presets: [Codex.Models.preset()],
          skipped: non_neg_integer()
        }

  @doc false
  # Entries are maps in the CLI's format. They are sorted by priority, as in the CLI.
  @spec new(term(), source(), keyword()) :: {:ok, t()} | :error
  def new(entries, source, fields) when is_list(entries) and entries != [] do
    if List.improper?(entries), do: :error, else: build(entries, source, fields)
  end

  def new(_other, _source, _fields), do: :error

  defp build(entries, source, fields) do
    form = if source == :model_list, do: :model_list, else: :catalog

    presets = for {:ok, preset} <- Enum.map(entries, &Preset.new(&1, form)), do: preset

    case presets |> Enum.uniq_by(& &1.model) |> in_order(form) do
      [] ->
        :error

      presets ->
        catalog = struct!(%__MODULE__{source: source, fetched_at: nil}, fields)
        {:ok, %{catalog | presets: presets, skipped: length(entries) - length(presets)}}
    end
  end

  defp in_order(presets, :model_list), do: presets

  # The CLI marks no default: it takes the first model of its picker.
  defp in_order(presets, :catalog) do
    presets = Enum.sort_by(presets, &priority/1)
    first = Enum.find(presets, hd(presets ++ [nil]), & &1.show_in_picker)
    Enum.map(presets, &%{&1 | is_default: &1 == first})
  end

  # Atoms come after numbers: an entry without priority is last.
  defp priority(%{extra: %{"priority" => n}}) when is_number(n), do: n
  defp priority(_preset), do: :last

  @doc """
  Returns the preset of a model, or nil.

      iex> alias Codex.Models.Catalog
      iex> data = [%{"id" => "m", "model" => "m"}]
      iex> {:ok, catalog} = Codex.Models.from_model_list(%{"data" => data})
      iex> {Catalog.find(catalog, "m").display_name, Catalog.find(catalog, "n")}
      {"m", nil}
  """
  @spec find(t(), term()) :: Codex.Models.preset() | nil
  def find(%__MODULE__{presets: presets}, model), do: Enum.find(presets, &(&1.model == model))

  @doc """
  Returns the models with `show_in_picker`, for `:api` without models that the API lacks. Only the
  default model of the auth mode (`default/2`) has `is_default`.

      iex> data = [%{"id" => "a", "isDefault" => true}, %{"id" => "b", "hidden" => true}]
      iex> {:ok, catalog} = Codex.Models.from_model_list(%{"data" => data})
      iex> Enum.map(Codex.Models.Catalog.visible(catalog, :chatgpt), &{&1.model, &1.is_default})
      [{"a", true}]
  """
  @spec visible(t(), :api | :chatgpt) :: [Codex.Models.preset()]
  def visible(%__MODULE__{} = catalog, auth_mode) do
    default = default(catalog, auth_mode)

    for preset <- allowed(catalog, auth_mode),
        preset.show_in_picker,
        do: %{preset | is_default: preset.model == default.model}
  end

  @doc """
  Returns the CLI's default model: the first model of its picker, else the first model; for `:api`
  without models that the API lacks. Returns nil if the catalog has no such model.

  In a run, a `model` in the user's configuration wins over this default.
  """
  @spec default(t(), :api | :chatgpt) :: Codex.Models.preset() | nil
  def default(%__MODULE__{} = catalog, auth_mode) do
    presets = allowed(catalog, auth_mode)

    Enum.find(presets, & &1.is_default) || Enum.find(presets, & &1.show_in_picker) ||
      List.first(presets)
  end

  # `model/list` has no such field: the login may use each model of that list.
  defp allowed(%{presets: presets}, :api),
    do: Enum.reject(presets, &(&1.supported_in_api == false))

  defp allowed(%{presets: presets}, :chatgpt), do: presets

  @doc false
  @spec aged(t()) :: t()
  def aged(%__MODULE__{} = catalog) do
    age = DateTime.diff(DateTime.utc_now(), catalog.fetched_at, :millisecond)
    %{catalog | age_ms: max(age, 0)}
  end
end
