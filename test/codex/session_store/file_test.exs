defmodule Codex.SessionStore.FileTest do
  # What only the adapter of files does: modes, writes that were cut, links.
  use ExUnit.Case, async: true

  alias Codex.SessionStore
  alias Codex.SessionStore.File, as: Store

  @moduletag :tmp_dir
  @thread "01a21974-8f0c-7940-b1d5-036bc64902f4"
  @file_name "rollout-2026-11-26T20-03-18-#{@thread}.jsonl"
  @key {@thread, @file_name}

  setup %{tmp_dir: dir} do
    root = Path.join(dir, "store")
    %{opts: [path: root], root: root, path: Path.join([root, @thread, @file_name])}
  end

  defp mode(path), do: Bitwise.band(File.stat!(path).mode, 0o777)

  test "folders and files are private", %{opts: opts, root: root, path: path} do
    assert :ok = Store.append(opts, @key, 0, "one\n")
    assert {mode(root), mode(Path.dirname(path)), mode(path)} == {0o700, 0o700, 0o600}
  end

  test "half a line of a write that was cut is missing, and is overwritten", c do
    assert :ok = Store.append(c.opts, @key, 0, "one\ntwo\n")
    long = String.duplicate("half", 50_000)
    File.write!(c.path, "three\n" <> long, [:append])
    assert {:ok, [{@file_name, 14}]} = Store.files(c.opts, @thread)
    assert {:ok, "one\ntwo\nthree\n"} = Store.read(c.opts, @key, 0, 1_000_000)
    assert {:ok, ""} = Store.read(c.opts, @key, 14, 10)
    assert {:error, {:conflict, 14}} = Store.append(c.opts, @key, 8, "other\n")
    assert :ok = Store.append(c.opts, @key, 14, "four\n")
    assert File.read!(c.path) == "one\ntwo\nthree\nfour\n"
  end

  test "links are not followed", %{opts: opts, root: root, path: path, tmp_dir: dir} do
    other = Path.join(dir, "other")
    File.mkdir_p!(Path.dirname(path))
    File.write!(other, "secret\n")
    File.ln_s!(other, path)
    assert {:error, {:not_regular, :other}} = Store.append(opts, @key, 7, "one\n")
    assert {:error, {:not_regular, :other}} = Store.read(opts, @key, 0, 10)

    assert {:error, {:session_store_failed, :files, {:error, {:not_regular, :other}}}} =
             SessionStore.files({Store, opts}, @thread)

    File.rm_rf!(root)
    File.mkdir_p!(root)
    File.ln_s!(dir, Path.join(root, @thread))
    assert {:error, :not_a_directory} = Store.append(opts, @key, 0, "one\n")
    assert File.read!(other) == "secret\n"
  end

  test "an unknown or missing directory is an error of the call", %{tmp_dir: dir} do
    file = Path.join(dir, "file")
    File.write!(file, "")
    assert {:error, _} = Store.append([path: file], @key, 0, "one\n")

    assert {:error, {:session_store_failed, :files, {:raised, KeyError}}} =
             SessionStore.files({Store, []}, @thread)
  end
end
