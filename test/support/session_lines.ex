defmodule Codex.SessionLines do
  @moduledoc "The lines of a rollout of the newest generation, and a home with such a file."

  @id "01a21974-8f0c-7940-b1d5-036bc64902f4"
  @turn "01a21974-8f51-7000-8000-000000000001"
  @day "sessions/2026/11/26"
  @file_name "rollout-2026-11-26T20-03-18-#{@id}.jsonl"

  @doc "The id of the thread."
  def id, do: @id

  @doc "The id of its turn."
  def turn, do: @turn

  @doc "The name of its file."
  def file_name, do: @file_name

  @doc "The folder of the file, from the home on."
  def day, do: @day

  @doc "Writes the file of a home, and returns its path."
  def write!(home, parts) do
    path = Path.join([home, @day, @file_name])
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, parts)
    path
  end

  @doc "A line. The CLI writes the members in this order."
  def line(type, payload, ordinal) do
    ~s({"timestamp":"2026-11-26T20:03:18.#{100 + ordinal}Z","ordinal":#{ordinal},) <>
      ~s("type":"#{type}","payload":#{payload}}\n)
  end

  @doc "The line of an event."
  def event(kind, members, ordinal) do
    "{" <> rest = Codex.JSON.encode!(members)
    line("event_msg", ~s({"type":"#{kind}",) <> rest, ordinal)
  end

  @doc "The first line."
  def meta do
    payload = %{
      "id" => @id,
      "timestamp" => "2026-11-26T20:03:18.000Z",
      "cwd" => "/w",
      "history_mode" => "paginated"
    }

    line("session_meta", Codex.JSON.encode!(payload), 0)
  end

  @doc "The line that begins the turn."
  def started, do: event("task_started", %{"turn_id" => @turn}, 1)

  @doc "The line that ends the turn."
  def completed,
    do: event("task_complete", %{"turn_id" => @turn, "last_agent_message" => "bye"}, 9)

  @doc "The line of an item."
  def item(type, members, ordinal) do
    "{" <> item = Codex.JSON.encode!(members)
    ids = ~s("thread_id":"#{@id}","turn_id":"#{@turn}")
    item = ~s({"type":"item_completed",#{ids},"item":{"type":"#{type}",#{item}})
    line("event_msg", item, ordinal)
  end

  @doc "The line of a prompt."
  def prompt(text),
    do: item("UserMessage", %{"content" => [%{"type" => "text", "text" => text}]}, 2)

  @doc "The line of an answer."
  def answer(text, ordinal \\ 5),
    do: item("AgentMessage", %{"content" => [%{"type" => "Text", "text" => text}]}, ordinal)

  @doc "The line with the tokens of a call."
  def record(input, ordinal) do
    usage = ~s({"input_tokens":#{input},"cached_input_tokens":0,"output_tokens":1})
    ids = ~s("thread_id":"#{@id}","turn_id":"#{@turn}")
    line("token_usage_record", ~s({#{ids},"usage":#{usage}}), ordinal)
  end

  @doc "The lines of a thread with one turn."
  def whole, do: [meta(), started(), prompt("hello"), record(10, 3), completed()]
end
