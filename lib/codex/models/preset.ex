defmodule Codex.Models.Preset do
  @moduledoc false
  # Makes a preset of an entry in either form of the CLI: that of `codex debug models`,
  # `models_cache.json` and `model_catalog_json`, or that of the app-server's `model/list`.

  alias Codex.Options.Effort

  # {preset key, key in a catalog, key in `model/list`}
  @names [
    {:id, "slug", "id"},
    {:model, "slug", "model"},
    {:display_name, "display_name", "displayName"},
    {:description, "description", "description"},
    {:default_reasoning_effort, "default_reasoning_level", "defaultReasoningEffort"},
    {:supported_reasoning_efforts, "supported_reasoning_levels", "supportedReasoningEfforts"},
    {:is_default, nil, "isDefault"},
    {:upgrade, "upgrade", "upgradeInfo"},
    {:show_in_picker, "visibility", "hidden"},
    {:supported_in_api, "supported_in_api", nil}
  ]

  @keys %{
    catalog: for({_, name, _} <- @names, name, do: name),
    model_list: for({_, _, name} <- @names, name, do: name) ++ ["upgrade"]
  }

  # Prompts of the model, of 40 KB and more each: they do not help to choose a model.
  @left_out ~w(base_instructions model_messages)
  @long 4096

  @type form :: :catalog | :model_list

  @doc "Makes a preset of an entry; `:error` if the entry names no model."
  @spec new(term(), form()) :: {:ok, Codex.Models.preset()} | :error
  def new(%{} = entry, form) do
    fields = for {key, a, b} <- @names, do: {key, entry[if(form == :catalog, do: a, else: b)]}
    fields = Map.new(fields)

    case text(fields.model) || text(fields.id) do
      nil -> :error
      model -> {:ok, preset(fields, model, entry, form)}
    end
  end

  def new(_other, _form), do: :error

  defp preset(fields, model, entry, form) do
    %{
      id: text(fields.id) || model,
      model: model,
      display_name: text(fields.display_name) || model,
      description: text(fields.description),
      default_reasoning_effort: effort(fields.default_reasoning_effort),
      supported_reasoning_efforts: efforts(fields.supported_reasoning_efforts),
      is_default: fields.is_default == true,
      upgrade: upgrade(fields.upgrade),
      show_in_picker: shown?(fields.show_in_picker, form),
      supported_in_api: boolean(fields.supported_in_api),
      extra: extra(entry, form)
    }
  end

  defp text(text) when is_binary(text) and text != "", do: text
  defp text(_other), do: nil

  defp boolean(value) when is_boolean(value), do: value
  defp boolean(_other), do: nil

  defp effort(effort), do: if(text(effort), do: Effort.from_wire(effort))

  defp efforts(list) when is_list(list) do
    for %{} = level <- list,
        effort = effort(level["effort"] || level["reasoningEffort"]),
        do: %{effort: effort, description: text(level["description"])}
  end

  defp efforts(_other), do: []

  defp upgrade(%{"model" => model} = upgrade) when is_binary(model) and model != "" do
    %{
      id: model,
      reasoning_effort_mapping: nil,
      migration_config_key: nil,
      model_link: text(upgrade["modelLink"]),
      upgrade_copy: text(upgrade["upgradeCopy"]),
      migration_markdown: text(upgrade["migration_markdown"] || upgrade["migrationMarkdown"])
    }
  end

  defp upgrade(_none), do: nil

  defp shown?(visibility, :catalog), do: visibility == "list"
  defp shown?(hidden, :model_list), do: hidden != true

  defp extra(entry, form) do
    entry
    |> Map.drop(@keys[form] ++ @left_out)
    |> Map.reject(fn {_, value} -> is_binary(value) and byte_size(value) > @long end)
  end
end
