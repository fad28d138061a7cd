defmodule Codex.Thread.Server.Call do
  @moduledoc false
  # Calls of a thread server, without exits.

  alias Codex.OptionError
  alias Codex.Options.Type

  @doc """
  Calls a server. Returns an error if the call did not reach it, and `{:ended, why}` if the server
  ended during the call.
  """
  @spec call(GenServer.server(), term()) ::
          term() | {:ended, String.t()} | {:error, Codex.Thread.Server.reason()}
  def call(server, request) do
    with :ok <- check(server) do
      try do
        GenServer.call(server, request, :infinity)
      catch
        :exit, {:noproc, _call} -> {:error, {:no_thread_server, server}}
        :exit, {:calling_self, _call} -> {:error, {:no_thread_server, server}}
        :exit, {reason, _call} -> {:ended, words(reason)}
      end
    end
  end

  @doc "Calls a server. That it has ended is an error."
  @spec request(GenServer.server(), term()) :: term() | {:error, Codex.Thread.Server.reason()}
  def request(server, request) do
    with {:ended, _why} <- call(server, request), do: {:error, {:no_thread_server, server}}
  end

  @doc "Returns the process of a server, as a pid or as a name on another node."
  @spec whereis(GenServer.server()) ::
          {:ok, pid() | {atom(), node()}} | {:error, Codex.Thread.Server.reason()}
  def whereis(server) do
    with :ok <- check(server) do
      case GenServer.whereis(server) do
        nil -> {:error, {:no_thread_server, server}}
        process -> {:ok, process}
      end
    end
  end

  @doc "Checks that a value can name a server."
  @spec check(term()) :: :ok | {:error, OptionError.t()}
  def check(server) do
    expected = "a thread server: its pid or its name"

    if Type.server?(server),
      do: :ok,
      else: {:error, OptionError.argument(:server, server, expected)}
  end

  @doc "Describes the end of a server. A reason may hold data of the run."
  @spec words(term()) :: String.t()
  def words(reason) when is_atom(reason), do: inspect(reason)
  def words({:shutdown, reason}) when is_atom(reason), do: inspect(reason)
  def words({:nodedown, node}) when is_atom(node), do: "the node #{node} is lost"
  def words(_reason), do: "it crashed"
end
