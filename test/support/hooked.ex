defmodule Codex.Hooked do
  @moduledoc "What tests of hooks share: commands that leave a file, and what the model and the reader saw."

  import Codex.Test.Steps

  alias Codex.{Events, Items, Test}

  @doc "A function that always answers the same."
  def always(answer), do: fn _event -> answer end

  @doc "A command that makes a file in the workspace of the model."
  def touch(name, opts \\ []), do: shell("echo hi > #{name}", opts)
  def made?(model, name), do: File.exists?(Path.join(model.workspace, name))

  @doc "The input of the last request, as text."
  def shown(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    inspect(input, limit: :infinity, printable_limit: :infinity)
  end

  @doc "What hooks refused."
  def blocked(events),
    do: for(%Events.ItemCompleted{item: %Items.HookBlocked{} = item} <- events, do: item)

  @doc "Steps and rules of a thread that starts an agent with these steps, and waits for it."
  def with_agent(own) do
    agents = &tool_call(&1, &2, namespace: "multi_agent_v1")

    wait = fn %{body: %{"input" => input}} ->
      {:ok, %{"agent_id" => id}} = Codex.JSON.decode(List.last(input)["output"])
      agents.("wait_agent", %{targets: [id], timeout_ms: 20_000})
    end

    rules = for step <- own, do: [header: {"x-openai-subagent", "collab_spawn"}, step: step]
    {[agents.("spawn_agent", %{message: "Look"}), wait, "Done."], rules}
  end

  @doc "The OS processes of bridges whose CLI has the home of this model: `{os pid, os pid of the CLI, socket}`."
  def bridges(model) do
    for path <- Path.wildcard("/proc/[0-9]*/cmdline"),
        {:ok, line} <- [File.read(path)],
        [program, "bridge" | _] <- [String.split(line, <<0>>)],
        Path.basename(program) == "codex_launcher",
        dir = Path.dirname(path),
        {:ok, status} <- [File.read(Path.join(dir, "status"))],
        [_, parent] <- [Regex.run(~r/PPid:\s+(\d+)/, status)],
        {:ok, env} <- [File.read("/proc/#{parent}/environ")],
        env =~ model.home,
        {:ok, own} <- [File.read(Path.join(dir, "environ"))],
        "CODEX_SDK_BRIDGE_SOCKET=" <> socket <- String.split(own, <<0>>),
        do: {Path.basename(dir), parent, socket}
  end
end
