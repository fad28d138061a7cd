defmodule Codex.Models.FilesTest do
  # Not beside others: its many answers would push out those that another test expects to be kept.
  use ExUnit.Case, async: false

  import Codex.ModelsCase
  alias Codex.{Error, Models}

  @moduletag :tmp_dir

  setup %{tmp_dir: dir}, do: %{home: home!(dir)}

  defp cached(home), do: Models.fetch(codex_home: home, source: :cache, refresh: true)

  defp code(home) do
    assert {:error, %Error{kind: :config} = error} = cached(home)
    assert error.message =~ Path.join(home, "models_cache.json")
    error.details.code
  end

  # Files that are seconds from the limit are left to the test of the stale ones.
  for age <- [-31_536_000, -100, 0, 1, 60, 240] do
    test "a cache file of #{age} s counts", %{home: home} do
      cache!(home, unquote(age))
      assert {:ok, catalog} = cached(home)
      assert %{source: :cache, cli_version: "0.169.0"} = catalog
      assert catalog.age_ms >= max(unquote(age) * 1000, 0)
      assert [%{model: "remote-only", display_name: "Remote"}] = catalog.presets
    end
  end

  for age <- [301, 3600, 31_536_000] do
    test "one of #{age} s does not, and the error has its age", %{home: home} do
      cache!(home, unquote(age))
      assert {:error, %Error{kind: :config, details: details} = error} = cached(home)
      assert %{code: :stale, age_ms: age} = details
      assert age >= unquote(age) * 1000
      assert error.message =~ "counts for 300 s"
    end
  end

  test "a time zone other than UTC is understood", %{home: home} do
    at = DateTime.utc_now() |> DateTime.add(7200 - 10, :second) |> DateTime.to_naive()
    cache!(home, 0, %{"fetched_at" => "#{NaiveDateTime.to_iso8601(at)}+02:00"})
    assert {:ok, %{age_ms: age}} = cached(home)
    assert age in 9_000..120_000
  end

  test "broken content is an error that names the problem", %{home: home} do
    path = Path.join(home, "models_cache.json")
    assert code(home) == :missing

    for text <- ["", "{nope", "\xFF\xFE", "{\"models\":[", String.duplicate("[", 10_000)] do
      File.write!(path, text)
      assert {text, code(home)} == {text, :not_json}
    end

    for text <- ["[]", "3", "null", "{}", ~s({"models":[{"slug":"a"}]})] do
      File.write!(path, text)
      assert {text, code(home)} == {text, :no_time}
    end

    for at <- ["", "yesterday", 3, nil, [], "2026-11-20", "2026-11-20T00:00:00"] do
      cache!(home, 0, %{"fetched_at" => at})
      assert {at, code(home)} == {at, :no_time}
    end

    for models <- [nil, [], %{}, "x", [1, nil], [%{"slug" => nil}], [[]]] do
      cache!(home, 0, %{"models" => models})
      assert {models, code(home)} == {models, :no_models}
    end

    cache!(home, 0, %{"client_version" => [1]})
    assert {:ok, %{cli_version: nil}} = cached(home)
  end

  test "a directory, a file without end and a huge one are errors", %{home: home} do
    path = Path.join(home, "models_cache.json")
    File.mkdir!(path)
    assert code(home) == :not_regular
    File.rmdir!(path)

    File.ln_s!("/dev/zero", path)
    assert code(home) == :not_regular
    File.rm!(path)

    {_, 0} = System.cmd("mkfifo", [path])
    assert code(home) == :not_regular
    File.rm!(path)

    # Sparse: it takes no room on the disk.
    File.open!(path, [:write, :raw], fn file ->
      {:ok, _} = :file.position(file, 1024 * 1024 * 1024)
      :ok = :file.truncate(file)
    end)

    assert code(home) == :too_large
    File.rm!(path)

    File.ln_s!("models_cache.json", path)
    assert code(home) == :unreadable
  end

  test "a catalog file is read, with its time of change", %{home: home} do
    path = Path.join(home, "catalog.json")
    File.cp!(path("debug_models.json"), path)
    File.touch!(path, System.os_time(:second) - 7200)

    assert {:ok, %{source: :file, cli_version: nil} = catalog} =
             Models.fetch(source: {:file, path})

    assert catalog.age_ms >= 7_200_000
    assert hd(catalog.presets).model == "gpt-6.1-sol"

    # A changed file is another one.
    File.write!(path, ~s({"models":[{"slug":"own"}]}))
    assert {:ok, %{presets: [%{model: "own"}]}} = Models.fetch(source: {:file, path})

    assert {:error, %Error{kind: :config, details: %{code: :missing}}} =
             Models.fetch(source: {:file, path <> ".none"})
  end
end
