defmodule Codex.Agent.History do
  @moduledoc false
  # The conversation of a thread as response items of the provider, for another thread. Messages,
  # commands and calls of tools are kept; reasoning belongs to the model that made it.

  alias Codex.AppServer
  alias Codex.Handoff.InputData

  # The newest items, and the bytes of an output that are kept.
  @most 2_000
  @most_output 8_000

  @doc "Returns the items of each turn, as `{turn_id, items}`, the oldest turn first."
  @spec turns(AppServer.conn(), String.t()) ::
          {:ok, [{String.t(), [map()]}]} | {:error, Codex.Error.t()}
  def turns(conn, thread_id) do
    options = [items_view: :full, sort_direction: :desc, limit: 20]

    turns =
      conn
      |> AppServer.pages("thread/turns/list", options, %{"threadId" => thread_id})
      |> Enum.reduce_while({[], 0}, fn %{"id" => id, "items" => items}, {turns, count} ->
        items = Enum.flat_map(items, &response_items/1)
        all = {[{id, items} | turns], count + length(items)}
        if elem(all, 1) >= @most, do: {:halt, all}, else: {:cont, all}
      end)
      |> elem(0)

    {:ok, turns}
  rescue
    error in Codex.Error -> {:error, error}
  end

  @doc "Returns the data of a handoff that the turn `turn_id` made."
  @spec at_handoff([{String.t(), [map()]}], String.t() | nil, struct(), map(), term()) ::
          InputData.t()
  def at_handoff(turns, turn_id, handoff, call, run_context) do
    {own, before} = Enum.split_with(turns, fn {id, _items} -> id == turn_id end)
    id = call.id || "call_handoff"

    %InputData{
      input_history: items(before),
      pre_handoff_items: Enum.reject(items(own), &(&1["call_id"] == call.id)),
      new_items: [
        function_call(id, handoff.tool_name, call.arguments),
        output(id, "the agent #{handoff.agent.name} goes on")
      ],
      run_context: run_context
    }
  end

  @spec items([{String.t(), [map()]}]) :: [map()]
  def items(turns), do: Enum.flat_map(turns, &elem(&1, 1))

  @doc """
  Returns items as one message.

      iex> message = %{"type" => "message", "role" => "user", "content" => [%{"text" => "Hi"}]}
      iex> [%{"content" => [%{"text" => text}]}] = Codex.Agent.History.nested([message])
      iex> text
      "The conversation so far:\\n\\nuser: Hi"
  """
  @spec nested([map()]) :: [map()]
  def nested([]), do: []

  def nested(items) do
    text = Enum.map_join(items, "\n\n", &line/1)
    [message("user", "The conversation so far:\n\n" <> text)]
  end

  defp line(%{"type" => "message", "role" => role, "content" => content}),
    do: "#{role}: " <> texts(content)

  defp line(%{"type" => "function_call", "name" => name, "arguments" => arguments}),
    do: "call of #{name}: #{arguments}"

  defp line(%{"type" => "function_call_output", "output" => output}), do: "output: #{output}"
  defp line(%{"type" => type}), do: "(#{type})"

  defp texts(content) when is_binary(content), do: content

  defp texts(content),
    do: Enum.map_join(content, "\n", fn part -> part["text"] || "(#{part["type"]})" end)

  # --- Items of the app-server ------------------------------------------------------------------

  defp response_items(%{"type" => "userMessage", "content" => content}) do
    case for %{"type" => "text", "text" => text} <- content, do: input_text(text) do
      [] -> []
      texts -> [%{"type" => "message", "role" => "user", "content" => texts}]
    end
  end

  defp response_items(%{"type" => "agentMessage", "text" => text}) when is_binary(text),
    do: [message("assistant", text)]

  defp response_items(%{"type" => "dynamicToolCall", "id" => id, "tool" => tool} = item) do
    texts = for %{"text" => text} <- item["contentItems"] || [], do: text
    call(id, tool, item["arguments"], Enum.join(texts, "\n"))
  end

  defp response_items(%{"type" => "mcpToolCall", "id" => id, "tool" => tool} = item) do
    content = get_in(item, ["result", "content"]) || []
    texts = for %{"text" => text} <- content, do: text
    call(id, tool, item["arguments"], Enum.join(texts, "\n"))
  end

  defp response_items(%{"type" => "commandExecution", "id" => id, "command" => command} = item),
    do: call(id, "exec_command", %{"cmd" => command}, item["aggregatedOutput"])

  defp response_items(_other), do: []

  defp call(id, name, arguments, output),
    do: [function_call(id, name, arguments), output(id, output || "")]

  defp function_call(id, name, arguments) do
    %{
      "type" => "function_call",
      "call_id" => id,
      "name" => name,
      "arguments" => Codex.JSON.encode!(arguments || %{})
    }
  end

  defp output(id, text) do
    text = if byte_size(text) > @most_output, do: cut(text), else: text
    %{"type" => "function_call_output", "call_id" => id, "output" => text}
  end

  # Characters stay whole.
  defp cut(text), do: String.slice(binary_part(text, 0, @most_output), 0..-2//1) <> " …"

  defp message("assistant" = role, text) do
    content = [%{"type" => "output_text", "text" => text}]
    %{"type" => "message", "role" => role, "content" => content}
  end

  defp message(role, text),
    do: %{"type" => "message", "role" => role, "content" => [input_text(text)]}

  defp input_text(text), do: %{"type" => "input_text", "text" => text}
end
