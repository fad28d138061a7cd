defmodule Codex.Events.ProtocolTest do
  # Each notification and item of the protocol becomes a struct with all of its members.
  use ExUnit.Case, async: true

  alias Codex.AppServer.EventDecoder
  alias Codex.{Events, Items, ProtocolExamples}
  alias Codex.Events.{Names, Protocol, Schema}

  doctest Names
  doctest Protocol

  defp events, do: Schema.specs(:events)
  defp items, do: Schema.specs(:items)

  defp spec(specs, module), do: Enum.find(specs, &(&1.module == module))

  # The texts and numbers of a value.
  defp leaves(%_{} = struct), do: leaves(Map.from_struct(struct))
  defp leaves(map) when is_map(map), do: map |> Map.values() |> Enum.flat_map(&leaves/1)
  defp leaves(list) when is_list(list), do: Enum.flat_map(list, &leaves/1)
  defp leaves(number) when is_integer(number), do: [number]
  defp leaves("text " <> _ = text), do: [text]
  defp leaves(_other), do: []

  for method <- Codex.Protocol.notifications(), size <- [:minimal, :full] do
    test "#{method}, #{size}: a struct holds every member" do
      method = unquote(method)
      params = ProtocolExamples.notification(method, unquote(size))
      event = EventDecoder.decode(method, params)
      spec = spec(events(), event.__struct__)
      assert spec != nil, "#{method} has no struct"
      assert method in Enum.map(spec.app, &elem(&1, 0))

      # `turn/started` names a turn without items.
      if method == "turn/started",
        do:
          assert({event.thread_id, event.turn_id} == {params["threadId"], params["turn"]["id"]}),
        else: assert(leaves(params) -- leaves(event) == [])

      if spec.types == [] and event.__struct__ != Events.RawResponseCompleted do
        assert event.extra == %{}
        for {name, value} <- params, do: assert(Map.fetch!(event, Names.field(name)) == value)
        assert event |> Events.to_map() |> Events.parse!() == event
      end

      assert event.lossy == false

      assert EventDecoder.decode(method, Map.put(params, "aNewMember", 1)).extra["aNewMember"] ==
               1
    end
  end

  for size <- [:minimal, :full], {item, n} <- Enum.with_index(ProtocolExamples.items(size)) do
    test "item #{n} #{item["type"]}, #{size}: a struct holds every member" do
      sent = unquote(Macro.escape(item))
      ids = %{"threadId" => "t", "turnId" => "u"}
      params = Map.merge(ids, %{"item" => sent, "startedAtMs" => 7})

      assert %Events.ItemStarted{thread_id: "t", turn_id: "u", started_at_ms: 7, item: item} =
               EventDecoder.decode("item/started", params)

      spec = spec(items(), item.__struct__)
      assert spec != nil, "#{sent["type"]} has no struct"
      assert sent["type"] in Enum.map(spec.app, &elem(&1, 0))
      assert item.id == sent["id"]
      assert item.extra == %{}
      assert leaves(sent) -- leaves(item) == []

      if spec.types == [] do
        for {name, value} <- Map.delete(sent, "type"),
            do: assert(Map.fetch!(item, Names.field(name)) == value)

        assert item |> Items.to_map() |> Items.parse!() == item
      end
    end
  end

  test "a member that the server leaves out, or sends as null, is nil" do
    event = EventDecoder.decode("thread/goal/updated", %{"threadId" => "t", "goal" => nil})
    assert event == %Events.ThreadGoalUpdated{thread_id: "t", goal: nil}
    assert EventDecoder.decode("hook/started", %{}) == struct(Events.HookStarted)
  end

  test "words and objects are as on the wire" do
    status = %{"type" => "active", "activeFlags" => ["waitingOnApproval"]}
    event = EventDecoder.decode("thread/status/changed", %{"threadId" => "t", "status" => status})
    assert event == %Events.ThreadStatusChanged{thread_id: "t", status: status}
  end

  test "the protocol alone gives names, types and words" do
    data = [
      notification: {"lamp/colour/changed", [params: {:ref, "Lamp"}]},
      notification: {"lamp/off", [params: :null]},
      type:
        {"Lamp",
         {:fields,
          [
            required: {"threadId", :string},
            required: {"lossy", :boolean},
            required: {"hueRGB", {:ref, "Hue"}},
            optional: {"level", {:one_of, [:integer, :string]}},
            experimental: {"inner", {:nullable, {:ref, "Lamp"}}},
            optional: {"odd-key", {:version, 1}}
          ]}},
      type: {"Hue", {:one_of, [word: "red", word: "blue"]}},
      type:
        {"ThreadItem",
         {:one_of,
          [
            fields: [required: {"type", {:word, "lampLit"}}, required: {"id", :string}],
            fields: [required: {"type", {:word, "lampLit"}}, required: {"watt", {:list, :count}}]
          ]}}
    ]

    assert [events: [lamp, off], items: [lit]] = Protocol.kinds(data)
    assert {lamp.type, lamp.name} == {"lamp/colour/changed", "LampColourChanged"}
    assert lamp.doc == "`lamp/colour/changed` of the app-server."
    assert {off.name, off.fields} == {"LampOff", []}

    assert [
             {:hue_rgb, "String.t()", hue},
             {:level, "integer() | String.t() | nil", _},
             {:inner, "map() | nil", _},
             {:odd_key, "term()", _},
             {:thread_id, "String.t()", thread_id}
           ] = lamp.fields

    assert hue[:doc] == ~s(one of "red", "blue")
    assert {hue[:app], hue[:also], hue[:enforce]} == {["hueRGB"], ["hueRGB"], true}
    assert {thread_id[:app], thread_id[:exec]} == {["threadId"], false}
    assert {lit.name, lit.type} == {"LampLit", "lampLit"}
    assert [{:watt, "[non_neg_integer()] | nil", _}] = lit.fields
  end

  test "each struct has documentation with its method and a line for each field" do
    for %{types: []} = spec <- events() ++ items() do
      {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(spec.module)
      for {type, _} <- spec.app, do: assert(doc =~ "App-server: `#{type}`")
      for field <- spec.fields, do: assert(doc =~ "  * `#{field.name}` - `#{field.type}`")
    end
  end
end
