defmodule Codex.SessionStores do
  @moduledoc """
  The recorded homes of `test/fixtures/sessions`, unpacked for one test module.
  """

  @archive Path.expand("../fixtures/sessions/stores.tar.gz", __DIR__)

  @doc "Unpacks the homes into a folder. Returns `{name, home, expected}` for each."
  @spec unpack!(Path.t()) :: [{String.t(), Path.t(), map()}]
  def unpack!(folder) do
    :ok = :erl_tar.extract(@archive, [:compressed, cwd: folder])

    for path <- Enum.sort(Path.wildcard(Path.join(folder, "*/*/expect.json"))) do
      {:ok, expected} = path |> File.read!() |> Codex.JSON.decode()
      store = Path.dirname(path)
      {Path.relative_to(store, folder), Path.join(store, "home"), expected}
    end
  end

  @doc "Unpacks one home into a folder, and returns it."
  @spec unpack!(Path.t(), String.t()) :: Path.t()
  def unpack!(folder, name) do
    {:ok, names} = :erl_tar.table(@archive, [:compressed])
    files = Enum.filter(names, &String.starts_with?(to_string(&1), "./#{name}/"))
    :ok = :erl_tar.extract(@archive, [:compressed, cwd: folder, files: files])
    Path.join([folder, name, "home"])
  end
end
