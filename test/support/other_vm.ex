defmodule Codex.OtherVM do
  @moduledoc "Another VM with the code of this one: to be killed, or to be another node."

  @boot "{:ok, _} = Application.ensure_all_started(:codex_sdk)"

  @doc """
  Starts one that runs `script`, with `flags` for `elixir`. Its lines come as `{port, {:data, {:eol, line}}}`; the first of them is
  `pid <os pid>`.
  """
  def start(script, flags \\ []) do
    args = flags ++ args(~s[IO.puts("pid " <> System.pid())\n] <> script)
    options = [:binary, :stderr_to_stdout, {:line, 65_536}, args: args]
    Port.open({:spawn_executable, System.find_executable("elixir")}, options)
  end

  @doc "Runs one to its end: `{output, status}`. `boot` is evaluated first: it starts the application."
  def run(script, flags \\ [], boot \\ @boot),
    do: System.cmd("elixir", flags ++ args(script, boot), stderr_to_stdout: true)

  defp args(script, boot \\ @boot) do
    paths = for path <- :code.get_path(), to_string(path) =~ "_build", do: ["-pa", "#{path}"]
    Enum.concat(paths) ++ ["-e", boot, "-e", script]
  end

  @doc "The options of a scripted model as source."
  def client(model) do
    options = Codex.Test.options(model) |> Keyword.update!(:env, &Map.to_list/1)
    inspect(options, limit: :infinity, printable_limit: :infinity)
  end

  @doc "Flags of two nodes without a port mapper: the first of them listens on loopback, the second one does not listen."
  def nodes do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    cookie = Base.encode16(:crypto.strong_rand_bytes(8))
    name = "codex#{System.unique_integer([:positive])}"
    alone = "-start_epmd false -erl_epmd_port #{port}"

    flags = fn suffix, erl ->
      ["--name", "#{name}#{suffix}@127.0.0.1", "--cookie", cookie, "--erl", erl]
    end

    {flags.("a", alone <> " -kernel inet_dist_use_interface {127,0,0,1}"),
     flags.("b", alone <> " -dist_listen false"), "#{name}a@127.0.0.1"}
  end
end
