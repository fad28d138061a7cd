defmodule Codex.SessionStore.TelemetryTest do
  # The events of mirrors. The stand-in of `:telemetry` is for one test at a time.
  use ExUnit.Case, async: false

  import Codex.Mirrored
  alias Codex.{Test, Thread}

  @moduletag :codex_cli
  @compile {:no_warn_undefined, :telemetry}

  setup do
    Codex.TelemetryStandIn.load!()
    test = self()
    names = for name <- [:append, :failure, :stop], do: [:my, :session_store, name]

    tell = fn [:my, :session_store, name], measured, meta, _ ->
      send(test, {name, measured, meta})
    end

    :ok = :telemetry.attach_many("mirror", names, tell, nil)
  end

  defp run!(store) do
    model = Test.start!(["answer"])
    options = Test.thread_options(model) ++ [session_store: store]
    {:ok, thread} = Codex.start_thread(Test.options(model) ++ [telemetry_prefix: [:my]], options)
    {:ok, result} = Thread.run(thread, "hello")
    result
  end

  test "batches, failures and the end are events" do
    result = run!(memory!(flush_ms: 60_000))
    id = result.thread.thread_id

    assert_receive {:append, %{bytes: bytes, duration: _, duration_ms: _}, %{thread_id: ^id}},
                   30_000

    assert bytes > 0
    sent = result.mirror.sent
    assert_receive {:stop, %{bytes: ^sent}, %{state: :current, error: nil}}, 30_000

    secret = "sk-secret"

    before = fn
      :append -> {:error, {:http, secret}}
      _other -> :ok
    end

    result = run!(wrong(memory!(), before, flush_ms: 1, give_up_ms: 1))
    assert result.mirror.state != :current
    assert_receive {:failure, measured, %{attempt: 1} = failure}, 30_000
    assert %{kind: :session_store, reason: :session_store_failed, originator: :sdk} = failure
    assert_receive {:stop, _measured, %{state: :failed, error: :session_store} = stop}, 30_000
    refute inspect({measured, failure, stop}) =~ secret
  end
end
