defmodule Codex.MCP.Transport do
  @moduledoc false
  # A way for messages to an MCP server and back, as a value of the process that opened it. The
  # process gets messages of ports and sockets, and passes them to `stream/2`.
  #
  # Bytes that were read are granted again with `grant/2`: a transport reads no more than that.

  alias Codex.JSONRPC.Message

  @typedoc "A struct of a module with this behaviour."
  @type t :: struct()

  @typedoc "A module, and the argument of its `open/1`."
  @type opener :: {module(), term()}

  @typedoc """
    * `:messages` - messages, with the bytes to grant again
    * `:lost` - one request has no answer; the transport goes on
    * `:session_lost` - the server forgot the session: it needs another `initialize`. The transport
      repeats refused requests after that by itself
    * `:down` - the end of the server, after which no message follows
  """
  @type output ::
          {:messages, [Message.t()], bytes :: non_neg_integer()}
          | {:lost, Message.id(), reason :: term()}
          | {:session_lost, [Message.id()]}
          | {:down, info :: map()}

  @doc "Reaches the server."
  @callback open(term()) :: {:ok, t()} | {:error, reason :: term()}

  @doc "Sends a message. `meta` can have the definition of the tool that is called as `:tool`."
  @callback send(t(), message :: map(), meta :: map()) :: t()

  @doc "Notes the protocol version that was negotiated."
  @callback protocol(t(), version :: String.t(), :legacy | :modern) :: t()

  @doc "Ends the wait for the answer of a request."
  @callback cancel(t(), Message.id()) :: t()

  @doc "Lets so many more bytes come."
  @callback grant(t(), pos_integer()) :: t()

  @doc "Handles a message of the process. Returns `:unknown` if it is not for this transport."
  @callback stream(t(), message :: term()) :: {:ok, t(), [output()]} | :unknown

  @doc "Ends the server, or the connection to it. If that takes longer, another process goes on."
  @callback stop(t()) :: :ok | {:behind, pid()}

  @doc "Returns the OS process id of a server of this package, or nil."
  @callback os_pid(t()) :: pos_integer() | nil

  @doc "Returns the newest stderr of a server of this package, or an empty string."
  @callback stderr(t()) :: String.t()

  @spec open(opener()) :: {:ok, t()} | {:error, reason :: term()}
  def open({module, arg}), do: module.open(arg)

  @spec send(t(), map(), map()) :: t()
  def send(%module{} = transport, message, meta), do: module.send(transport, message, meta)

  @spec protocol(t(), String.t(), :legacy | :modern) :: t()
  def protocol(%module{} = transport, version, era), do: module.protocol(transport, version, era)

  @spec cancel(t(), Message.id()) :: t()
  def cancel(%module{} = transport, id), do: module.cancel(transport, id)

  @spec grant(t(), pos_integer()) :: t()
  def grant(%module{} = transport, bytes), do: module.grant(transport, bytes)

  @spec stream(t(), term()) :: {:ok, t(), [output()]} | :unknown
  def stream(%module{} = transport, message), do: module.stream(transport, message)

  @spec stop(t()) :: :ok | {:behind, pid()}
  def stop(%module{} = transport), do: module.stop(transport)

  @spec os_pid(t()) :: pos_integer() | nil
  def os_pid(%module{} = transport), do: module.os_pid(transport)

  @spec stderr(t()) :: String.t()
  def stderr(%module{} = transport), do: module.stderr(transport)
end
