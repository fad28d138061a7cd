defmodule Codex.AppServer.OddTest do
  # Whatever a server sends, the process of a connection reads it: structs of what is told and
  # asked, and answers to it.
  use ExUnit.Case, async: true

  alias Codex.AppServer.{EventDecoder, Request, ServerRequest}
  alias Codex.{Events, Protocol}

  # Values of the wrong kind where the protocol has others.
  @odd [nil, 1, 1.5, true, "x", "", [], [1], [%{}], %{}, %{"id" => 1}, %{"type" => []}]
  @names ~w(item turn thread delta itemId threadId turnId tokenUsage error questions permissions _meta plan usage rateLimits
            arguments options changes status tool requestId startedAtMs)

  defp params do
    for name <- Enum.take_random(@names, :rand.uniform(8)), into: %{} do
      {name, odd(2)}
    end
  end

  defp odd(0), do: Enum.random(@odd)

  defp odd(depth) do
    case :rand.uniform(4) do
      1 -> for(name <- Enum.take_random(@names, 3), into: %{}, do: {name, odd(depth - 1)})
      2 -> for(_ <- 1..2, do: odd(depth - 1))
      _ -> odd(0)
    end
  end

  test "each of the notifications becomes an event, and none is lost" do
    methods = Protocol.notifications()
    assert length(methods) > 80

    for method <- ["turn/weather" | methods], _ <- 1..50 do
      params = params()
      assert %struct{} = event = EventDecoder.decode(method, params)

      if struct == Events.AppServerNotification,
        do: assert({event.method, event.params} == {method, params})
    end
  end

  defp answers,
    do: [
      :allow,
      :cancel,
      :later,
      {:allow, for_session: true},
      {:allow, %{always: true}},
      {:allow, [1]},
      {:allow, [:for_session]},
      {:allow, %URI{}},
      %{"q" => ["a" | "b"]},
      {:deny, "no"},
      {:accept, %{"a" => 1}},
      {:accept, nil},
      {:accept, %{"a" => self()}},
      {:accept, %{"a" => <<0xFF>>}},
      %{"q" => <<0xFF>>},
      {:ok, %{a: self()}},
      {:ok, [1 | 2]},
      {:ok, <<0xFF>>},
      {:error, {:secret, "x"}},
      {:error, %{"code" => 1, "message" => "m"}},
      %{"q" => "a"},
      %{q: ["a", "b"]},
      %{"q" => 1},
      [access_token: "a"],
      "text",
      5,
      nil
    ]

  test "each request becomes a struct, and takes an answer or names the expected one" do
    for method <- ["weather/read" | Protocol.server_requests()],
        answer <- answers(),
        _ <- 1..10 do
      params = params()
      assert %_{method: ^method, params: ^params, token: nil} = Request.new(method, params)

      # What is taken goes over the wire.
      case ServerRequest.encode(method, params, {:answer, answer}) do
        {:ok, {kind, wire}} when kind in [:ok, :error] -> assert Codex.JSON.encode!(wire)
        {:error, error} -> assert %Codex.OptionError{} = error
      end
    end
  end
end
