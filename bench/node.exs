defmodule Bench.Node do
  @moduledoc false
  # Runs a TypeScript library in one Node process for the whole run, so that it is warm.

  @sdk "@openai/codex-sdk"

  @doc "A started process of a script, or nil if Node or the package is missing."
  def start(script \\ "sdk.mjs", package \\ @sdk) do
    node = System.find_executable("node")

    if node && File.dir?(Path.expand("node_modules/#{package}", __DIR__)) do
      Port.open({:spawn_executable, node}, [
        :binary,
        line: 65_536,
        args: ["--expose-gc", "--no-warnings", Path.expand(script, __DIR__)],
        cd: __DIR__
      ])
    end
  end

  def versions(port, package \\ @sdk)
  def versions(nil, _package), do: [typescript: nil]

  def versions(_port, package) do
    {:ok, package} =
      Path.expand("node_modules/#{package}/package.json", __DIR__)
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
