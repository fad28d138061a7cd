defmodule Codex.AppServer.Tokens do
  @moduledoc false
  # What the server asks waits for its answer under a token: a text that nobody can guess, and that says on which node its
  # connection is. Each node has a registry of its own; what a connection registered goes with it.

  @registry __MODULE__.Registry
  @remote_timeout 5_000

  @doc "The registry of this node."
  def child_spec(_opts), do: Registry.child_spec(keys: :unique, name: @registry)

  @doc "A new token of the calling process."
  @spec open() :: String.t()
  def open do
    random = Base.url_encode64(:crypto.strong_rand_bytes(18), padding: false)
    token = random <> "@" <> Atom.to_string(node())
    {:ok, _} = Registry.register(@registry, token, nil)
    token
  end

  @doc "It is answered. Only of the calling process's own."
  @spec close(String.t()) :: :ok
  def close(token), do: Registry.unregister(@registry, token)

  @type reason :: {:request_closed, String.t()} | {:unreachable, node :: String.t()}

  @doc "The connection that waits for the answer."
  @spec find(String.t()) :: {:ok, pid()} | {:error, reason()}
  def find(token) do
    :ok = Codex.Application.Guard.started!()

    case String.split(token, "@", parts: 2) do
      [_random, home] -> find(token, home, Atom.to_string(node()))
      _no_token -> {:error, {:request_closed, token}}
    end
  end

  # A node may have got its name since.
  defp find(token, home, here) when home in [here, "nonode@nohost"], do: find_here(token)

  defp find(token, home, _here) do
    case Enum.find(Node.list(:connected), &(Atom.to_string(&1) == home)) do
      nil -> {:error, {:unreachable, home}}
      node -> :erpc.call(node, __MODULE__, :find_here, [token], @remote_timeout)
    end
  catch
    # Gone, or a node on which the SDK does not run.
    _kind, _reason -> {:error, {:unreachable, home}}
  end

  @doc false
  @spec find_here(String.t()) :: {:ok, pid()} | {:error, reason()}
  def find_here(token) do
    case Registry.lookup(@registry, token) do
      [{pid, _}] -> {:ok, pid}
      [] -> {:error, {:request_closed, token}}
    end
  end
end
