defmodule Codex.TerminalTest do
  # What the renderer writes, without a terminal and with one (a width).
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  alias Codex.{Events, Items, Terminal, Text}
  alias Codex.Terminal.{Pieces, Render, Screen}

  doctest Pieces
  doctest Render

  defp show(opts \\ [status: false], fun) do
    capture_io(fn ->
      terminal = Terminal.start(opts)
      fun.(terminal)
      :ok = Terminal.stop(terminal)
    end)
  end

  defp piece(id, text),
    do: %Events.ItemAgentMessageDelta{
      item: %{"id" => id, "type" => "agent_message", "text" => text}
    }

  defp whole(id, text), do: %Events.ItemCompleted{item: %Items.AgentMessage{id: id, text: text}}

  describe "messages in pieces" do
    test "appear as they come, once, and end their line" do
      {:ok, device} = StringIO.open("")
      leader = Process.group_leader()
      Process.group_leader(self(), device)
      terminal = Terminal.start(status: false)
      Process.group_leader(self(), leader)

      for {text, shown} <- [{"Hel", "Hel"}, {"lo\nwor", "Hello\nwor"}, {"ld", "Hello\nworld"}] do
        Terminal.event(terminal, piece("m", text))
        assert {"", ^shown} = StringIO.contents(device)
      end

      Terminal.event(terminal, whole("m", "Hello\nworld"))
      assert {"", "Hello\nworld\n"} = StringIO.contents(device)
      # Its end is known: this is another message.
      Terminal.event(terminal, whole("m", "Again"))
      Terminal.stop(terminal)
      assert {"", "Hello\nworld\nAgain\n"} = StringIO.contents(device)
    end

    test "are completed by the whole message, and broken by other lines" do
      assert show(fn terminal ->
               Terminal.event(terminal, piece("m", "one"))
               Terminal.line(terminal, "a line")
               Terminal.event(terminal, piece("m", " two\n"))
               Terminal.event(terminal, whole("m", "one two\nthree"))
               Terminal.event(terminal, whole("n", "four"))
             end) == "one\na line\n two\nthree\nfour\n"
    end

    test "of several threads keep their prefixes" do
      assert show(fn terminal ->
               Terminal.event(terminal, piece("m", "a\nb"), "[1] ")
               Terminal.event(terminal, piece("n", "c"), "[2] ")
               Terminal.event(terminal, piece("m", "d"), "[1] ")
               Terminal.event(terminal, whole("n", "c"), "[2] ")
               Terminal.event(terminal, whole("m", "a\nbd"), "[1] ")
             end) == "[1] a\n[1] b\n[2] c\n[1] d\n"
    end

    test "are not mixed with the status line" do
      {:ok, device} = StringIO.open("")
      leader = Process.group_leader()
      Process.group_leader(self(), device)
      screen = Screen.start(80)
      Process.group_leader(self(), leader)
      :ok = Screen.status(screen, "answering")
      :ok = Screen.piece(screen, "m", "open", "")
      :ok = Screen.status(screen, "thinking")
      :ok = Screen.piece(screen, "m", " line\n", "")
      :ok = Screen.stop(screen)
      {"", out} = StringIO.contents(device)
      assert [before, "open line\n" <> rest] = String.split(out, "\r\e[2K", parts: 2)
      assert before =~ "answering"
      assert rest =~ "thinking"
      assert String.ends_with?(rest, "\r\e[2K")
    end
  end

  describe "pieces cannot put a sequence together" do
    @texts [
      "\e[31mred\e[0m",
      "\e]0;title\a-\e]8;;http://x\e\\link\e]8;;\e\\",
      "\eP1$r0m\e\\x\e(Bx\e",
      "a\u009B2Jb\u009D0;t\u009Cc",
      "é€😀\u202E\u0000",
      "line\r\nline\rline",
      "\e[",
      "\e[\e[31m\e]\e]0;a\e\\",
      "\xFF\xE2\x82\e[2J\xF0\x9F"
    ]

    test "wherever they are cut" do
      for text <- @texts, a <- 0..byte_size(text), b <- a..byte_size(text) do
        {one, rest} = :erlang.split_binary(text, a)
        {two, three} = :erlang.split_binary(rest, b - a)
        shown = show(fn t -> for part <- [one, two, three], do: Terminal.piece(t, part) end)
        # The end of a text that stays incomplete is not shown.
        assert String.starts_with?(same(text), same(shown))
        refute shown =~ ~r/[\x00-\x08\x0b-\x1f\x7f]/
        assert String.valid?(shown)

        shown =
          show(fn terminal ->
            for part <- [one, two], do: Terminal.event(terminal, piece("m", part))
            Terminal.event(terminal, whole("m", text))
          end)

        assert same(shown) == same(text)
      end
    end

    # Invalid bytes that follow each other are one sign if they come together.
    defp same(text) do
      text = text |> Text.printable() |> String.trim_trailing("\n")
      Regex.replace(~r/\x{FFFD}+/u, text, "\uFFFD")
    end

    test "byte by byte, with bytes of all kinds" do
      :rand.seed(:exsss, {1, 2, 3})

      parts = [
        "\e",
        "[",
        "]",
        "0",
        ";",
        "m",
        "\a",
        "\\",
        "\r",
        "\n",
        "é",
        "\u009B",
        "\xE2",
        "x",
        "\xC2"
      ]

      for _ <- 1..2_000 do
        text = Enum.map_join(1..:rand.uniform(12), fn _ -> Enum.random(parts) end)

        {shown, pieces} =
          for(<<byte <- text>>, do: <<byte>>) |> Enum.reduce({"", %Pieces{}}, &feed/2)

        {last, _pieces} = Pieces.complete(pieces, "m", text, "")
        assert same(shown <> last) == same(text), inspect(text)
      end
    end

    defp feed(byte, {shown, pieces}) do
      {text, pieces} = Pieces.add(pieces, "m", byte, "")
      refute text =~ ~r/[\x00-\x08\x0b-\x1f\x7f]/
      {shown <> text, pieces}
    end

    test "and a long open sequence is not waited for" do
      long = String.duplicate("a", 5_000)
      {"", held} = Text.split("\e]0;" <> String.duplicate("a", 4_000))
      assert byte_size(held) == 4_004
      assert {"\e]0;" <> ^long, ""} = Text.split("\e]0;" <> long)
    end
  end

  test "items, folded outputs and prompts are lines" do
    command = %Items.CommandExecution{
      command: "seq 9",
      aggregated_output: Enum.join(1..9, "\n"),
      status: :completed,
      exit_code: 0
    }

    assert show([status: false, fold: 2], fn terminal ->
             Terminal.event(terminal, %Events.ItemCompleted{item: command}, "> ")

             Terminal.item(terminal, %Items.UserMessage{
               content: [%{"type" => "text", "text" => "a\nb"}]
             })

             Terminal.usage(terminal, nil)
           end) =~
             ~r/\A> \$ seq 9.*\n>   \| 1\n>   \| 2\n>   \| … 7 more lines\n> a\n> b\ntokens: not reported\n\z/
  end
end
