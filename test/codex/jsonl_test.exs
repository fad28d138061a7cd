defmodule Codex.JSONLTest do
  use ExUnit.Case, async: true
  doctest Codex.JSONL
  doctest Codex.Events
  doctest Codex.Items

  alias Codex.{Events, Fixtures, Items, JSONL}
  alias Codex.Events.Schema

  defp decode_in_pieces(stream, size) do
    decoder = JSONL.new()
    Enum.flat_map(pieces(stream, size), &JSONL.feed(decoder, &1)) ++ JSONL.finish(decoder)
  end

  defp pieces(stream, size) when byte_size(stream) <= size, do: [stream]

  defp pieces(stream, size) do
    {piece, rest} = :erlang.split_binary(stream, size)
    [piece | pieces(rest, size)]
  end

  # A field that the wire sends as null is nil in the struct and not written again.
  defp without_nulls(%{} = map),
    do: for({k, v} <- map, v != nil, into: %{}, do: {k, without_nulls(v)})

  defp without_nulls(list) when is_list(list), do: Enum.map(list, &without_nulls/1)
  defp without_nulls(value), do: value

  describe "recorded streams" do
    for name <- Fixtures.exec() do
      test name do
        stream = Fixtures.stream(unquote(name))
        events = JSONL.decode(stream)

        assert decode_in_pieces(stream, 1) == events
        assert decode_in_pieces(stream, 7) == events

        maps = Fixtures.maps(stream)
        assert length(events) == length(maps)

        for {event, map} <- Enum.zip(events, maps) do
          refute match?(%Events.Unknown{}, event)
          assert event.extra == %{}
          assert event |> Events.to_map() |> without_nulls() == without_nulls(map)
          # The twin in plain Elixir agrees with the NIF.
          assert Events.parse!(map) == event
        end
      end
    end

    test "there are as many as were recorded with output" do
      assert length(Fixtures.exec()) > 100
    end
  end

  describe "lines" do
    test "CRLF, blank lines and a missing last newline" do
      stream = "\r\n\n{\"type\":\"turn.started\"}\r\n  \n{\"type\":\"turn.started\"}"
      assert JSONL.decode(stream) == [%Events.TurnStarted{}, %Events.TurnStarted{}]
    end

    test "a byte order mark at the start of the stream is not part of the first line" do
      stream = "\uFEFF{\"type\":\"turn.started\"}\r\n\uFEFF{}\r\n"
      # In other places, it is an ordinary character.
      assert [%Events.TurnStarted{}, %Events.Unknown{raw: "\uFEFF{}", error: {:syntax, 0}}] =
               JSONL.decode(stream)

      for size <- 1..5, do: assert(decode_in_pieces(stream, size) == JSONL.decode(stream))
      assert JSONL.decode("\uFEFF") == []
      assert JSONL.decode("\uFEFF\n") == []
    end

    test "bytes that begin like a byte order mark stay in the line" do
      for line <- [<<0xEF>>, <<0xEF, 0xBB>>, <<0xEF, 0xBB, "{}">>, <<0xEF, 0xEF, 0xBB, 0xBF>>] do
        assert [%Events.Unknown{raw: ^line} = whole] = JSONL.decode(line <> "\n")
        assert decode_in_pieces(line <> "\n", 1) == [whole]
        assert JSONL.decode(line) == [whole]
      end
    end

    test "U+2028 does not end a line" do
      stream = ~s({"type":"item.completed","item":{"type":"agent_message","text":"a\u2028b"}}\n)

      assert [%Events.ItemCompleted{item: %Items.AgentMessage{text: "a\u2028b"}}] =
               JSONL.decode(stream)
    end

    test "of a repeated key the last one counts" do
      assert [%Events.ThreadStarted{thread_id: "b"}] =
               JSONL.decode(~s({"type":"thread.started","thread_id":"a","thread_id":"b"}\n))

      assert [%Events.TurnCompleted{usage: %{"n" => 2, "m" => 1}}] =
               JSONL.decode(~s({"type":"turn.completed","usage":{"n":1,"m":1,"n":2}}\n))
    end

    test "numbers of any size, floats, NUL, escapes" do
      big = "123456789012345678901234567890"

      usage =
        ~s({"a":18446744073709551615,"b":-#{big},"c":1.5e3,"d":"\\u0000\\ud83d\\ude00\\"\\/","e":-9223372036854775808})

      assert [%Events.TurnCompleted{usage: usage, lossy: false}] =
               JSONL.decode(~s({"type":"turn.completed","usage":#{usage}}\n))

      assert usage == %{
               "a" => 18_446_744_073_709_551_615,
               "b" => -String.to_integer(big),
               "c" => 1500.0,
               "d" => "\0😀\"/",
               "e" => -9_223_372_036_854_775_808
             }
    end

    test "lone surrogates and invalid UTF-8 are replaced, and the event says so" do
      line = fn text ->
        ~s({"type":"item.completed","item":{"type":"agent_message","text":") <> text <> ~s("}}\n)
      end

      stream = line.("\\ud83dx") <> line.(<<0xFF, ?y>>) <> line.("z") <> line.("\\udc00")

      assert [
               %Events.ItemCompleted{lossy: true, item: %{text: "\uFFFDx"}},
               %Events.ItemCompleted{lossy: true, item: %{text: "\uFFFDy"}},
               %Events.ItemCompleted{lossy: false, item: %{text: "z"}},
               %Events.ItemCompleted{lossy: true, item: %{text: "\uFFFD"}}
             ] = JSONL.decode(stream)

      assert [%Events.Unknown{type: "x", lossy: true, raw: %{"a" => "\uFFFD"}}] =
               JSONL.decode(~s({"type":"x","a":") <> <<0xC3>> <> ~s("}))
    end

    test "a line that is not JSON is kept with its bytes and the position of the error" do
      cases = [
        {"thread panicked", :syntax, 0},
        {"{\"type\":", :eof, 8},
        {~S({"type":"turn.started"} x), :trailing, 24},
        {"[1,]", :syntax, 3},
        {"{\"a\":01}", :number, 7},
        {"{\"a\":1e999}", :number_range, 10},
        {"\"\\x\"", :escape, 1},
        {"\"a\tb\"", :control, 2},
        {String.duplicate("[", 300), :depth, 256}
      ]

      for {line, reason, at} <- cases do
        assert JSONL.decode(line <> "\n{\"type\":\"turn.started\"}\n") ==
                 [%Events.Unknown{raw: line, error: {reason, at}}, %Events.TurnStarted{}]
      end

      invalid = <<"bad ", 0xFF>>
      assert [%Events.Unknown{raw: ^invalid, lossy: false}] = JSONL.decode(invalid)
      assert [%Events.Unknown{raw: [1, 2], error: nil}] = JSONL.decode("[1,2]")
    end

    test "unknown types and fields are kept whole" do
      assert [%Events.Unknown{type: "x.y", raw: %{"type" => "x.y", "a" => %{"b" => 1}}}] =
               JSONL.decode(~s({"type":"x.y","a":{"b":1}}))

      assert [
               %Events.TurnStarted{
                 extra: %{"model" => "m", "item" => %{"type" => "agent_message"}}
               } = event
             ] =
               JSONL.decode(
                 ~s({"type":"turn.started","model":"m","item":{"type":"agent_message"}})
               )

      assert Events.to_map(event)["model"] == "m"

      assert [
               %Events.ItemStarted{
                 item: %Items.Unknown{id: "i", type: "hologram", raw: %{"depth" => 3}}
               }
             ] =
               JSONL.decode(
                 ~s({"type":"item.started","item":{"id":"i","type":"hologram","depth":3}})
               )

      # Known to items of another type, not to this one.
      assert [
               %Events.ItemStarted{
                 item: %Items.Error{message: "m", extra: %{"status" => "failed"}}
               }
             ] =
               JSONL.decode(
                 ~s({"type":"item.started","item":{"status":"failed","type":"error","message":"m"}})
               )

      assert [%Events.ItemStarted{item: %Items.CommandExecution{status: "paused"}}] =
               JSONL.decode(
                 ~s({"type":"item.started","item":{"type":"command_execution","command":"c","status":"paused"}})
               )
    end

    test "a known type without a field that it must have is Unknown, whole" do
      for line <- [~s({"type":"thread.started"}), ~s({"type":"item.started","thread_id":"t"})] do
        {:ok, map} = Codex.Native.json_decode(line, 100)
        assert JSONL.decode(line) == [%Events.Unknown{type: map["type"], raw: map}]
        assert_raise KeyError, fn -> Events.parse!(map) end
      end
    end

    test "an item that is not an object is kept" do
      assert [%Events.ItemStarted{item: %Items.Unknown{raw: 7}}] =
               JSONL.decode(~s({"type":"item.started","item":7}))

      assert [%Events.ItemStarted{item: %Items.FileChange{changes: ["x"]}}] =
               JSONL.decode(
                 ~s({"type":"item.started","item":{"type":"file_change","changes":["x"]}})
               )

      assert [%Events.ItemStarted{item: %Items.FileChange{changes: []}}] =
               JSONL.decode(
                 ~s({"type":"item.started","item":{"type":"file_change","changes":null}})
               )
    end

    test "the type may come last" do
      assert [%Events.ItemCompleted{item: %Items.AgentMessage{text: "t", id: "i"}}] =
               JSONL.decode(
                 ~s({"item":{"text":"t","id":"i","type":"agent_message"},"type":"item.completed"})
               )
    end

    test "a huge line, in pieces and at once" do
      text = String.duplicate("0123456789\\n", 4_000_000)
      line = ~s({"type":"item.completed","item":{"type":"agent_message","text":"#{text}"}}\n)
      assert byte_size(line) > 43_000_000

      for events <- [JSONL.decode(line <> line), decode_in_pieces(line <> line, 65_536)] do
        assert [%{item: %{text: a}}, %{item: %{text: b}}] = events
        assert a == b and byte_size(a) == 44_000_000
      end
    end

    test "a line over the budget becomes an error event with its size; the stream goes on" do
      stream =
        ~s({"type":"turn.started"}\n"#{String.duplicate("x", 500)}"\n{"type":"turn.started"}\n)

      for size <- [1, 7, 100, 10_000] do
        decoder = JSONL.new(max_line_bytes: 100)
        events = Enum.flat_map(pieces(stream, size), &JSONL.feed(decoder, &1))
        assert [%Events.TurnStarted{}, %Events.Error{} = error, %Events.TurnStarted{}] = events
        assert error.additional_details == %{"line_bytes" => 502}
        assert error.message =~ "502 bytes"
      end
    end

    test "a line of too many values becomes an error event that names the limit" do
      for {line, nodes} <- [
            {"[[],[1]]", 4},
            {~s({"a":1,"a":{}}), 5},
            {~s({"type":"x","y":[1,{"k":"v"}]}), 9}
          ] do
        stream = line <> "\n{\"type\":\"turn.started\"}\n"

        assert [%Events.Unknown{error: nil}, %Events.TurnStarted{}] =
                 JSONL.decode(stream, max_line_nodes: nodes)

        assert [%Events.Error{} = error, %Events.TurnStarted{}] =
                 JSONL.decode(stream, max_line_nodes: nodes - 1)

        assert error.additional_details == %{
                 "line_bytes" => byte_size(line),
                 "max_line_nodes" => nodes - 1
               }

        assert error.message =~ "over #{nodes - 1} values and keys (max_line_nodes)"
      end

      # Keys of every event do not count.
      event = ~s({"type":"turn.completed","usage":{"input_tokens":1}})
      assert [%Events.TurnCompleted{}] = JSONL.decode(event, max_line_nodes: 4)
    end

    test "of many equal keys the last one counts" do
      key = fn n -> "#{rem(n, 3)}#{rem(n, 1_000)}" end
      members = for n <- 1..40_000, do: ~s("#{key.(n)}":#{n},)
      line = IO.iodata_to_binary(["{", members, ~s("0":"x"}\n)])
      wanted = for n <- 1..40_000, into: %{"0" => "x"}, do: {key.(n), n}
      assert [%Events.Unknown{raw: ^wanted}] = JSONL.decode(line)
    end

    test "hostile lines take little memory" do
      for make <- [
            ~S|"[" <> String.duplicate("{},", 20_000_000) <> "{}]"|,
            ~S|"{" <> Enum.map_join(1..3_000_000, ",", &"\"#{&1}\":1") <> "}"|,
            ~S|"{" <> String.duplicate("\"k\":[],", 3_000_000) <> "\"l\":1}"|,
            ~S|~s({"type":"item.completed","item":{"type":"todo_list","items":[) <>
               String.duplicate("{},", 3_000_000) <> "{}]}}"|
          ] do
        # The peak of the whole VM, beyond the line itself.
        script = """
        peak = fn ->
          [_, kb] = Regex.run(~r/VmHWM:\\s+(\\d+)/, File.read!("/proc/self/status"))
          String.to_integer(kb)
        end

        line = (#{make}) <> "\\n"
        :erlang.garbage_collect()
        _ = File.write("/proc/self/clear_refs", "5")
        before = peak.()
        [event] = Codex.JSONL.decode(line)
        IO.puts(event.message)
        IO.puts(div(peak.() - before, 1024))
        """

        assert {out, 0} = Codex.OtherVM.run(script)
        assert [message, mb] = String.split(out, "\n", trim: true)
        assert message =~ "over 2000000 values and keys (max_line_nodes)"
        assert String.to_integer(mb) < 450, "#{make} took #{mb} MB"
      end
    end

    test "a small string that is kept does not keep the chunk" do
      line =
        ~s({"type":"item.completed","item":{"type":"agent_message","text":"#{String.duplicate("k", 100)}"}}\n)

      [event | _] = JSONL.decode(String.duplicate(line, 500))
      assert :binary.referenced_byte_size(event.item.text) == 100
    end

    test "a decoder that another process is inside of raises, and is whole afterwards" do
      decoder = JSONL.new()
      # Ends inside a string, so that the search for the end of the line takes long.
      [] =
        JSONL.feed(decoder, ["\"", String.duplicate("\\n", 20_000_000)] |> IO.iodata_to_binary())

      other = Task.async(fn -> feed_when_free(decoder, "\"\n") end)
      assert in_use?(decoder, other.pid)
      assert [%Events.Unknown{raw: text}] = Task.await(other)
      assert byte_size(text) == 20_000_000
      assert JSONL.feed(decoder, "1\n") == [%Events.Unknown{raw: 1}]
    end

    # The one that looks whether it is in use may be inside in this very moment.
    defp feed_when_free(decoder, chunk) do
      JSONL.feed(decoder, chunk)
    rescue
      _in_use in ErlangError -> feed_when_free(decoder, chunk)
    end

    defp in_use?(decoder, other) do
      JSONL.feed(decoder, "")
      Process.alive?(other) and in_use?(decoder, other)
    rescue
      error in ErlangError -> error.original == :in_use
    end

    test "a panic in Rust is an exception, and the next call works" do
      error = assert_raise ErlangError, fn -> Codex.Native.panic() end
      assert error.original == :nif_panicked
      assert JSONL.decode("1") == [%Events.Unknown{raw: 1}]
    end

    test "options are checked" do
      assert_raise Codex.OptionError, ~r/did you mean :max_line_bytes/, fn ->
        JSONL.new(max_line_byte: 1)
      end

      assert_raise Codex.OptionError, ~r/positive integer.*, got: 0/, fn ->
        JSONL.new(max_line_bytes: 0)
      end
    end
  end

  describe "events beyond the exec lane" do
    test "stand-ins, stages and other spellings" do
      assert [%Events.TurnDiffUpdated{diff: "d", extra: %{}}] =
               JSONL.decode(~s({"type":"turn.diff.updated","delta":"d"}))

      assert [%Events.TurnCompaction{stage: :started, compaction: %{"n" => 1}}] =
               JSONL.decode(~s({"type":"turn.compaction.started","compaction":{"n":1}}))

      assert [%Events.TurnCompaction{stage: "paused"} = event] =
               JSONL.decode(~s({"type":"turn/compaction/paused"}))

      assert Events.to_map(event)["type"] == "turn/compaction/paused"

      # false is a value.
      map = Events.to_map(%Events.Error{message: "x", will_retry: false})
      assert %Events.Error{will_retry: false} = Events.parse!(map)

      assert [%Events.Error{will_retry: false, codex_error_info: "other"}] =
               JSONL.decode(
                 ~s({"type":"error","message":"m","willRetry":false,"codexErrorInfo":"other"})
               )
    end

    test "every row of the table survives a round trip, NIF and twin alike" do
      for spec <- Schema.specs(:events), {type, _} <- spec.types do
        map =
          for %{exec: true} = field <- spec.fields,
              [key | _] <- [field.wire],
              into: %{"type" => type, "new_field" => [1]} do
            {key,
             if(field.kind == :item,
               do: %{
                 "type" => "todo_list",
                 "items" => [%{"text" => "t", "completed" => true, "x" => 1}]
               },
               else: "v"
             )}
          end

        event = Events.parse!(map)
        assert event.__struct__ == spec.module
        assert event.extra == %{"new_field" => [1]}
        assert [^event] = JSONL.decode(IO.iodata_to_binary(Codex.JSON.encode!(map)))
        assert Map.delete(Events.to_map(event), "type") == Map.delete(map, "type")
      end

      for spec <- Schema.specs(:items), {type, _} <- spec.types do
        map =
          for %{exec: true} = field <- spec.fields,
              [key | _] <- [field.wire],
              into: %{"type" => type},
              do: {key, "v"}

        item = Items.parse!(map)
        assert item.__struct__ == spec.module
        line = Codex.JSON.encode!(%{"type" => "item.started", "item" => map})
        assert [%Events.ItemStarted{item: ^item}] = JSONL.decode(IO.iodata_to_binary(line))
        assert Map.delete(Items.to_map(item), "type") == Map.delete(map, "type")
      end
    end

    test "maps of all rows and fields survive a round trip, those of the app-server included" do
      for {table, module} <- [events: Events, items: Items],
          spec <- Schema.specs(table),
          {type, _} <- spec.names do
        item = %{"type" => "sleep", "duration_ms" => 5}

        map =
          for field <- spec.fields, [key | _] <- [field.wire], into: %{"type" => type} do
            {key, if(field.kind == :item, do: item, else: "v")}
          end

        struct = module.parse!(map)
        assert struct.__struct__ == spec.module
        assert struct.extra == %{}
        assert Map.delete(module.to_map(struct), "type") == Map.delete(map, "type")
      end
    end
  end
end
