defmodule Codex.GuidesAgentsTest do
  # Runs the code of `guides/agents.md` with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Test.Steps

  @moduletag :codex_cli

  @guide File.read!(Path.expand("../guides/agents.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  test "the code of the guide runs" do
    model =
      Codex.Test.start!([
        tool_call("order_state", %{number: "17"}),
        "It is shipped.",
        tool_call("order_state", %{number: "99"}),
        "I cannot tell.",
        tool_call("transfer_to_orders", %{}),
        "Order 18 is shipped.",
        "Hello!"
      ])

    code =
      @blocks
      |> Enum.join("\n")
      |> String.replace("connect([], ", "connect(client, ")
      |> String.replace("start_thread([], ", "start_thread(client, options ++ ")
      |> String.replace(
        "options ++ transport: {:app_server, conn}",
        "options ++ [transport: {:app_server, conn}]"
      )

    out =
      ExUnit.CaptureIO.capture_io(fn ->
        Code.eval_string(code,
          client: Codex.Test.options(model),
          options: Codex.Test.thread_options(model)
        )
      end)

    :code.purge(MyApp.OrderState)
    :code.delete(MyApp.OrderState)

    assert out == """
           It is shipped.
           stopped: the input has a card number
           I cannot tell.
           now: orders
           orders: Order 18 is shipped.
           begins: orders
           """

    outputs =
      for %{body: %{"input" => input}} <- Codex.Test.requests(model),
          %{"type" => "function_call_output", "output" => output} <- input,
          do: inspect(output)

    assert Enum.any?(outputs, &(&1 =~ "this order belongs to someone else"))
  end
end
