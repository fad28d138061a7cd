defmodule Codex.Test.Rollout do
  @moduledoc false
  # The answers of the model in a recorded thread, as the source of a script for `Codex.Test`.

  alias Codex.JSON

  @outputs ~w(function_call_output custom_tool_call_output)
  # Arguments of the shell tool that `Codex.Test.Steps.shell/2` takes.
  @shell ~w(workdir yield_time_ms max_output_tokens tty shell login sandbox_permissions) ++
           ~w(justification)

  @doc "Returns the source of a script, from the lines of rollout files."
  @spec source(Enumerable.t()) :: String.t()
  def source(lines) do
    steps = lines |> Stream.flat_map(&payload/1) |> Enum.reduce({[], []}, &add/2) |> flush()
    body = steps |> Enum.reverse() |> Enum.map_join(",\n", &step/1)
    "[\n#{body}\n]\n" |> Code.format_string!() |> IO.iodata_to_binary() |> Kernel.<>("\n")
  end

  defp payload(line) do
    case JSON.decode(line) do
      {:ok, %{"type" => "response_item", "payload" => %{"type" => _} = item}} -> [item]
      _other -> []
    end
  end

  # A request ends an answer: it brings outputs of tools, or a message of the user.
  defp add(%{"type" => type}, state) when type in @outputs, do: {flush(state), []}

  defp add(%{"type" => "message", "role" => "assistant"} = item, state),
    do: put(item, state)

  defp add(%{"type" => "message"}, state), do: {flush(state), []}
  defp add(item, state), do: put(item, state)

  defp put(item, {steps, open}), do: {steps, [item | open]}

  defp flush({steps, []}), do: steps
  defp flush({steps, open}), do: [Enum.reverse(open) | steps]

  defp step([item]), do: item(item)
  defp step(items), do: "respond([#{Enum.map_join(items, ", ", &item/1)}])"

  defp item(%{"type" => "message", "content" => content} = item) when is_list(content) do
    text = for %{"text" => text} <- content, into: "", do: text
    phase = if item["phase"], do: ", phase: #{inspect(item["phase"])}", else: ""
    "message(#{term(text)}#{phase})"
  end

  defp item(%{"type" => "reasoning"} = item) do
    text = for %{"text" => text} <- item["summary"] || [], into: "", do: text
    "reasoning(#{term(text)})"
  end

  defp item(%{"type" => "custom_tool_call", "name" => "apply_patch", "input" => patch}),
    do: "apply_patch(#{term(patch)})"

  defp item(%{"type" => "function_call", "name" => name, "arguments" => json} = item) do
    with "exec_command" <- name,
         {:ok, %{"cmd" => command} = more} when is_binary(command) <- JSON.decode(json),
         [] <- Map.keys(more) -- ["cmd" | @shell] do
      more = for key <- @shell, value = more[key], do: ", #{key}: #{term(value)}"
      "shell(#{term(command)}#{more})"
    else
      _other ->
        space = if item["namespace"], do: ", namespace: #{term(item["namespace"])}", else: ""
        "tool_call(#{term(name)}, #{term(json)}#{space})"
    end
  end

  defp item(item), do: "item(#{item |> Map.drop(["id", "encrypted_content"]) |> term()})"

  defp term(value), do: inspect(value, limit: :infinity, printable_limit: :infinity)
end
