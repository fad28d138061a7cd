defmodule Codex.Test.Wire do
  @moduledoc false
  # Converts a step to a list of actions on a connection: server-sent events of the Responses API.

  alias Codex.{JSON, Test.Check}

  @type action ::
          {:wait, timeout()}
          | {:reply, status :: 100..599, [{String.t(), String.t()}], body :: binary()}
          | {:head, [{String.t(), String.t()}]}
          | {:chunk, iodata()}
          | :finish
          | :drop

  @sse {"content-type", "text/event-stream"}

  @doc "Returns the actions of `step`, the `n`th answer of this server."
  @spec plan(tuple(), pos_integer()) :: [action()]
  def plan({:respond, items, opts}, n) do
    ending = Keyword.get(opts, :ending, :completed)
    body = [created(n) | items(items, n)]

    wait(opts) ++ [head(opts) | finish(body, ending, n, opts[:usage] || %{})]
  end

  def plan({:http, status, body, headers}, _n), do: [{:reply, status, headers, body}]

  def plan({:silence, ms, opts}, n) do
    start = if opts[:headers], do: [head([]), created(n) | items(opts[:items], n)], else: []
    start ++ [{:wait, ms}, :drop]
  end

  def plan({:raw, pieces, opts}, _n) do
    chunks =
      Enum.map(pieces, fn
        %{"type" => _} = event -> event(event)
        bytes -> {:chunk, bytes}
      end)

    wait(opts) ++ [head(opts)] ++ chunks ++ [:finish]
  end

  defp wait(opts), do: if(opts[:delay_ms], do: [{:wait, opts[:delay_ms]}], else: [])

  defp head(opts) do
    headers = Check.headers!(opts[:headers] || [])
    typed? = Enum.any?(headers, fn {name, _} -> String.downcase(name) == "content-type" end)
    {:head, if(typed?, do: headers, else: [@sse | headers])}
  end

  defp finish(body, {:cut, events}, _n, _usage), do: take(body, events) ++ [:drop]
  defp finish(body, :none, _n, _usage), do: body ++ [:finish]
  defp finish(body, ending, n, usage), do: body ++ [last(ending, "resp_#{n}", usage), :finish]

  # Waits do not count as events.
  defp take(_actions, 0), do: []
  defp take([], _events), do: []
  defp take([{:chunk, _} = chunk | rest], events), do: [chunk | take(rest, events - 1)]
  defp take([wait | rest], events), do: [wait | take(rest, events)]

  defp created(n),
    do: event(%{"type" => "response.created", "response" => %{"id" => "resp_#{n}"}})

  defp last(:completed, id, usage) do
    event(%{
      "type" => "response.completed",
      "response" => %{"id" => id, "status" => "completed", "usage" => usage(usage)}
    })
  end

  defp last({:failed, code, message}, id, _usage) do
    error = %{"code" => code, "message" => message}

    event(%{
      "type" => "response.failed",
      "response" => %{"id" => id, "status" => "failed", "error" => error}
    })
  end

  defp last({:incomplete, reason}, id, _usage) do
    details = %{"reason" => reason}

    event(%{
      "type" => "response.incomplete",
      "response" => %{"id" => id, "status" => "incomplete", "incomplete_details" => details}
    })
  end

  defp usage(given) do
    given = Map.new(given)
    input = Map.get(given, :input_tokens, 100)
    output = Map.get(given, :output_tokens, 20)

    %{
      "input_tokens" => input,
      "input_tokens_details" => %{
        "cached_tokens" => Map.get(given, :cached_input_tokens, 40),
        "cache_write_tokens" => Map.get(given, :cache_write_input_tokens, 0)
      },
      "output_tokens" => output,
      "output_tokens_details" => %{
        "reasoning_tokens" => Map.get(given, :reasoning_output_tokens, 5)
      },
      "total_tokens" => input + output
    }
  end

  defp items(items, n) do
    items
    |> Enum.with_index()
    |> Enum.flat_map(fn {{:item, wire, streaming}, index} ->
      item = with_ids(wire, "resp_#{n}_#{index}")

      [added(item, index)] ++
        deltas(item, index, streaming) ++
        [event(%{"type" => "response.output_item.done", "output_index" => index, "item" => item})]
    end)
  end

  # An item starts empty and is filled by its deltas.
  defp added(item, index) do
    begun =
      case item do
        %{"type" => "message"} ->
          %{item | "content" => []}

        %{"type" => "reasoning"} ->
          %{item | "summary" => []} |> Map.delete("content")

        %{"type" => "web_search_call"} ->
          %{item | "status" => "in_progress"} |> Map.delete("action")

        _ ->
          item
      end

    event(%{"type" => "response.output_item.added", "output_index" => index, "item" => begun})
  end

  defp deltas(%{"type" => type, "id" => id}, index, streaming) do
    {prelude, name, position} = delta_kind(type)
    at = %{"item_id" => id, "output_index" => index, position => 0}
    pause = for ms <- List.wrap(streaming[:delta_delay_ms]), do: {:wait, ms}

    pieces =
      for text <- streaming[:deltas] || [],
          action <- [event(Map.merge(at, %{"type" => name, "delta" => text})) | pause],
          do: action

    Enum.map(prelude, &event(Map.put(at, "type", &1))) ++ pieces
  end

  defp delta_kind("reasoning") do
    {["response.reasoning_summary_part.added"], "response.reasoning_summary_text.delta",
     "summary_index"}
  end

  defp delta_kind(_type), do: {[], "response.output_text.delta", "content_index"}

  @prefixes %{
    "message" => "msg",
    "reasoning" => "rs",
    "function_call" => "fc",
    "custom_tool_call" => "ctc",
    "web_search_call" => "ws"
  }

  defp with_ids(%{"type" => type} = wire, suffix) do
    wire = Map.put_new(wire, "id", "#{Map.get(@prefixes, type, "item")}_#{suffix}")

    if type in ["function_call", "custom_tool_call"],
      do: Map.put_new(wire, "call_id", "call_#{suffix}"),
      else: wire
  end

  defp event(%{"type" => type} = event),
    do: {:chunk, ["event: ", type, "\ndata: ", JSON.encode!(event), "\n\n"]}
end
