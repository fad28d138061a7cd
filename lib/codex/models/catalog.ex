defmodule Codex.Models.Catalog do
  @moduledoc """
  The models that a CLI knows, and where that is known from. `Codex.Models.fetch/1` makes one.

    * `presets` - the models in the CLI's order (see `t:Codex.Models.preset/0`), hidden ones included
    * `source` - `:cli` (`codex debug models`), `:cache` (`models_cache.json` in the home), `:model_list` (the app-server's
      reply) or `:file` (a file like that of `model_catalog_json`)
    * `fetched_at` - when it was known (`DateTime`, UTC): when the CLI was asked, what the cache file says, the file's time of
      change. A CLI that answers from its own cache file may know it from up to 300 s before
    * `age_ms` - how long ago that was when this value was handed out, in ms; 0 for a time in the future
    * `cli_version` - of the CLI that knew it, or nil where that is not told
    * `skipped` - how many entries named no model, or one that was there already

  The functions are pure: nothing is read, nothing is run.
  """

  alias Codex.Models.Preset

  @enforce_keys [:source, :fetched_at]
  defstruct [:source, :fetched_at, :cli_version, age_ms: 0, presets: [], skipped: 0]

  @type source :: :cli | :cache | :model_list | :file
  @type t :: %__MODULE__{
          source: source(),
          fetched_at: DateTime.t(),
          age_ms: non_neg_integer(),
          cli_version: String.t() | nil,
          presets: [Codex.Models.preset()],
          skipped: non_neg_integer()
        }

  @doc false
  # An entry is a map as the CLI writes it; the order is the CLI's: by priority, equal ones as they came.
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

  # The CLI marks none: its default is the first that it shows.
  defp in_order(presets, :catalog) do
    presets = Enum.sort_by(presets, &priority/1)
    first = Enum.find(presets, hd(presets ++ [nil]), & &1.show_in_picker)
    Enum.map(presets, &%{&1 | is_default: &1 == first})
  end

  # Atoms come after numbers: an entry without priority is last.
  defp priority(%{extra: %{"priority" => n}}) when is_number(n), do: n
  defp priority(_preset), do: :last

  @doc """
  The preset of a model, or nil.

      iex> {:ok, catalog} = Codex.Models.from_model_list(%{"data" => [%{"id" => "m", "model" => "m"}]})
      iex> {Codex.Models.Catalog.find(catalog, "m").display_name, Codex.Models.Catalog.find(catalog, "n")}
      {"m", nil}
  """
  @spec find(t(), term()) :: Codex.Models.preset() | nil
  def find(%__MODULE__{presets: presets}, model), do: Enum.find(presets, &(&1.model == model))

  @doc """
  The models to choose from: those with `show_in_picker`, for `:api` without those that the API does not have. The
  default model for this way to pay (`default/2`) is the one with `is_default`.

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
  The model that a CLI of its own accord runs, by CLI 0.169's rule: the first that it shows, else the first; for `:api` among
  those that the API has. nil where there is none.

  A `model` in the user's configuration is not looked at: it wins over this in every run.
  """
  @spec default(t(), :api | :chatgpt) :: Codex.Models.preset() | nil
  def default(%__MODULE__{} = catalog, auth_mode) do
    presets = allowed(catalog, auth_mode)

    Enum.find(presets, & &1.is_default) || Enum.find(presets, & &1.show_in_picker) ||
      List.first(presets)
  end

  # `model/list` does not tell: what it lists, its login may use.
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
