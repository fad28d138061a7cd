defmodule Codex.Bridge.Service do
  @moduledoc false
  # Functions of this VM that a CLI can call as tools of an MCP server: a struct of a module with
  # this behaviour. Several services share one server; their names differ.

  alias Codex.Text

  @type t :: struct()

  @typedoc """
  A call: `name` and `arguments` as the CLI sent them, its `_meta`, and the process of the
  connection, with which processes that a call leaves running should end.
  """
  @type call :: %{name: String.t(), arguments: term(), meta: map(), owner: pid()}

  @typedoc "A `CallToolResult` of MCP."
  @type result :: %{String.t() => term()}

  @doc "Returns the tools in the form of `tools/list`."
  @callback list(t()) :: [map()]

  @typedoc """
  How a call is answered:

    * `run` - runs in a process of its own, which is killed when the time is over or the CLI cancels
      the call
    * `timeout_ms` - its time limit
    * `failed` - the answer if the process was killed, took too long, or could not begin because
      too many calls run
    * `done` - is called when the call is over, however it ends
  """
  @type answering :: %{
          run: (... -> result()),
          timeout_ms: pos_integer(),
          failed: (:crashed | :late | :too_many -> {:ok, result()} | {:error, map()}),
          done: (... -> term())
        }

  @doc "Returns how a call is answered, or nil if no tool of the service has the name."
  @callback call(t(), call()) :: answering() | nil

  @doc "Returns the longest time limit of all calls, in ms."
  @callback timeout_ms(t()) :: pos_integer()

  @spec list(t()) :: [map()]
  def list(%module{} = service), do: module.list(service)

  @spec call(t(), call()) :: answering() | nil
  def call(%module{} = service, call), do: module.call(service, call)

  @spec timeout_ms(t()) :: pos_integer()
  def timeout_ms(%module{} = service), do: module.timeout_ms(service)

  @doc """
  Returns a failed call, with a text for the model. Bytes that are not UTF-8 are replaced.

      iex> Codex.Bridge.Service.failure("no")
      %{"content" => [%{"type" => "text", "text" => "no"}], "isError" => true}
  """
  @spec failure(String.t()) :: result()
  def failure(text),
    do: %{"content" => [%{"type" => "text", "text" => Text.utf8(text)}], "isError" => true}
end
