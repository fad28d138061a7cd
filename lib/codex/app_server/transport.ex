defmodule Codex.AppServer.Transport do
  @moduledoc false
  # How messages get to a server and back: a value that the process of a connection holds, as `Codex.Subprocess` is one. That process
  # gets the messages of a port or a socket and hands them to `stream/2`.
  #
  # All of them wait: what is not granted is not read, so that the server's own pipe or socket fills.

  alias Codex.JSONRPC.Message

  @typedoc "A struct of one of the modules below `Codex.AppServer.Transport`."
  @type t :: struct()

  @typedoc "A module, and what its `open/1` takes."
  @type opener :: {module(), term()}

  @typedoc """
  Messages of the server and how many bytes they took, which are to be granted anew; or its end, with what is known of that, and
  then nothing comes any more.
  """
  @type output ::
          {:messages, [Message.t()], bytes :: non_neg_integer()} | {:down, info :: map()}

  @doc "Reaches the server. Blocks no longer than its argument says."
  @callback open(term()) :: {:ok, t()} | {:error, reason :: term()}

  @doc "Sends one message. A server that takes none any more is about to end: that comes from `stream/2`."
  @callback send(t(), json :: binary()) :: t()

  @doc "Lets as many bytes more come."
  @callback grant(t(), pos_integer()) :: t()

  @doc "What a message of the process means, or that it is not this transport's."
  @callback stream(t(), message :: term()) :: {:ok, t(), [output()]} | :unknown

  @doc """
  Ends the server, or leaves it where it is not ours, and returns within a second. Where the server
  takes longer, a process
  of its own goes on.
  """
  @callback stop(t()) :: :ok | {:behind, pid()}

  @doc "The server's process, where it is ours."
  @callback os_pid(t()) :: pos_integer() | nil

  @doc "The newest bytes that the server wrote to stderr, where it is ours, else an empty text."
  @callback stderr(t()) :: String.t()

  @spec open(opener()) :: {:ok, t()} | {:error, reason :: term()}
  def open({module, arg}), do: module.open(arg)

  @spec send(t(), binary()) :: t()
  def send(%module{} = transport, json), do: module.send(transport, json)

  @spec grant(t(), pos_integer()) :: t()
  def grant(%module{} = transport, bytes), do: module.grant(transport, bytes)

  @spec stream(t(), term()) :: {:ok, t(), [output()]} | :unknown
  def stream(%module{} = transport, message), do: module.stream(transport, message)

  @spec stop(t()) :: :ok | {:behind, pid()}
  def stop(%module{} = transport), do: module.stop(transport)

  @spec stderr(t()) :: String.t()
  def stderr(%module{} = transport), do: module.stderr(transport)

  @spec os_pid(t()) :: pos_integer() | nil
  def os_pid(%module{} = transport), do: module.os_pid(transport)
end
