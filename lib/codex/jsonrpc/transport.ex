defmodule Codex.JSONRPC.Transport do
  @moduledoc false
  # A way for messages to a server and back, as a value of the process that owns it, like
  # `Codex.Subprocess`. The process gets the messages of a port or socket and passes them to
  # `stream/2`.
  #
  # Bytes that were read are granted again with `grant/2`. A transport reads no more than was
  # granted, so that the server's pipe or socket fills, and the server waits.

  alias Codex.JSONRPC.Message

  @typedoc "A struct of a module with this behaviour."
  @type t :: struct()

  @typedoc "A module, and the argument of its `open/1`."
  @type opener :: {module(), term()}

  @typedoc """
  Messages of the server, with the bytes to grant again; or the end of the server, after which no
  message follows.
  """
  @type output ::
          {:messages, [Message.t()], bytes :: non_neg_integer()} | {:down, info :: map()}

  @doc "Reaches the server, within a time that the argument has."
  @callback open(term()) :: {:ok, t()} | {:error, reason :: term()}

  @doc "Sends one message. A failure comes from `stream/2` as the end of the server."
  @callback send(t(), json :: binary()) :: t()

  @doc "Lets so many more bytes come."
  @callback grant(t(), pos_integer()) :: t()

  @doc "Handles a message of the process. Returns `:unknown` if it is not for this transport."
  @callback stream(t(), message :: term()) :: {:ok, t(), [output()]} | :unknown

  @doc """
  Ends a server of this package, or the connection to another one, and returns within a second. If a
  server takes longer, a process of its own goes on.
  """
  @callback stop(t()) :: :ok | {:behind, pid()}

  @doc "Returns the OS process id of a server of this package, or nil."
  @callback os_pid(t()) :: pos_integer() | nil

  @doc "Returns the newest stderr of a server of this package, or an empty string."
  @callback stderr(t()) :: String.t()

  @doc "Returns the secrets that a server of this package was started with."
  @callback secrets(t()) :: [String.t()]

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

  @spec secrets(t()) :: [String.t()]
  def secrets(%module{} = transport), do: module.secrets(transport)

  @spec os_pid(t()) :: pos_integer() | nil
  def os_pid(%module{} = transport), do: module.os_pid(transport)
end
