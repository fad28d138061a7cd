defmodule Codex.MCPHTTP do
  @moduledoc "Both sides of `Codex.MCP.HTTP` for tests: the owner of a transport, and a server."

  import ExUnit.Assertions

  alias Codex.{HTTPServer, JSON, MCP}

  # --- A client: the test owns the transport ----------------------------------------------------

  def open(url, options \\ %{}) do
    {:ok, t} = MCP.HTTP.open(Map.merge(%{url: url, listen: false, proxy: :none}, options))
    t
  end

  def request(id, method, params \\ %{}),
    do: %{"jsonrpc" => "2.0", "id" => id, "method" => method, "params" => params}

  def notification(method), do: %{"jsonrpc" => "2.0", "method" => method}

  # The next outputs; bytes of messages are granted at once unless `grant?` is false.
  def next(t, grant? \\ true) do
    receive do
      message when is_tuple(message) and is_reference(elem(message, 0)) ->
        case MCP.HTTP.stream(t, message) do
          {:ok, t, []} -> next(t, grant?)
          {:ok, t, outputs} -> {outputs, if(grant?, do: granted(t, outputs), else: t)}
        end
    after
      5_000 -> flunk("no output: #{inspect(t)}, #{inspect(Process.info(self(), :messages))}")
    end
  end

  def granted(t, outputs) do
    for {:messages, _messages, bytes} <- outputs, bytes > 0, reduce: t do
      t -> MCP.HTTP.grant(t, bytes)
    end
  end

  def initialized(t) do
    t = MCP.HTTP.send(t, request(0, "initialize"))
    {[{:messages, [{:result, 0, _}], _}], t} = next(t)

    t
    |> MCP.HTTP.protocol("2025-11-25", :legacy)
    |> MCP.HTTP.send(notification("notifications/initialized"))
  end

  def call(t, id), do: MCP.HTTP.send(t, request(id, "tools/call", %{"name" => "a"}))

  # --- Servers ----------------------------------------------------------------------------------

  # A server that forwards requests to the test, and answers by the functions of the options.
  def server(answers, opts \\ []) do
    test = self()

    HTTPServer.start!(
      fn conn, request ->
        message = decoded(request.body)
        send(test, {:seen, request.method, message["method"], request.headers})
        key = if request.method == "POST", do: message["method"], else: request.method

        case answers[key] do
          nil -> default(conn, message)
          answer -> answer.(conn, message, request)
        end
      end,
      opts
    ) <> "/mcp"
  end

  def decoded(""), do: %{}
  def decoded(body), do: body |> JSON.decode() |> elem(1)

  def default(conn, %{"id" => id}), do: result(conn, id, %{})
  def default(conn, _notification), do: HTTPServer.reply(conn, 202, [], "")

  def result(conn, id, result, headers \\ []),
    do:
      HTTPServer.reply(
        conn,
        200,
        [{"content-type", "application/json"} | headers],
        rpc(id, result)
      )

  def rpc(id, result), do: JSON.encode!(%{"jsonrpc" => "2.0", "id" => id, "result" => result})

  def event(json, more \\ ""), do: "#{more}data: #{json}\n\n"
end
