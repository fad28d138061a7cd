defmodule Codex.Models.CatalogTest do
  use ExUnit.Case, async: true

  import Codex.ModelsCase
  alias Codex.Models
  alias Codex.Models.{Catalog, Files}

  doctest Codex.Models
  doctest Codex.Models.Catalog

  defp catalog(entries) do
    {:ok, catalog} = Catalog.new(entries, :cli, fetched_at: DateTime.utc_now())
    catalog
  end

  defp entry(slug, more \\ %{}) do
    Map.merge(%{"slug" => slug, "visibility" => "list", "supported_in_api" => true}, more)
  end

  defp models(presets), do: Enum.map(presets, & &1.model)

  describe "output of the CLI" do
    setup do
      {:ok, catalog} = Files.catalog(path("debug_models.json"))
      %{catalog: catalog}
    end

    test "becomes presets of the known shape, in the CLI's order", %{catalog: catalog} do
      assert [first | _] = catalog.presets
      assert length(catalog.presets) == length(json("debug_models.json")["models"])
      assert catalog.skipped == 0

      assert Map.drop(first, [:extra, :supported_reasoning_efforts]) == %{
               id: "gpt-6.1-sol",
               model: "gpt-6.1-sol",
               display_name: "GPT-6.1-Sol",
               description: "Latest workhorse model for coding and everyday work.",
               default_reasoning_effort: :low,
               is_default: true,
               upgrade: nil,
               show_in_picker: true,
               supported_in_api: true
             }

      assert Enum.map(first.supported_reasoning_efforts, & &1.effort) ==
               [:low, :medium, :high, :xhigh, :max, :ultra]

      assert hd(first.supported_reasoning_efforts).description ==
               "Fast responses with lighter reasoning"

      assert %{"context_window" => 272_000, "shell_type" => "unified_exec", "priority" => 1} =
               first.extra

      for preset <- catalog.presets,
          key <- ~w(base_instructions model_messages slug visibility),
          do: refute(Map.has_key?(preset.extra, key))
    end

    test "has upgrades", %{catalog: catalog} do
      assert %{
               id: "gpt-6-sol",
               reasoning_effort_mapping: nil,
               migration_config_key: nil,
               model_link: nil,
               upgrade_copy: nil,
               migration_markdown: "Meet GPT-6 Sol" <> _
             } = Catalog.find(catalog, "gpt-5.5").upgrade
    end

    test "says the same as the app-server's list", %{catalog: catalog} do
      {:ok, listed} = Models.from_model_list(json("model_list.json"), cli_version: "0.169.0")
      assert %{source: :model_list, cli_version: "0.169.0", skipped: 0} = listed

      common = fn presets -> Enum.map(presets, &Map.drop(&1, [:extra, :supported_in_api])) end
      assert common.(listed.presets) == common.(catalog.presets)

      for mode <- [:api, :chatgpt] do
        assert common.(Catalog.visible(listed, mode)) == common.(Catalog.visible(catalog, mode))
        assert Catalog.default(listed, mode).model == Catalog.default(catalog, mode).model
      end

      assert [%{supported_in_api: nil, extra: %{"inputModalities" => _} = extra} | _] =
               listed.presets

      refute Map.has_key?(extra, "displayName")
    end
  end

  # The app-server returned this order and these defaults for such catalogs.
  test "the credential decides the models, and the default" do
    catalog =
      catalog([
        entry("A", %{"priority" => 5}),
        entry("B", %{"priority" => 1, "visibility" => "hide"}),
        entry("C", %{"priority" => 3, "supported_in_api" => false}),
        entry("D", %{"priority" => 4, "visibility" => "none"}),
        entry("E", %{"priority" => 3}),
        entry("Z")
      ])

    assert models(catalog.presets) == ~w(B C E D A Z)
    assert models(Catalog.visible(catalog, :chatgpt)) == ~w(C E A Z)
    assert models(Catalog.visible(catalog, :api)) == ~w(E A Z)
    assert Catalog.default(catalog, :chatgpt).model == "C"
    assert Catalog.default(catalog, :api).model == "E"

    for mode <- [:api, :chatgpt] do
      default = Catalog.default(catalog, mode).model

      assert [^default] =
               for(%{is_default: true} = p <- Catalog.visible(catalog, mode), do: p.model)
    end
  end

  test "if all are hidden, the first is the default and the list is empty" do
    catalog =
      catalog([entry("A", %{"visibility" => "hide"}), entry("B", %{"visibility" => "hide"})])

    assert Catalog.default(catalog, :api).model == "A"
    assert Catalog.visible(catalog, :api) == []
  end

  test "without a model for the API, it has no default" do
    catalog = catalog([entry("A", %{"supported_in_api" => false})])
    assert Catalog.default(catalog, :api) == nil
    assert Catalog.visible(catalog, :api) == []
  end

  test "entries without a model are counted, not taken; the first of two is taken" do
    catalog =
      catalog([
        3,
        %{},
        %{"slug" => ""},
        %{"slug" => 1},
        entry("A"),
        entry("A", %{"priority" => 9})
      ])

    assert models(catalog.presets) == ["A"]
    assert catalog.skipped == 5
  end

  test "values of other types are as if they were not there" do
    odd = %{
      "display_name" => 1,
      "description" => [],
      "default_reasoning_level" => %{},
      "supported_reasoning_levels" => [
        "x",
        %{"effort" => 1},
        %{"effort" => "low", "description" => 2}
      ],
      "upgrade" => "B",
      "visibility" => 1,
      "supported_in_api" => "yes",
      "priority" => "first"
    }

    assert [preset] = catalog([Map.put(odd, "slug", "A")]).presets

    assert Map.delete(preset, :extra) == %{
             id: "A",
             model: "A",
             display_name: "A",
             description: nil,
             default_reasoning_effort: nil,
             supported_reasoning_efforts: [%{effort: :low, description: nil}],
             is_default: true,
             upgrade: nil,
             show_in_picker: false,
             supported_in_api: nil
           }

    for list <- [nil, 3, "x", %{}], odd <- [%{"supported_reasoning_levels" => list}] do
      assert [%{supported_reasoning_efforts: []}] = catalog([entry("A", odd)]).presets
    end
  end

  test "an effort that only the catalog knows is its text" do
    levels = [%{"effort" => "turbo", "description" => "Faster"}]
    more = %{"default_reasoning_level" => "turbo", "supported_reasoning_levels" => levels}
    assert [preset] = catalog([entry("A", more)]).presets
    assert preset.default_reasoning_effort == "turbo"
    assert preset.supported_reasoning_efforts == [%{effort: "turbo", description: "Faster"}]
  end

  test "long texts of fields that are not known are left out" do
    more = %{"new" => "short", "prompt" => String.duplicate("x", 5_000)}
    assert [%{extra: %{"new" => "short"} = extra}] = catalog([entry("A", more)]).presets
    refute Map.has_key?(extra, "prompt")
  end

  test "a reply that lists no model is an error" do
    for reply <- [%{}, %{"data" => nil}, %{"data" => []}, %{"data" => [1]}, %{"data" => %{}}] do
      assert {:error, %Codex.Error{kind: :protocol}} = Models.from_model_list(reply)
    end

    assert_raise Codex.OptionError, ~r/:pages/, fn -> Models.from_model_list(%{}, pages: 1) end
  end

  test "the age of a reply counts from when it came" do
    at = DateTime.add(DateTime.utc_now(), -60, :second)
    {:ok, catalog} = Models.from_model_list(json("model_list.json"), fetched_at: at)
    assert catalog.fetched_at == at
    assert catalog.age_ms in 60_000..120_000
  end
end
