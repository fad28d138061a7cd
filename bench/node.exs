defmodule Bench.Node do
  @moduledoc false
  # Runs the TypeScript SDK in one Node process for the whole run, so that it is warm.

  @doc "A started process, or nil where Node or the packages are missing."
  def start do
    node = System.find_executable("node")

    if node && File.dir?(Path.expand("node_modules/@openai/codex-sdk", __DIR__)) do
      Port.open({:spawn_executable, node}, [
        :binary,
        line: 65_536,
        args: ["--expose-gc", Path.expand("sdk.mjs", __DIR__)],
        cd: __DIR__
      ])
    end
  end

  def versions(nil), do: [typescript: nil]

  def versions(_port) do
    {:ok, package} =
      Path.expand("node_modules/@openai/codex-sdk/package.json", __DIR__)
      |> File.read!()
      |> Codex.JSON.decode()

    [node: Bench.first_line("node", ["--version"]), typescript: package["version"]]
  end

  @doc "One command and its answer."
  def call(port, command) do
    {:ok, json} = Codex.JSON.encode(command)
    Port.command(port, [json, "\n"])

    receive do
      {^port, {:data, {:eol, line}}} ->
        case Codex.JSON.decode(line) do
          {:ok, %{"error" => error}} -> raise "the TypeScript SDK: #{error}"
          {:ok, answer} -> answer
        end
    after
      120_000 -> raise "the TypeScript SDK does not answer"
    end
  end
end
