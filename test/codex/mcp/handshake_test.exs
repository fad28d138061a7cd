defmodule Codex.MCP.HandshakeTest do
  use ExUnit.Case, async: true

  alias Codex.MCP.Handshake

  @options %{protocol_version: nil, timeout_ms: 10_000, probe_ms: 1_000}

  defp discovered(answer, options \\ @options) do
    {:discover, probe} = options |> Handshake.new(nil, 0) |> Handshake.next(0)
    %{probe | discover: answer}
  end

  defp refused(versions),
    do: {:error, %{"code" => -32_022, "data" => %{"supported" => versions}}}

  test "an answer that any method would get does not make a server modern" do
    for answer <- [%{}, %{"capabilities" => %{}}, %{"supportedVersions" => ["2026-07-28"]}] do
      assert {{:initialize, "2025-11-25"}, _} = Handshake.next(discovered({:ok, answer}), 1)
    end

    answer = %{"supportedVersions" => ["2026-07-28"], "capabilities" => %{}}
    assert {{:modern, ^answer}, _} = Handshake.next(discovered({:ok, answer}), 1)

    assert {{:initialize, "2025-06-18"}, _} =
             Handshake.next(
               discovered({:ok, %{answer | "supportedVersions" => ["2025-06-18"]}}),
               1
             )
  end

  test "a server that supports the version it refused is asked once more" do
    for version <- [nil, "2026-07-28"] do
      probe = discovered(refused(["2026-07-28"]), %{@options | protocol_version: version})
      assert {:discover, probe} = Handshake.next(probe, 1)
      again = refused(["2026-07-28"])
      {:error, error} = again
      assert {{:fail, ^error}, _} = Handshake.next(%{probe | discover: again}, 2)
    end

    assert {{:initialize, "2025-06-18"}, _} =
             Handshake.next(discovered(refused(["2025-06-18"])), 1)

    assert {{:fail, _}, _} = Handshake.next(discovered(refused(["1999-01-01"])), 1)
    assert {{:fail, _}, _} = Handshake.next(discovered({:error, %{"code" => -32_020}}), 1)
  end
end
