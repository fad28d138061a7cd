defmodule Codex.AppServer.RequestId do
  @moduledoc false
  # Tokens of the server's requests: strings that cannot be guessed, with which any process of any
  # connected node finds the connection that waits for the answer. A token is `tag.key@node`: `key`
  # is registered by the connection's process on its node, and goes with it.

  @registry __MODULE__.Registry
  @remote_timeout 5_000

  @typedoc "Makes the tokens of one connection."
  @type source :: {key :: String.t(), secret :: binary()}

  @doc "The registry of this node."
  def child_spec(_opts), do: Registry.child_spec(keys: :unique, name: @registry)

  @doc "Registers the calling process as a connection."
  @spec register() :: source()
  def register do
    key = encode(:crypto.strong_rand_bytes(6))
    {:ok, _} = Registry.register(@registry, key, nil)
    {key, :crypto.strong_rand_bytes(32)}
  end

  @doc "Returns the token of the request with this number."
  @spec new(source(), term()) :: String.t()
  def new({key, secret}, number) do
    tag = :crypto.mac(:hmac, :sha256, secret, :erlang.term_to_binary(number))
    encode(binary_part(tag, 0, 15)) <> "." <> key <> "@" <> Atom.to_string(node())
  end

  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)

  @type reason :: {:request_closed, String.t()} | {:unreachable, node :: String.t()}

  @doc "Returns the connection of a token."
  @spec find(String.t()) :: {:ok, pid()} | {:error, reason()}
  def find(token) do
    :ok = Codex.Started.check!()

    case String.split(token, "@", parts: 2) do
      [tag_and_key, home] ->
        key = tag_and_key |> String.split(".") |> List.last()
        find(token, key, home, Atom.to_string(node()))

      _no_token ->
        {:error, {:request_closed, token}}
    end
  end

  # A node may have got its name after the token was made.
  defp find(token, key, home, here) when home in [here, "nonode@nohost"],
    do: find_here(token, key)

  defp find(token, key, home, _here) do
    case Enum.find(Node.list(:connected), &(Atom.to_string(&1) == home)) do
      nil -> {:error, {:unreachable, home}}
      node -> :erpc.call(node, __MODULE__, :find_here, [token, key], @remote_timeout)
    end
  catch
    # The node is gone, or does not run this package.
    _kind, _reason -> {:error, {:unreachable, home}}
  end

  @doc false
  @spec find_here(String.t(), String.t()) :: {:ok, pid()} | {:error, reason()}
  def find_here(token, key) do
    case Registry.lookup(@registry, key) do
      [{pid, _}] -> {:ok, pid}
      [] -> {:error, {:request_closed, token}}
    end
  end
end
