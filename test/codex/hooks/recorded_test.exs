defmodule Codex.Hooks.RecordedTest do
  # Recorded runs of the CLI with command hooks. Functions of the host that answer alike have the
  # same effect: what the model reads, what is made, and how the turn ends.
  use ExUnit.Case, async: true

  alias Codex.{Error, FoundCLI, Hooks, JSON, Test, Thread}

  @moduletag :codex_cli
  @moduletag capture_log: true

  # Prompts of several hooks of the CLI are one of ours.
  @between ~r/<\/hook_prompt><hook_prompt [^>]*>/
  @id ~r/hook_run_id="[^"]*"/

  @files "../../fixtures/hooks/*.json" |> Path.expand(__DIR__) |> Path.wildcard() |> Enum.sort()

  for file <- @files, lane <- ["exec", "app_server"] do
    @external_resource file
    recorded = file |> File.read!() |> JSON.decode() |> elem(1)

    if recorded[lane] do
      test "#{lane}: #{recorded["event"]} #{recorded["case"]}" do
        recorded = unquote(file) |> File.read!() |> JSON.decode() |> elem(1)
        if able?(unquote(lane)), do: run(recorded, unquote(lane))
      end
    end
  end

  # An older app-server cannot say whether it runs hooks: `Codex.Thread.run/3` returns that error.
  defp able?("exec"), do: true

  defp able?("app_server") do
    if Version.compare(FoundCLI.version!(), "0.166.0") == :lt do
      {:error, {:cli_unsupported, _, "0.166.0", _}} =
        lane("app_server", Test.start!([]), hooks: [stop: fn _ -> :allow end])
        |> Thread.run("do it")

      false
    else
      true
    end
  end

  defp run(recorded, lane) do
    added = recorded[lane]["requests_added"]
    model = Test.start!(steps(added))
    asking? = recorded["event"] == "PermissionRequest"

    options =
      if asking?,
        do: [sandbox: :read_only, ask_for_approval: :on_request],
        else: [sandbox: :danger_full_access]

    hooks = functions(recorded)
    result = lane |> lane(model, [hooks: hooks] ++ options) |> Thread.run("do it")

    if added == [],
      do: assert({:error, {:exec_failed, %Error{kind: :blocked}}} = result),
      else: assert({:ok, _} = result)

    assert length(Test.requests(model)) == length(added)
    assert File.exists?(Path.join(model.workspace, "made.txt")) == recorded[lane]["file_made"]
    if added != [], do: assert(told(model) == added |> Enum.concat() |> texts())
  end

  defp lane("exec", model, options), do: thread(model, options)

  defp lane("app_server", model, options) do
    thread(model, [transport: {:app_server, Codex.Connected.connect!(model)}] ++ options)
  end

  defp thread(model, options) do
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)
    thread
  end

  # The calls that the model made; after them it says "done".
  defp steps(added) do
    calls =
      for items <- added,
          %{"type" => type} = item when type in ["function_call", "custom_tool_call"] <- items,
          do: Test.Steps.item(item)

    calls ++ List.duplicate("done", length(added) - length(calls))
  end

  # All groups, in the order of the configuration.
  defp functions(recorded) do
    for group <- recorded["hooks"][recorded["event"]],
        %{"command" => command} <- group["hooks"] do
      said = get_in(recorded, ["handlers", command, "stdout_json"]) || []
      {name(recorded["event"]), &answer(&1, recorded["event"], said)}
    end
  end

  defp name(event), do: event |> Macro.underscore() |> Hooks.Table.named()

  # Hooks before the end of a turn answered once.
  defp answer(%Hooks.Stop{stop_hook_active: true}, _event, _said), do: :allow

  defp answer(_event, event, said) do
    said = List.first(said) || %{}

    case {event, Map.merge(said, said["hookSpecificOutput"] || %{})} do
      {_, %{"permissionDecision" => "deny", "permissionDecisionReason" => why}} -> {:deny, why}
      {_, %{"permissionDecision" => "allow", "updatedInput" => input}} -> {:rewrite, input}
      {_, %{"decision" => %{"behavior" => "allow"}}} -> :allow
      {_, %{"decision" => %{"behavior" => "deny", "message" => why}}} -> {:deny, why}
      {"PermissionRequest", _silent} -> :ask
      {"PostToolUse", %{"decision" => "block", "reason" => text}} -> {:replace_output, text}
      {"Stop", %{"decision" => "block", "reason" => why}} -> {:continue, why}
      {_, %{"decision" => "block", "reason" => why}} -> {:deny, why}
      {_, %{"continue" => false, "stopReason" => why}} -> {:deny, why}
      {_, %{"additionalContext" => text}} -> {:context, text}
      {_, _silent} -> :allow
    end
  end

  # What the last request has from the prompt on.
  defp told(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()

    # The CLI's own messages: permissions, folder, skills.
    input
    |> Enum.reject(&(inspect(&1) =~ ~r/<(permissions|environment|skills|user_instr)/))
    |> texts()
  end

  # By kind. Several hooks of the CLI are several messages, and ours is one.
  defp texts(items) do
    texts = for item <- items, {kind, text} <- [text(item)], do: {kind, text}

    for {kind, texts} <- Enum.group_by(texts, &elem(&1, 0), &elem(&1, 1)), into: %{} do
      {kind,
       texts |> Enum.join("\n\n") |> String.replace(@between, "\n\n") |> String.replace(@id, "")}
    end
  end

  defp text(%{"type" => "message", "role" => "developer", "content" => content}) do
    text = Enum.map_join(content, & &1["text"])
    if text =~ "You are a scripted model", do: nil, else: {"developer", text}
  end

  defp text(%{"type" => "message", "role" => role, "content" => content}),
    do: {role, Enum.map_join(content, & &1["text"])}

  defp text(%{"type" => type, "output" => output})
       when type in ["function_call_output", "custom_tool_call_output"],
       do: {"output", output |> printed() |> String.replace(~r/.*Output:\n/s, "")}

  defp text(_item), do: nil

  defp printed(text) when is_binary(text), do: text
  defp printed(parts), do: Enum.map_join(parts, & &1["text"])
end
