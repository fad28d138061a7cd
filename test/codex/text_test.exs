defmodule Codex.TextTest do
  use ExUnit.Case, async: true

  alias Codex.Approvals.Crash
  alias Codex.Telemetry.DefaultLogger
  alias Codex.Text

  doctest Codex.Text

  describe "printable/1" do
    test "removes the escape sequences of terminals, in both spellings" do
      for {sequence, n} <-
            Enum.with_index([
              "\e[1;31m",
              "\e[2J",
              "\e[?25l",
              "\e[38:2::1:2:3m",
              "\e]0;title\a",
              "\e]8;;http://example.com\e\\",
              "\e]52;c;aGk=\u009C",
              "\eP+q544e\e\\",
              "\e_apc\e\\",
              "\e^pm\e\\",
              "\eXsos\e\\",
              "\ec",
              "\e(B",
              "\e#8",
              "\e7",
              "\u009B31m",
              "\u009D0;title\a",
              "\u0090q\u009C"
            ]) do
        assert {n, Text.printable("a#{sequence}b")} == {n, "ab"}
      end
    end

    test "keeps the words of a sequence without an end" do
      assert Text.printable("a\e]0;words") == "a\uFFFD]0;words"
      assert Text.printable("a\e[31") == "a\uFFFD[31"
      assert Text.printable("a\e") == "a\uFFFD"
      assert Text.printable("\e]0;a\nb\a") == "\uFFFD]0;a\nb\uFFFD"
      assert Text.printable("\u009Bé") == "\uFFFDé"
    end

    test "leaves no control character, no reordering and no invalid byte" do
      odd =
        Enum.concat([0..0x1F, [0x7F], 0x80..0x9F, 0x202A..0x202E, 0x2066..0x2069]) ++
          [0x061C, 0x200E, 0x200F, 0x2028, 0x2029]

      for char <- odd, char not in [?\n, ?\t, ?\r] do
        assert Text.printable(<<"a", char::utf8>>) == "a\uFFFD"
        assert Text.line(<<"a", char::utf8>>) == "a\uFFFD"
      end

      for byte <- 0x80..0xFF, do: assert(Text.printable(<<"a", byte, "b">>) == "a\uFFFDb")
    end

    test "keeps ordinary text" do
      text = "a\tb\nc — “ü” 👩‍💻 שלום 日本\u00A0é"
      assert Text.printable(text) == text
      assert Text.line(text) == String.replace(text, "\n", " ")
      assert Text.printable("10%\r20%\r\n") == "10%\n20%\n"
    end

    test "is linear" do
      for piece <- ["\e]0;", "\u009D0;", "\e[", "\u009B1", "\xFF", "\r", "\e"] do
        text = String.duplicate(piece, div(2_000_000, byte_size(piece)))
        assert text |> Text.printable() |> String.valid?()
      end
    end
  end

  test "json/1 escapes characters that JSON leaves raw" do
    for text <- ["\u009B31m", "\u202Ea", "\u007F", "a\u2028b", "plain é"] do
      json = text |> Codex.JSON.encode!() |> Text.json()
      assert Text.printable(json) == json
      assert Codex.JSON.decode(json) == {:ok, text}
    end
  end

  # All control sequences of a terminal in one text, and the expected rest.
  @hostile "a\e[31mb\e]0;t\a\u009B2Jc\u202Ed\0\u007F"

  defp plain!(text) do
    assert Text.printable(text) == text
    refute text =~ "\r"
    text
  end

  describe "text of others is printable in" do
    @describetag :tmp_dir

    test "messages of errors, while details keep it" do
      for failure <- [
            %{"message" => @hostile},
            @hostile,
            %RuntimeError{message: @hostile},
            %Codex.TransportError{message: @hostile},
            %Codex.Subprocess.Error{reason: :enoent, text: @hostile},
            Codex.ApprovalError.new(@hostile, @hostile),
            Codex.GuardrailError.exception(stage: :input, message: @hostile),
            %Codex.Config.Error{reason: :unreadable, file: @hostile, message: @hostile}
          ] do
        error = Codex.Error.normalize(failure)
        assert plain!(error.message) =~ "ab"
        assert plain!(Exception.message(error)) == error.message

        if is_exception(failure) and not is_struct(failure, RuntimeError),
          do: plain!(Exception.message(failure))
      end

      assert Codex.Error.normalize(%{"message" => @hostile}).details.raw["message"] == @hostile
    end

    test "the error with the last words of a program", %{tmp_dir: dir} do
      body = ~S"""
      cat > /dev/null
      printf '\033[31mERROR\033[0m no \033]0;owned\007\302\2332Jwords\377\n' >&2
      exit 3
      """

      assert {:error, {:exec_failed, error}} =
               Codex.Thread.run(Codex.Stub.thread(dir, body), "hi")

      assert plain!(error.message) == "codex exited with status 3: ERROR no words\uFFFD"
      assert error.stderr =~ "\e[31m"
    end

    test "the configuration: errors, warnings, explanations and tasks", %{tmp_dir: dir} do
      key = ~S("a\u001b[31mb\nforged\u202e")
      File.write!(Path.join(dir, "config.toml"), "#{key} = 1\nmodel = \"\\u001b[31m\\u009b2J\"\n")
      {:ok, config} = Codex.Config.load(codex_home: dir, cwd: dir, system_dir: dir)

      for warning <- Codex.Config.warnings(config) do
        # The message and the line itself.
        assert [_, _] = warning |> Exception.message() |> plain!() |> String.split("\n")
      end

      plain!(Codex.Config.explain(config))
      assert plain!(Codex.Config.explain(config, "model")) =~ ~S("\u001B[31m\u009B2J")
      plain!(Codex.Config.explain(config, ["a\e[31mb\nforged\u202E"]))
    end

    test "the doctor", %{tmp_dir: dir} do
      checks =
        Codex.Doctor.run(codex_home: dir, cwd: dir, codex_path: Path.join(dir, @hostile <> "x"))

      plain!(Codex.Doctor.text(checks, color: false))
      plain!(Codex.Doctor.json(checks))
    end

    test "the log of a function of the host that failed" do
      log =
        ExUnit.CaptureLog.capture_log([colors: [enabled: false]], fn ->
          Crash.log("f", :error, %RuntimeError{message: @hostile}, [])
          Crash.invalid("f", "answered " <> @hostile)
          Crash.invalid("f", {:invalid, @hostile})
        end)

      plain!(log)
      assert log =~ "ab"
    end

    test "the lines of the default logger" do
      metadata = %{tool: @hostile, server: @hostile, thread_id: @hostile}
      config = %{level: :warning, prefix: [:codex]}

      log =
        ExUnit.CaptureLog.capture_log([colors: [enabled: false]], fn ->
          DefaultLogger.handle(
            [:codex, :tool, :success],
            %{duration_ms: 1},
            metadata,
            config
          )
        end)

      assert plain!(log) =~ "codex tool ab"
    end
  end
end
