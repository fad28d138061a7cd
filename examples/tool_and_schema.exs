# The agent calls a tool in this VM, and answers with JSON that fits a schema.
#
#     mix run examples/tool_and_schema.exs "Where is order 17?"
#
# Uses the login of the Codex CLI. Exit status: 0 with an answer, 1 if the turn failed or its answer
# does not fit, 2 without a question.

defmodule OrderStatus do
  use Codex.Tool,
    name: "order_status",
    description: "The status of an order, by its number",
    parameters: %{
      type: "object",
      properties: %{number: %{type: "string", pattern: "^[0-9]+$"}},
      required: ["number"],
      additionalProperties: false
    },
    timeout_ms: 5_000

  # The arguments fit the schema; others are rejected before this call.
  @impl true
  def invoke(%{"number" => number}, context) do
    case context.context.orders do
      %{^number => order} -> {:ok, order}
      _none -> {:error, "there is no order #{number}"}
    end
  end
end

defmodule Answer do
  @enforce_keys [:order, :status, :reply]
  defstruct [:order, :status, :reply]

  @statuses %{"sent" => :sent, "open" => :open, "unknown" => :unknown}

  def schema do
    %{
      type: "object",
      properties: %{
        order: %{type: "string"},
        status: %{type: "string", enum: Map.keys(@statuses)},
        reply: %{type: "string"}
      },
      required: ["order", "status", "reply"],
      additionalProperties: false
    }
  end

  # The provider enforces the schema; the answer is checked all the same.
  def new(%{"order" => order, "status" => status, "reply" => reply})
      when is_binary(order) and is_map_key(@statuses, status) and is_binary(reply),
      do: {:ok, %__MODULE__{order: order, status: @statuses[status], reply: reply}}

  def new(other), do: {:error, "the answer does not fit the schema: #{inspect(other)}"}
end

defmodule Desk do
  alias Codex.Turn.Result

  @orders %{"17" => %{status: "sent", carrier: "by bike"}, "18" => %{status: "open"}}

  def main([question]) do
    case ask(question) do
      {:ok, %Answer{} = answer} ->
        IO.puts("#{answer.order}: #{answer.status}\n#{Codex.Text.printable(answer.reply)}")
        0

      {:error, reason} ->
        IO.puts(:stderr, "no answer: #{Codex.Error.normalize(reason).message}")
        1
    end
  end

  def main(_args) do
    IO.puts(:stderr, ~s(usage: tool_and_schema.exs "QUESTION"))
    2
  end

  defp ask(question) do
    # Tools are experimental in the protocol of the app-server; `codex exec` has no tools.
    with {:ok, conn} <- Codex.AppServer.connect([], experimental_api: true),
         {:ok, thread} <-
           Codex.start_thread([],
             transport: {:app_server, conn},
             sandbox: :read_only,
             tools: [OrderStatus],
             metadata: %{tool_context: %{orders: @orders}}
           ),
         {:ok, result} <- Codex.Thread.run(thread, question, output_schema: Answer.schema()),
         {:ok, decoded} <- Result.json(result),
         do: Answer.new(decoded)
  end
end

System.halt(Desk.main(System.argv()))
