defmodule Codex.OptionsCanaryTest do
  # Every public function that takes options, called with wrong ones beside a secret: whatever it
  # returns, raises or logs must not hold the secret.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Codex.Auth.{Credentials, MCP}

  @canary "sk-CANARY-of-options"
  # Arguments that are options, by their names in the documentation.
  @options ~w(opts options request_options settings thread_opts thread_options turn_opts attrs)a

  # These take a struct, or no options without a child process.
  @structs [
    {Codex.Config.Overrides, :derived_overrides},
    {Codex.Config.Overrides, :merge_config},
    # Metadata are the options of a tool.
    {Codex.FunctionTool, :build_metadata},
    {Codex.Options, :codex_path},
    {Codex.RateLimit, :account},
    {Codex.Subprocess, :stop},
    {Codex.Subprocess, :stop_soon}
  ]

  # The documented functions of the package that take options: module, name, names of arguments.
  defp functions do
    {:ok, modules} = :application.get_key(:codex_sdk, :modules)

    for module <- modules,
        source = to_string(module.module_info(:compile)[:source]),
        source =~ "/lib/codex",
        {:docs_v1, _, _, _, moduledoc, _, docs} <- [Code.fetch_docs(module)],
        moduledoc != :hidden and not inspector?(module),
        {{:function, name, _arity}, _, [signature | _], doc, _} <- docs,
        doc != :hidden,
        names = names(signature),
        Enum.any?(names, &(&1 in @options)) and {module, name} not in @structs,
        do: {module, name, names}
  end

  defp inspector?(module), do: match?(["Inspect" | _], Module.split(module))

  defp names(signature) do
    {_, _, arguments} = Code.string_to_quoted!(signature)

    for argument <- arguments do
      case argument do
        {:\\, _, [{name, _, _}, _default]} -> name
        {name, _, _} -> name
        _literal -> nil
      end
    end
  end

  defp wrong do
    secrets = [
      api_key: @canary,
      env: %{"TOKEN" => @canary},
      headers: %{"authorization" => @canary},
      token: @canary,
      config: %{"model_providers.x.experimental_bearer_token" => @canary}
    ]

    misspelt = [[{:zzz, 1} | secrets], secrets ++ [zzz: 1], Map.new([{:zzz, 1} | secrets])]
    strings = Map.new([{:zzz, 1} | secrets], fn {key, value} -> {to_string(key), value} end)

    typed =
      for name <- Keyword.keys(secrets),
          value <- [{@canary}, [@canary], [{"a", @canary} | @canary]],
          do: [{name, value}]

    [strings, @canary, {@canary}, [@canary], [{:api_key, @canary} | @canary]] ++ misspelt ++ typed
  end

  defp arguments(name, options, _thread, _gone) when name in [:what | @options], do: options
  defp arguments(:conn, _options, _thread, gone), do: gone
  defp arguments(:thread, _options, thread, _gone), do: thread
  defp arguments(name, _options, _thread, _gone), do: argument(name)

  defp argument(:client), do: "ws://127.0.0.1:9"
  defp argument(name) when name in [:plan, :pieces, :items, :checks], do: []
  defp argument(name) when name in [:ms, :status, :attempt], do: 1
  defp argument(name) when name in [:info, :event, :context], do: %{}
  defp argument(:policy), do: fn _event -> :allow end
  defp argument(:reply), do: %{"data" => []}
  defp argument(:exporter), do: {:otlp_http, [endpoint: "http://127.0.0.1:9/"]}
  defp argument(:edits), do: [{:put, "model", "m"}]
  defp argument(:login), do: Credentials.api_key("sk-other")
  defp argument(:tokens), do: %MCP{server: "s", url: "u", client_id: "c", access_token: "a"}
  defp argument(:level), do: :trusted
  defp argument(:fun), do: fn -> {:ok, 1} end
  defp argument(:server), do: %{command: "x"}
  defp argument(:argv), do: ["true"]
  defp argument(_name), do: "x"

  # A process of its own: some calls link, and some exit.
  defp call(fun) do
    {pid, monitor} =
      spawn_monitor(fn ->
        exit(
          {:told,
           try do
             {:returned, lazy(fun.())}
           rescue
             error -> {:raised, Exception.format(:error, error, __STACKTRACE__)}
           catch
             kind, reason -> {kind, reason}
           end}
        )
      end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:told, outcome}} -> outcome
      {:DOWN, ^monitor, :process, ^pid, reason} -> reason
    end
  end

  # The fields of an error, which `inspect/1` does not show.
  defp fields({:returned, {:error, %Codex.OptionError{} = error}}), do: Map.from_struct(error)
  defp fields(_outcome), do: nil

  # Options that are checked on reading.
  defp lazy({:ok, stream}) when is_function(stream, 2), do: Enum.take(stream, 1)
  defp lazy(stream) when is_function(stream, 2), do: Enum.take(stream, 1)
  defp lazy(%Stream{} = stream), do: Enum.take(stream, 1)
  # A step of the test server holds the headers that it was given.
  defp lazy({step, _items, _headers}) when step in [:respond, :raw], do: :step
  defp lazy(result), do: result

  test "errors of invalid options contain no secret" do
    gone = spawn(fn -> :ok end)
    client = [codex_path_override: "/no/such/codex"]
    {:ok, exec} = Codex.start_thread(client)
    {:ok, over} = Codex.start_thread(client, transport: {:app_server, gone})
    over = %{over | thread_id: "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"}
    functions = functions()
    assert length(functions) > 100

    for {module, name, names} <- functions, options <- wrong(), thread <- [exec, over] do
      arguments = Enum.map(names, &arguments(&1, options, thread, gone))

      {outcome, log} = with_log(fn -> call(fn -> apply(module, name, arguments) end) end)

      shown = [limit: :infinity, printable_limit: :infinity]
      said = inspect(outcome, shown) <> inspect(fields(outcome), shown) <> log

      if said =~ @canary do
        {inspect(module), name, inspect(options), said}
      end
    end
    |> Enum.reject(&is_nil/1)
    |> case do
      [] -> :ok
      shown -> flunk(report(shown))
    end
  end

  defp report(shown) do
    Enum.map_join(shown, "\n", fn {module, name, options, said} ->
      "#{module}.#{name} with #{String.slice(options, 0, 60)}: #{String.slice(said, 0, 300)}"
    end)
  end
end
