defmodule Codex.GuidesLivebookTest do
  # Runs the cells of the notebooks in order, as Livebook does, with the real CLI: without Kino, and
  # with a stand-in. Not async: the stand-in is for the whole VM.
  use ExUnit.Case, async: false

  @moduletag :codex_cli

  @folder Path.expand("../guides/livebook", __DIR__)
  @notebooks @folder |> Path.join("*.livemd") |> Path.wildcard()

  # The stand-in has the functions of Kino that a notebook may call, as Kino 0.14 has them.
  @kino """
  defmodule Kino do
    def render(term), do: term

    defmodule Frame do
      def new(options \\\\ []) when is_list(options), do: :frame
      def append(:frame, %{text: text}), do: IO.write(["<frame>", text])
    end

    defmodule Text do
      def new(text, chunk: true) when is_binary(text), do: %{text: text}
    end

    defmodule Markdown do
      def new(text) when is_binary(text), do: {:markdown, text}
    end

    defmodule DataTable do
      def new([%{} | _] = rows), do: {:table, rows}
    end
  end
  """

  defp cells(path) do
    text = File.read!(path)
    for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, text), do: code
  end

  # Variables, imports and aliases of a cell are those of the next one. Returns the values by cell.
  defp run(path) do
    [setup | cells] = cells(path)
    assert setup =~ "Mix.install("
    env = Code.env_for_eval(file: path)

    {values, _state} =
      Enum.map_reduce(cells, {[], env}, fn code, {binding, env} ->
        quoted = Code.string_to_quoted!(code, file: path)
        {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
        {value, {binding, env}}
      end)

    values
  end

  defp run_quietly(path) do
    test = self()
    out = ExUnit.CaptureIO.capture_io(fn -> send(test, {:values, run(path)}) end)
    assert_received {:values, values}
    forget([Notebook.OrderStatus])
    {values, out}
  end

  defp forget(modules) do
    for module <- modules do
      :code.purge(module)
      :code.delete(module)
    end
  end

  test "a notebook is a document of Livebook" do
    assert [_, _, _ | _] = @notebooks

    for path <- @notebooks, text = File.read!(path) do
      assert text =~ ~r/\A# \S.*\n\n```elixir\nMix\.install\(\[\n/
      # One title, sections, and cells that are closed.
      assert [_] = Regex.scan(~r/^# /m, Regex.replace(~r/^```.*?^```/ms, text, ""))
      assert [_, _ | _] = Regex.scan(~r/^## /m, text)
      assert text =~ "## The end\n"
      assert rem(length(Regex.scan(~r/^```/m, text)), 2) == 0

      assert length(Regex.scan(~r/^```elixir$/m, text)) ==
               div(length(Regex.scan(~r/^```/m, text)), 2)
    end
  end

  for path <- @notebooks do
    name = Path.basename(path)

    test "the cells of #{name} run, without Kino and with it" do
      refute Code.ensure_loaded?(Kino)
      {values, out} = run_quietly(unquote(path))
      check(unquote(name), values, out)

      [{kino, _} | _] = modules = Code.compile_string(@kino)
      _ = kino

      try do
        {values, out} = run_quietly(unquote(path))
        check_kino(unquote(name), values, out)
      after
        forget(Enum.map(modules, &elem(&1, 0)))
      end
    end
  end

  defp check("first_steps.livemd", values, out) do
    assert ["All tests pass.", [{command, 0, "3 tests, 0 failures\n"}] | _] = Enum.drop(values, 1)
    assert command =~ "echo 3 tests"
    assert "There is one for the README." in values
    assert out =~ "Green is a colour."
    assert "unknown option :sandbx; did you mean :sandbox?" in values
    assert {_kind, message} = Enum.at(values, -2)
    assert message =~ "no step is left"
  end

  defp check("tools_and_output.livemd", values, _out) do
    assert "Order 17 is on its way." in values
    assert [{"order_status", %{"number" => "17"}, :completed}] in values
    assert {%{title: "A shop", stars: 4}, 1} in values
  end

  defp check("sessions_and_usage.livemd", values, out) do
    assert [%{title: "Are there release notes?"}, %{title: "What is this?", input: 200}] =
             Enum.find(values, &match?([%{input: _} | _], &1))

    assert ["What is this?", "Which languages?"] in values
    assert out =~ "Elixir and Rust."
    assert Enum.any?(values, &match?([{:prompt, "release notes"} | _], &1))
  end

  defp check("many_turns.livemd", values, _out) do
    assert [%{status: :ok}, %{status: :ok}, %{file: "broken.ex", status: :failed, kind: kind}] =
             Enum.find(values, &match?([%{file: _} | _], &1))

    assert kind == :invalid_request
    assert "Looks good." in values
  end

  defp check_kino("first_steps.livemd", _values, out), do: assert(out =~ "<frame>Green ")
  defp check_kino("tools_and_output.livemd", values, _out), do: assert([_ | _] = values)

  defp check_kino("sessions_and_usage.livemd", values, _out) do
    assert Enum.any?(values, &match?({:table, [_, _]}, &1))
    assert Enum.any?(values, &match?({:markdown, _}, &1))
  end

  defp check_kino("many_turns.livemd", values, _out),
    do: assert(Enum.any?(values, &match?({:table, [_, _, _]}, &1)))
end
