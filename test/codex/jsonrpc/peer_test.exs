defmodule Codex.JSONRPC.PeerTest do
  # The parts of a peer that an app-server does not use: those of MCP. The others are tested through
  # `Codex.AppServer.State`.
  use ExUnit.Case, async: true

  alias Codex.JSONRPC.{Message, Peer}

  @mcp [version: "2.0", cancel_method: "notifications/cancelled", batches?: true]

  defp request(peer, caller, opts \\ [], now \\ 0) do
    {[{:send, %{"id" => id}}], peer} =
      Peer.run(peer, {:request, caller, "tools/call", %{"name" => "x"}, opts}, now)

    {id, peer}
  end

  test "messages have the version that the protocol wants, or none" do
    for {opts, more} <- [{@mcp, %{"jsonrpc" => "2.0"}}, {[], %{}}] do
      peer = Peer.new(opts)

      assert {[{:send, sent}], peer} = Peer.run(peer, {:request, :a, "ping", nil, []}, 0)
      assert sent == Map.merge(%{"id" => 0, "method" => "ping"}, more)

      notify = {:notify, "notifications/initialized", nil}
      assert {[{:send, sent}], peer} = Peer.run(peer, notify, 0)
      assert sent == Map.merge(%{"method" => "notifications/initialized"}, more)

      {[{:request, "r", "ping", %{}}], peer} =
        Peer.run(peer, {:receive, {:request, "r", "ping", %{}}}, 0)

      assert {[{:send, sent}, {:closed, "r", %{method: "ping"}, {:answered, {:ok, %{}}}}], peer} =
               Peer.run(peer, {:respond, "r", {:ok, %{}}}, 0)

      assert sent == Map.merge(%{"id" => "r", "result" => %{}}, more)
      assert {[], ^peer} = Peer.run(peer, {:respond, "r", {:ok, %{}}}, 0)
    end
  end

  test "an abandoned request is cancelled on the other side, once" do
    {id, peer} = request(Peer.new(@mcp), :a)
    assert {[over, {:send, cancelled}], peer} = Peer.run(peer, {:cancel, :a, "not needed"}, 5)
    assert over == {:answer, id, :a, {:error, :cancelled}}

    assert cancelled == %{
             "jsonrpc" => "2.0",
             "method" => "notifications/cancelled",
             "params" => %{"requestId" => id, "reason" => "not needed"}
           }

    assert {[], ^peer} = Peer.run(peer, {:cancel, :a, "not needed"}, 5)
    assert Peer.deadline(peer) == :infinity

    # The answer crossed the notification.
    assert {[{:unexpected, ^id, :late, {:ok, 1}}], _} =
             Peer.run(peer, {:receive, {:result, id, 1}}, 6)

    # A timeout cancels the request on the other side, too; the handshake is never cancelled.
    for {opts, sent} <- [{[timeout_ms: 10], 1}, {[timeout_ms: 10, cancel?: false], 0}] do
      {id, peer} = request(Peer.new(@mcp), :a, opts)
      assert {[{:answer, ^id, :a, late} | rest], _} = Peer.run(peer, :tick, 10)
      assert late == {:error, {:timeout, "tools/call", 10}}
      assert length(rest) == sent
    end
  end

  test "progress extends a timeout up to the limit" do
    {id, peer} = request(Peer.new(@mcp), :a, timeout_ms: 100, limit_ms: 250)
    {[], peer} = Peer.run(peer, {:extend, id}, 90)
    assert Peer.deadline(peer) == 190
    {[], peer} = Peer.run(peer, {:extend, id}, 180)
    assert Peer.deadline(peer) == 250
    {[], peer} = Peer.run(peer, {:extend, id}, 249)

    assert {[{:answer, ^id, :a, {:error, {:timeout, _, 100}}}, _], peer} =
             Peer.run(peer, :tick, 250)

    assert {[], ^peer} = Peer.run(peer, {:extend, id}, 251)
  end

  test "batches are accepted if the protocol has them" do
    batch = [%{"id" => 0, "result" => 1}, %{"method" => "m"}, %{"id" => "p", "method" => "ping"}]
    message = Message.from_term(batch)
    {0, peer} = request(Peer.new(@mcp), :a)

    assert {[{:answer, 0, :a, {:ok, 1}}, {:notification, "m", %{}}, {:request, "p", "ping", %{}}],
            %{received: %{"p" => _}}} = Peer.run(peer, {:receive, message}, 0)

    {0, peer} = request(Peer.new(), :a)

    assert Peer.run(peer, {:receive, message}, 0) ==
             {[{:note, {:malformed, :not_a_message}}], peer}
  end

  test "without an answer in time, requests of the other side are refused as unknown methods" do
    peer = Peer.new(answer_timeout_ms: 50)
    {_, peer} = Peer.run(peer, {:receive, {:request, 1, "roots/list", %{}}}, 0)
    peer = Peer.put_data(peer, 1, :mine)
    assert {[sent, note, closed], peer} = Peer.run(peer, :tick, 50)
    assert {:send, %{"id" => 1, "error" => %{"code" => -32_601}}} = sent
    assert note == {:note, {:denied, :expired, 1, "roots/list"}}
    assert {:closed, 1, %{data: :mine}, :expired} = closed
    assert peer.received == %{} and Peer.deadline(peer) == :infinity
  end

  test "the end answers everybody" do
    {one, peer} = request(Peer.new(@mcp), :a)
    {two, peer} = request(peer, :b)
    {_, peer} = Peer.run(peer, {:receive, {:request, "r", "ping", %{}}}, 0)

    assert {[
              {:answer, ^one, :a, {:error, :gone}},
              {:answer, ^two, :b, {:error, :gone}},
              {:closed, "r", _, :down}
            ], peer} = Peer.run(peer, {:down, :gone}, 9)

    assert {peer.sent, peer.received, Peer.deadline(peer)} == {%{}, %{}, :infinity}
  end

  test "no parameter and no answer shows when a peer is inspected" do
    {[_], peer} = Peer.run(Peer.new(), {:request, :a, "login", %{"apiKey" => "sk-marked"}, []}, 0)
    assert inspect(peer) =~ ~s("login" => 1)
    refute inspect(peer, structs: true, limit: :infinity) =~ "marked"
  end
end
