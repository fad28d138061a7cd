defmodule Codex.GuidesOutputTest do
  # Runs the code of `guides/structured_output.md` with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Test.Steps

  @moduletag :codex_cli

  @guide File.read!(Path.expand("../guides/structured_output.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  defp run(script, more) do
    model = Codex.Test.start!(script)
    options = Codex.Test.thread_options(model) ++ more.(model)

    code =
      @blocks
      |> Enum.join("\n")
      |> String.replace("start_thread()", "start_thread(client, options)")

    out =
      ExUnit.CaptureIO.capture_io(fn ->
        Code.eval_string(code, client: Codex.Test.options(model), options: options)
      end)

    for module <- [MyApp.Line, MyApp.Invoice] do
      :code.purge(module)
      :code.delete(module)
    end

    {out, Codex.Test.requests(model)}
  end

  test "the code of the guide runs on both transports" do
    lines = [%{item: "Tea", price: 2}, %{item: "Cake", price: 3.5}]

    script = [
      json(%{name: "Kettle", languages: ["Elixir"], size: "small", license: nil}),
      json(%{number: "R-7", total: 5, lines: lines}),
      json(%{number: "R-7", total: 5.5, lines: lines}),
      json(%{title: "A title of more than twenty characters"})
    ]

    connected = fn model -> [transport: {:app_server, Codex.Connected.connect!(model)}] end

    for more <- [fn _model -> [] end, connected] do
      {out, requests} = run(script, more)

      assert out =~ "Kettle is small, with a license: false\n"
      assert out =~ ~s(R-7 has 2 lines: %MyApp.Line{item: "Tea", price: 2}\n)
      assert out =~ "title must have at most 20 characters\n"
      assert out =~ "invalid at properties.labels: properties\n"

      # The invalid schema was not sent.
      assert length(requests) == 4
      assert inspect(Enum.at(requests, 2).body, limit: :infinity) =~ "total must be the sum"
    end
  end
end
