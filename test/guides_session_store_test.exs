defmodule Codex.GuidesSessionStoreTest do
  # The adapters of `guides/session_store.md` pass the conformance suite: that of S3 on a stand-in
  # for the client, that of Ecto with its statements in SQLite, which Python has.
  use ExUnit.Case, async: true

  alias Codex.JSON
  alias Codex.SessionStore.Conformance

  @moduletag timeout: 180_000
  @compile {:no_warn_undefined, [MyApp.CodexObjects, MyApp.CodexSessions]}

  @guide Path.expand("../guides/session_store.md", __DIR__)
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@guide)), do: code

  # Objects by name, with the one condition that the guide names.
  defmodule Elixir.MyApp.S3 do
    use Agent
    def start_link(_opts), do: Agent.start_link(fn -> %{} end, name: __MODULE__)

    def put(name, bytes, if_none_match: "*") do
      Agent.get_and_update(__MODULE__, fn objects ->
        if is_map_key(objects, name),
          do: {{:error, :precondition_failed}, objects},
          else: {{:ok, :created}, Map.put(objects, name, bytes)}
      end)
    end

    def get(name, range: "bytes=" <> range) do
      [from, to] = range |> String.split("-") |> Enum.map(&String.to_integer/1)
      {:ok, binary_part(Agent.get(__MODULE__, & &1[name]), from, to - from + 1)}
    end

    def list(prefix) do
      objects = Agent.get(__MODULE__, & &1)

      {:ok,
       for(
         {name, bytes} <- objects,
         String.starts_with?(name, prefix),
         do: {name, byte_size(bytes)}
       )}
    end

    def delete(name), do: {:ok, Agent.update(__MODULE__, &Map.delete(&1, name))}
  end

  # `query/2` of an Ecto repository, in SQLite.
  defmodule Elixir.MyApp.SessionRepo do
    use GenServer

    @program """
    import base64, json, re, sqlite3, sys
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE codex_sessions (thread text, file text, at bigint, bytes blob, "
               "PRIMARY KEY (thread, file, at))")
    def out(value):
        return {"b": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
    def into(value):
        return base64.b64decode(value["b"]) if isinstance(value, dict) else value
    for line in sys.stdin:
        sql, values = json.loads(line)
        sql = re.sub(r"\\$(\\d)(::\\w+)?", r"?\\1", sql)
        done = db.execute(sql, [into(value) for value in values])
        rows = [[out(value) for value in row] for row in done.fetchall()]
        count = done.rowcount if sql.startswith(("INSERT", "DELETE")) else len(rows)
        print(json.dumps({"rows": rows, "count": count}), flush=True)
    """

    def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
    def query(sql, values), do: GenServer.call(__MODULE__, {sql, values}, :infinity)

    @impl true
    def init(nil) do
      args = ["-c", @program]
      python = System.find_executable("python3")
      {:ok, Port.open({:spawn_executable, python}, [:binary, {:line, 16_000_000}, args: args])}
    end

    @impl true
    def handle_call({sql, values}, _from, port) do
      {bytes, texts} = {List.last(values), values}

      texts =
        if sql =~ "INSERT",
          do: List.replace_at(texts, -1, %{"b" => Base.encode64(bytes)}),
          else: texts

      Port.command(port, JSON.encode!([sql, texts]) <> "\n")

      receive do
        {^port, {:data, {:eol, line}}} ->
          {:ok, %{"rows" => rows, "count" => count}} = JSON.decode(line)
          {:reply, {:ok, %{rows: Enum.map(rows, &row/1), num_rows: count}}, port}
      end
    end

    defp row(values), do: Enum.map(values, &value/1)
    defp value(%{"b" => text}), do: Base.decode64!(text)
    defp value(value), do: value
  end

  defp define!(text) do
    code = Enum.find(@blocks, &(&1 =~ text)) || flunk("no block has #{text}")
    [{module, _binary}] = Code.compile_string(code, @guide)
    on_exit(fn -> :code.purge(module) && :code.delete(module) end)
  end

  defp failing(store),
    do:
      for(
        {name, _} <- Conformance.cases(),
        error = Conformance.check(name, store),
        error != :ok,
        do: {name, error}
      )

  test "every block is Elixir" do
    for code <- @blocks, do: assert({:ok, _} = Code.string_to_quoted(code))
    assert length(@blocks) > 5
  end

  test "the adapter for S3 conforms" do
    define!("defmodule MyApp.CodexObjects")
    start_supervised!(MyApp.S3)
    assert failing({MyApp.CodexObjects, []}) == []
    assert Agent.get(MyApp.S3, & &1) == %{}
  end

  @tag :python
  test "the adapter for Ecto conforms" do
    define!("defmodule MyApp.CodexSessions do")
    start_supervised!(MyApp.SessionRepo)
    assert failing({MyApp.CodexSessions, repo: MyApp.SessionRepo}) == []
  end
end
