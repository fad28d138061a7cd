defmodule Codex.AppServerClient do
  @moduledoc "JSON-RPC over stdio with `codex app-server`, one request at a time."

  alias Codex.{JSON, Subprocess}

  @enforce_keys [:sub]
  defstruct [:sub, buffer: "", id: 0]

  @timeout 20_000

  @doc "Starts a server with `args` before its subcommand, and says hello."
  def start!(home, user_home, args \\ [], opts \\ []) do
    {:ok, codex} = Codex.Test.codex_path()
    env = %{"CODEX_HOME" => home, "HOME" => user_home, "PATH" => System.get_env("PATH")}
    env = Map.merge(env, Keyword.get(opts, :env, %{}))
    argv = [codex | args] ++ ["app-server"] ++ Keyword.get(opts, :flags, [])
    {:ok, sub} = Subprocess.open(argv, env: env, cwd: user_home)
    client = %__MODULE__{sub: sub}
    info = %{clientInfo: %{name: "codex_sdk_test", version: "1"}}
    {{:ok, _}, client} = call(client, "initialize", info)
    client
  end

  @doc "`{{:ok, result} | {:error, error}, client}`"
  def call(client, method, params) do
    id = client.id + 1

    {:ok, sub} =
      Subprocess.write(client.sub, [JSON.encode!(%{id: id, method: method, params: params}), ?\n])

    answer(%{client | sub: sub, id: id}, id)
  end

  def stop(client), do: {:ok, _} = Subprocess.stop(client.sub)

  defp answer(client, id) do
    case String.split(client.buffer, "\n", parts: 2) do
      [line, rest] ->
        client = %{client | buffer: rest}

        case JSON.decode(line) do
          {:ok, %{"id" => ^id, "result" => result}} -> {{:ok, result}, client}
          {:ok, %{"id" => ^id, "error" => error}} -> {{:error, error}, client}
          {:ok, _notification} -> answer(client, id)
        end

      [_part] ->
        client |> more() |> answer(id)
    end
  end

  defp more(client) do
    case Subprocess.next(client.sub, @timeout) do
      {:ok, sub, outputs} -> Enum.reduce(outputs, %{client | sub: sub}, &take/2)
      other -> raise "codex app-server: #{inspect(other)}; #{Subprocess.stderr(client.sub)}"
    end
  end

  defp take({:stdout, bytes}, client) do
    {:ok, sub} = Subprocess.grant(client.sub, byte_size(bytes))
    %{client | sub: sub, buffer: client.buffer <> bytes}
  end

  defp take({:exit, exit}, client),
    do: raise("codex app-server ended: #{inspect(exit)}; #{Subprocess.stderr(client.sub)}")

  defp take(_output, client), do: client
end
