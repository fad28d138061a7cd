defmodule Codex.GuidesManyTest do
  # Runs the code of `guides/many.md` with the real CLI on a scripted model. The client comes from
  # the environment of the VM, as a user's does, so nothing else runs meanwhile.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias Codex.{Stub, Test}

  @moduletag :codex_cli
  @compile {:no_warn_undefined, [MyApp.ExplainWorker, MyApp.ExplainPipeline]}

  @guide Path.expand("../guides/many.md", __DIR__)

  defp block!(text) do
    blocks = Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@guide))

    Enum.find_value(blocks, fn [_, code] -> code =~ text && code end) ||
      flunk("no block: #{text}")
  end

  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    Test.Steps.message("You said: " <> text)
  end

  # The workspace is trusted, so that no option has to say so.
  setup do
    model = Test.start!([], default: &echo/1, git: true)
    options = Test.options(model)

    env =
      Map.merge(options[:env], %{
        "CODEX_HOME" => options[:codex_home],
        "CODEX_PATH" => options[:codex_path]
      })

    before = Map.new(env, fn {name, _} -> {name, System.get_env(name)} end)
    System.put_env(env)
    cwd = File.cwd!()
    File.cd!(model.workspace)

    on_exit(fn ->
      File.cd!(cwd)
      System.put_env(before)
    end)

    File.mkdir_p!("lib")
    for name <- ~w(a b), do: File.write!("lib/#{name}.ex", "")
    %{model: model}
  end

  defp sent(model), do: Enum.count(Test.requests(model), &(&1.path =~ "/v1/responses"))

  test "a batch prints a line for each file", %{model: model} do
    out = capture_io(fn -> Code.eval_string(block!("List the public functions")) end)

    assert out ==
             for(
               name <- ~w(a b),
               into: "",
               do: "lib/#{name}.ex: You said: List the public functions of lib/#{name}.ex\n"
             )

    assert sent(model) == 2
  end

  test "a journal is read again; uncertain jobs are named", %{model: model} do
    assert {%{ok: 2}, _} = Code.eval_string(block!("night.journal"))
    assert {%{ok: 2}, _} = Code.eval_string(block!("night.journal"))
    assert sent(model) == 2

    error = Codex.Error.new(:crashed, "lost")
    result = %Codex.Batch.Result{key: "a", index: 0, status: :uncertain, error: error}
    code = block!(":uncertain} = result")
    out = capture_io(fn -> Code.eval_string(code, results: [result]) end)
    assert out == "a: thread unknown, lost\n"
  end

  test "a node offers itself, and runs the jobs with its labels", %{model: model} do
    {_, _} = Code.eval_string(block!("{Codex.Batch.Node, group: MyApp.Fleet"))
    out = capture_io(fn -> Code.eval_string(block!("max_per_node: 8")) end)
    line = &"#{&1} on #{node()}: You said: List the slow tests\n"

    assert out |> String.split("\n", trim: true) |> Enum.sort() |> Enum.map(&(&1 <> "\n")) ==
             [line.("billing"), line.("shop")]

    assert sent(model) == 2
  end

  test "a pool runs the turns of a thread and of a worker, and is drained", %{model: model} do
    out = capture_io(fn -> Code.eval_string(block!("{Codex.Pool, name: MyApp.Codex")) end)
    assert out == "You said: And who calls it?\n"
    {:ok, %{servers: servers}} = Codex.Pool.stats(MyApp.Codex)
    os_pids = for %{conn: conn} <- servers, do: Codex.Connected.os_pid(conn)

    # The process of a conversation.
    code = block!("name: MyApp.Reviewer")
    {bindings, out} = with_io(fn -> code |> Code.eval_string() |> elem(1) end)
    assert out =~ ~r/^\d+: began\n\d+: event\n/
    [first | rest] = for [offset] <- Regex.scan(~r/^\d+/m, out), do: String.to_integer(offset)
    assert rest == Enum.to_list((first + 1)..(first + length(rest)))
    assert {:ok, %{thread_id: id, run: nil}} = Codex.Thread.Server.status(MyApp.Reviewer)
    :ok = Supervisor.stop(bindings[:supervisor])
    assert File.read!("reviewer.json") =~ id

    # `Oban.Worker` and `Oban.Job` stand in for Oban.
    unless Code.ensure_loaded?(Oban.Worker), do: Code.eval_string(oban())
    Code.eval_string(block!("defmodule MyApp.ExplainWorker"))
    job = struct!(Oban.Job, args: %{"path" => "lib/a.ex"})
    assert {:ok, "You said: Explain lib/a.ex"} = MyApp.ExplainWorker.perform(job)

    # `Broadway` likewise.
    unless Code.ensure_loaded?(Broadway), do: Code.eval_string(broadway())
    Code.eval_string(block!("defmodule MyApp.ExplainPipeline"))
    message = struct!(Broadway.Message, data: "lib/b.ex")
    assert %{data: "You said: Explain lib/b.ex"} = pipeline(message)

    # The supervisor of the application, with its node.
    node = {Codex.Batch.Node, group: MyApp.Fleet, labels: []}
    {:ok, _} = Supervisor.start_link([node], strategy: :one_for_one, name: MyApp.Supervisor)
    {_, _} = Code.eval_string(block!("Codex.Pool.drain(MyApp.Codex"))
    assert Codex.Batch.Node.list(MyApp.Fleet) == []
    assert {:cancel, reason} = MyApp.ExplainWorker.perform(job)
    assert reason =~ "is drained"
    assert %{status: {:failed, ^reason}} = pipeline(message)
    assert Stub.eventually(fn -> not Enum.any?(os_pids, &Stub.alive?/1) end)
    assert sent(model) == 5
  end

  defp pipeline(message), do: MyApp.ExplainPipeline.handle_message(:default, message, %{})

  defp broadway do
    """
    defmodule Broadway do
      @callback handle_message(atom(), struct(), term()) :: struct()
      defmacro __using__(_options), do: quote(do: @behaviour(Broadway))
    end

    defmodule Broadway.Message do
      defstruct [:data, status: :ok]
      def update_data(message, fun), do: %{message | data: fun.(message.data)}
      def failed(message, reason), do: %{message | status: {:failed, reason}}
    end
    """
  end

  defp oban do
    """
    defmodule Oban.Worker do
      @callback perform(struct()) :: term()
      @callback timeout(struct()) :: timeout()
      defmacro __using__(_options), do: quote(do: @behaviour(Oban.Worker))
    end

    defmodule Oban.Job do
      defstruct [:id, args: %{}]
    end
    """
  end
end
