defmodule Codex.Sessions.Legacy do
  @moduledoc false
  # Lines of older generations in the form of the last one: a message, a call with its output and a
  # patch become the item that today's CLI records. `Codex.Sessions.Events` reads the items.

  alias Codex.JSON
  alias Codex.Sessions.Patch

  @doc """
  Returns the items of a payload, and the state: calls by id that have no output yet, and the ids of
  calls whose item came.

      iex> message = %{"message" => "Hi"}
      iex> {[item], _state} = Codex.Sessions.Legacy.items("agent_message", message, %{})
      iex> item
      %{"type" => "AgentMessage", "text" => "Hi", "phase" => nil}
  """
  @spec items(String.t(), map(), map()) :: {[map()], map()} | :unknown
  def items("user_message", payload, state) do
    text = %{"type" => "text", "text" => payload["message"] || ""}
    images = for url <- list(payload["images"]), do: %{"type" => "image", "image_url" => url}

    local =
      for path <- list(payload["local_images"]), do: %{"type" => "local_image", "path" => path}

    {[%{"type" => "UserMessage", "content" => [text] ++ images ++ local}], state}
  end

  def items("agent_message", payload, state) do
    item = %{"type" => "AgentMessage", "text" => payload["message"], "phase" => payload["phase"]}
    {[item], state}
  end

  def items("agent_reasoning", payload, state),
    do: {[%{"type" => "Reasoning", "text" => payload["text"]}], state}

  def items("patch_apply_end", %{"call_id" => id} = payload, state) do
    item = Map.take(payload, ~w(changes status stdout stderr))
    {[Map.merge(item, %{"type" => "FileChange", "id" => id})], done(state, id)}
  end

  def items("entered_review_mode", payload, state),
    do: {[Map.put(payload, "type", "EnteredReviewMode")], state}

  def items("exited_review_mode", payload, state),
    do: {[Map.put(payload, "type", "ExitedReviewMode")], state}

  # --- The interface of the model -----------------------------------------------------------------

  # Lines of the first generation have messages and reasoning in this form only.
  def items("message", %{"role" => role, "content" => content}, state) when is_list(content) do
    case role do
      "user" -> {[%{"type" => "UserMessage", "content" => Enum.map(content, &content/1)}], state}
      "assistant" -> {[%{"type" => "AgentMessage", "content" => content}], state}
      _developer -> {[], state}
    end
  end

  def items("reasoning", payload, state) do
    parts = for %{"text" => text} <- list(payload["summary"]), do: text
    {[%{"type" => "Reasoning", "id" => payload["id"], "summary_text" => parts}], state}
  end

  def items(call, %{"call_id" => id} = payload, state)
      when call in ~w(function_call custom_tool_call local_shell_call) and is_binary(id),
      do: {[], Map.put(state, id, {:call, payload})}

  def items(output, %{"call_id" => id} = payload, state)
      when output in ~w(function_call_output custom_tool_call_output) do
    case state do
      %{^id => {:call, call}} -> {answered(call, payload["output"]), done(state, id)}
      %{^id => :done} -> {[], state}
      _no_call -> {[Map.put(payload, "type", "raw")], state}
    end
  end

  def items(_other, _payload, _state), do: :unknown

  @doc "Returns the items of calls that were never answered."
  @spec unanswered(map()) :: [map()]
  def unanswered(state), do: for({_id, {:call, call}} <- state, do: raw(call))

  defp done(state, id), do: Map.put(state, id, :done)
  defp list(list) when is_list(list), do: list
  defp list(_none), do: []

  defp content(%{"type" => "input_text", "text" => text}), do: %{"type" => "text", "text" => text}
  defp content(%{"type" => "input_image"} = part), do: %{part | "type" => "image"}
  defp content(other), do: other

  # --- Calls --------------------------------------------------------------------------------------

  defp answered(%{"name" => "apply_patch", "input" => patch} = call, output),
    do: [patch(call, patch, output(output))]

  defp answered(%{"name" => name, "arguments" => arguments} = call, output)
       when is_binary(arguments) do
    case {name, JSON.decode(arguments)} do
      {_shell, {:ok, %{"command" => ["apply_patch", patch]}}} ->
        [patch(call, patch, output(output))]

      {"apply_patch", {:ok, %{"input" => patch}}} ->
        [patch(call, patch, output(output))]

      {_shell, {:ok, %{"command" => [_ | _] = command} = arguments}} ->
        [command(call, command, arguments["workdir"], output(output))]

      {"exec_command", {:ok, %{"cmd" => command} = arguments}} ->
        [command(call, command, arguments["workdir"], output(output))]

      _another_tool ->
        [raw(call), raw(call, output)]
    end
  end

  defp answered(call, output), do: [raw(call), raw(call, output)]

  defp raw(call), do: %{"type" => "raw", "raw" => call}

  defp raw(call, output) do
    type =
      if call["type"] == "custom_tool_call",
        do: "custom_tool_call_output",
        else: "function_call_output"

    raw(%{"type" => type, "call_id" => call["call_id"], "output" => output})
  end

  defp command(call, command, cwd, {text, code, millis}) do
    %{
      "type" => "CommandExecution",
      "id" => call["call_id"],
      "command" => command,
      "cwd" => cwd,
      "aggregated_output" => text,
      "exit_code" => code,
      "duration" => millis,
      "status" => status(code)
    }
  end

  defp patch(call, patch, {text, code, _millis}) do
    %{
      "type" => "FileChange",
      "id" => call["call_id"],
      "changes" => Patch.changes(patch),
      "status" => status(code),
      "stdout" => text
    }
  end

  defp status(code) when code in [0, nil], do: "completed"
  defp status(_failed), do: "failed"

  # The output as text, the exit code and the duration in ms. Versions write it as JSON in a string,
  # as an object, or as text with a head.
  defp output(text) when is_binary(text) do
    case JSON.decode(text) do
      {:ok, %{"output" => output} = map} when is_binary(output) ->
        of_json(output, map["metadata"])

      _not_json ->
        of_text(text)
    end
  end

  defp output(%{"content" => text}) when is_binary(text), do: output(text)
  defp output(_other), do: {"", nil, nil}

  defp of_json(output, %{} = metadata) do
    seconds = metadata["duration_seconds"]
    {output, metadata["exit_code"], if(is_number(seconds), do: round(seconds * 1000))}
  end

  defp of_json(output, _none), do: {output, nil, nil}

  defp of_text(text) do
    with [head, output] <- :binary.split(text, "\nOutput:\n"),
         true <- head =~ ~r/\A(Chunk ID: |Exit code: |Wall time: )/ do
      {inner, inner_code, _} =
        if String.starts_with?(output, "{"), do: output(output), else: {output, nil, nil}

      {inner, code(head) || inner_code, millis(head)}
    else
      _plain -> {text, nil, nil}
    end
  end

  defp code(head) do
    case Regex.run(~r/^(?:Process exited with code|Exit code:) (-?\d+)$/m, head) do
      [_, code] -> String.to_integer(code)
      nil -> nil
    end
  end

  defp millis(head) do
    with [_, text] <- Regex.run(~r/^Wall time: ([\d.]+) seconds$/m, head),
         {seconds, ""} <- Float.parse(text) do
      round(seconds * 1000)
    else
      _none -> nil
    end
  end
end
