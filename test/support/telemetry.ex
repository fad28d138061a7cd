defmodule Codex.TelemetryStandIn do
  @moduledoc """
  The application `:telemetry`, as much of it as the SDK and its callers use, loaded for one test: no package can be had to
  build with. Handlers run in the process that tells, and one that fails is detached, as there.
  """

  # It is compiled while a test runs.
  @compile {:no_warn_undefined, :telemetry}

  # Stands in for :telemetry: calls the handlers.
  @source """
  -module(telemetry).
  -export([attach/4, attach_many/4, detach/1, execute/3]).

  attach(Id, Event, Function, Config) -> attach_many(Id, [Event], Function, Config).

  attach_many(Id, Events, Function, Config) ->
    case ets:insert_new(telemetry_stand_in, {{id, Id}, true}) of
      true -> [ets:insert(telemetry_stand_in, {{event, E, Id}, Function, Config}) || E <- Events], ok;
      false -> {error, already_exists}
    end.

  detach(Id) ->
    ets:match_delete(telemetry_stand_in, {{event, '_', Id}, '_', '_'}),
    ets:delete(telemetry_stand_in, {id, Id}),
    ok.

  execute(Event, Measurements, Metadata) ->
    [try Function(Event, Measurements, Metadata, Config) catch _:_ -> detach(Id) end
     || [Id, Function, Config] <- ets:match(telemetry_stand_in, {{event, Event, '$1'}, '$2', '$3'})],
    ok.
  """

  @doc "Loads it until the test ends. Nothing else may run meanwhile."
  def load! do
    table = :ets.new(:telemetry_stand_in, [:named_table, :public])
    {:module, :telemetry} = load()

    ExUnit.Callbacks.on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
      if :ets.whereis(table) != :undefined, do: :ets.delete(table)
    end)
  end

  defp load do
    forms =
      for form <- String.split(@source, ~r/(?<=\.)\n\n?/, trim: true), String.trim(form) != "" do
        {:ok, tokens, _} = form |> String.to_charlist() |> :erl_scan.string()

        for tokens <- split(tokens) do
          {:ok, form} = :erl_parse.parse_form(tokens)
          form
        end
      end

    {:ok, module, binary} = forms |> List.flatten() |> :compile.forms()
    :code.load_binary(module, ~c"telemetry.erl", binary)
  end

  defp split(tokens) do
    chunk = fn
      {:dot, _} = dot, form -> {:cont, Enum.reverse([dot | form]), []}
      token, form -> {:cont, [token | form]}
    end

    Enum.chunk_while(tokens, [], chunk, fn _ -> {:cont, []} end)
  end

  @doc "Sends every event of the SDK to this process, as `{:told, name, measurements, metadata}` without the prefix."
  def listen!(prefix \\ [:codex]) do
    test = self()

    tell = fn event, measurements, metadata, _config ->
      send(test, {:told, Enum.drop(event, length(prefix)), measurements, metadata})
    end

    :ok = :telemetry.attach_many("test", Codex.Telemetry.events(prefix), tell, nil)
  end

  @doc "What has been told so far, in order."
  def told do
    receive do
      {:told, name, measurements, metadata} -> [{name, measurements, metadata} | told()]
    after
      0 -> []
    end
  end
end
