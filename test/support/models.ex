defmodule Codex.ModelsCase do
  @moduledoc "Recorded catalogs, homes, and programs that stand in for `codex debug models`."

  @fixtures Path.expand("../fixtures/models", __DIR__)

  def path(name), do: Path.join(@fixtures, name)

  def json(name) do
    {:ok, content} = name |> path() |> File.read!() |> Codex.JSON.decode()
    content
  end

  @doc "An empty home below `dir`."
  def home!(dir) do
    home = Path.join(dir, "home-#{System.unique_integer([:positive])}")
    File.mkdir_p!(home)
    home
  end

  @doc "A `codex` that runs `body` for `debug models`, and adds a line to `<dir>/runs` first."
  def stub!(dir, body) do
    Codex.Stub.write!(dir, "echo \"$@\" >> #{dir}/runs\n" <> body)
  end

  @doc "How often such programs of `dir` ran."
  def runs(dir) do
    case File.read(Path.join(dir, "runs")) do
      {:ok, text} -> text |> String.split("\n", trim: true) |> length()
      {:error, :enoent} -> 0
    end
  end

  @doc "A cache file in the home, this many seconds old; `changes` replace its members."
  def cache!(home, age_s, changes \\ %{}) do
    at = DateTime.utc_now() |> DateTime.add(-age_s, :second) |> DateTime.to_iso8601()
    content = "models_cache.json" |> json() |> Map.put("fetched_at", at) |> Map.merge(changes)
    File.write!(Path.join(home, "models_cache.json"), Codex.JSON.encode!(content))
  end
end
