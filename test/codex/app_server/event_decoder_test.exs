defmodule Codex.AppServer.EventDecoderTest do
  use ExUnit.Case, async: true

  alias Codex.AppServer.EventDecoder
  alias Codex.{Events, Items, NotificationTwin, Protocol}
  alias Codex.Events.Schema

  doctest EventDecoder

  @folder Path.expand("../../fixtures/app_server", __DIR__)

  defp recorded do
    for file <- Path.wildcard(@folder <> "/*.jsonl"),
        line <- File.stream!(file),
        {:ok, %{"msg" => %{"method" => method, "params" => %{} = params} = message}} <-
          [Codex.JSON.decode(String.trim_trailing(line))],
        not is_map_key(message, "id"),
        do: {method, params}
  end

  test "recorded notifications are the events that renaming in Elixir makes of them" do
    recorded = recorded()
    assert length(recorded) > 500

    for {method, params} <- recorded do
      event = EventDecoder.decode(method, params)
      assert event == NotificationTwin.decode(method, params)

      assert is_struct(event, Events.AppServerNotification) ==
               method not in Protocol.notifications()

      # A member more, at any place that has a name: it arrives.
      marked = Map.put(params, "newMember", [method])
      assert inspect(EventDecoder.decode(method, marked), limit: :infinity) =~ "newMember"
    end
  end

  # A value for each path of a field, inside the objects that the paths lead through.
  defp params(fields) do
    for {%{app: [path | _]} = field, n} <- Enum.with_index(fields), reduce: %{} do
      params ->
        keys = path |> String.split(".") |> Enum.map(&Access.key(&1, %{}))
        put_in(params, keys, sent(field, n))
    end
  end

  defp sent(%{app_kind: :item}, _n), do: %{"type" => "plan", "id" => "p"}
  defp sent(%{app_kind: :counts}, n), do: %{"inputTokens" => n}
  defp sent(_field, n), do: n

  test "every field of every row is found under its path, and other members are extra" do
    for spec <- Schema.specs(:events),
        {method, opts} <- spec.app,
        spec.module != Events.ItemAgentMessageDelta do
      fields = Enum.filter(spec.fields, &(&1.wire != []))
      params = params(fields) |> Map.put("newField", 1)

      params =
        case opts[:when] do
          {path, text} -> put_in(params, String.split(path, "."), text)
          nil -> params
        end

      event = EventDecoder.decode(method, params)
      assert event.__struct__ == spec.module
      assert event.extra["newField"] == 1
      rest = Map.keys(event.extra) -- ["newField"]
      assert rest == List.wrap(opts[:whole])

      for {field, n} <- Enum.with_index(fields), field.app_kind == :any do
        assert {field.name, Map.fetch!(event, field.name)} == {field.name, n}
      end
    end

    for spec <- Schema.specs(:items), {type, consts} <- spec.app do
      fields = Enum.filter(spec.fields, &(&1.wire != [] and consts[&1.name] == nil))
      item = params(fields) |> Map.merge(%{"type" => type, "newField" => 1})

      assert %Events.ItemStarted{item: item} =
               EventDecoder.decode("item/started", %{"item" => item})

      assert item.__struct__ == spec.module
      assert item.extra == %{"newField" => 1}
      for {name, value} <- consts, do: assert(Map.fetch!(item, name) == value)
    end
  end

  test "words are those of codex exec; names of tools are not words" do
    item = fn item ->
      EventDecoder.decode("item/completed", %{"item" => Map.put(item, "id", "i")}).item
    end

    assert item.(%{"type" => "commandExecution", "command" => "a", "status" => "inProgress"}).status ==
             :in_progress

    assert item.(%{"type" => "commandExecution", "command" => "a", "status" => "onHold"}).status ==
             "on_hold"

    assert item.(%{"type" => "collabAgentToolCall", "tool" => "spawnAgent"}).tool == "spawn_agent"
    assert item.(%{"type" => "dynamicToolCall", "tool" => "lookUp"}).tool == "lookUp"
    assert item.(%{"type" => "mcpToolCall", "tool" => "lookUp", "server" => "s"}).tool == "lookUp"

    search = %{"type" => "webSearch", "action" => %{"type" => "openPage", "url" => "u"}}
    assert item.(search).action == %{"type" => "open_page", "url" => "u"}

    result = %{"structuredContent" => %{"aB" => 1}, "content" => []}
    call = %{"type" => "mcpToolCall", "tool" => "t", "server" => "s", "result" => result}
    assert item.(call).result == %{"structured_content" => %{"aB" => 1}, "content" => []}
  end

  test "an item without a required field, or no item at all, stays whole" do
    call = %{"type" => "commandExecution", "id" => "c"}

    assert %{item: %Items.Unknown{type: "commandExecution", raw: ^call}} =
             EventDecoder.decode("item/completed", %{"item" => call})

    assert %{item: %Items.Unknown{raw: 3}} = EventDecoder.decode("item/completed", %{"item" => 3})

    for params <- [%{}, %{"turn" => nil}, %{"turn" => "failed"}] do
      assert %Events.TurnCompleted{status: nil} = EventDecoder.decode("turn/completed", params)
    end

    turn = %{"id" => "u", "status" => "failed", "error" => nil}

    assert %Events.TurnFailed{error: %{"message" => "turn failed"}, turn_id: "u", extra: extra} =
             EventDecoder.decode("turn/completed", %{"turn" => turn})

    assert extra == %{"turn" => turn}
  end

  test "an item of any size is read" do
    change = %{"path" => "/a", "kind" => %{"type" => "add"}, "diff" => "d"}
    item = %{"type" => "fileChange", "changes" => List.duplicate(change, 20_000)}
    event = EventDecoder.decode("item/completed", %{"item" => item})
    assert length(event.item.changes) == 20_000
    assert hd(event.item.changes) == %{path: "/a", kind: :add, diff: "d", move_path: nil}
    assert hd(event.item.changes) == List.last(event.item.changes)
  end
end
