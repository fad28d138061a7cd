defmodule Codex.Fixtures do
  @moduledoc "Streams recorded from the real CLI, with the facts of each run."

  @dir Path.expand("../fixtures/exec", __DIR__)

  @doc "Names of the recorded runs that printed at least one event."
  def exec do
    for path <- Path.wildcard(Path.join(@dir, "*.jsonl")),
        stream(path) =~ ~r/^\{"type"/,
        do: Path.basename(path, ".jsonl")
  end

  def stream(name) when is_binary(name),
    do: File.read!(Path.join(@dir, Path.basename(name, ".jsonl") <> ".jsonl"))

  def meta(name) do
    {:ok, meta} = Codex.JSON.decode(File.read!(Path.join(@dir, name <> ".meta.json")))
    meta
  end

  @doc "The maps of a stream, read without any of our tables."
  def maps(stream) do
    for line <- String.split(stream, "\n", trim: true) do
      {:ok, map} = Codex.JSON.decode(line)
      map
    end
  end
end
