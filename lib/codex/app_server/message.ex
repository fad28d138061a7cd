defmodule Codex.AppServer.Message do
  @moduledoc false
  # A line of the server, sorted: what it asks, tells and answers, and what is none of these.

  alias Codex.Events

  @typedoc "The server's ids are its own; they are returned as they came."
  @type id :: integer() | String.t()
  @type t ::
          {:request, id(), method :: String.t(), params :: map()}
          | {:notification, method :: String.t(), params :: map()}
          | {:result, id(), term()}
          | {:error, id(), map()}
          | {:malformed, reason()}
          | {:malformed_request, id()}
  @type reason ::
          :not_json
          | :not_a_message
          | {:oversized, bytes :: non_neg_integer() | nil}
          | {:overfull, limit :: pos_integer()}

  @doc """
  The message of a line as `Codex.JSONL` decodes it.

      iex> line = ~s({"method":"turn/started","params":{"threadId":"t"},"emittedAtMs":1}\\n)
      iex> [event] = Codex.JSONL.feed(Codex.JSONL.new(), line)
      iex> Codex.AppServer.Message.from_line(event)
      {:notification, "turn/started", %{"threadId" => "t"}}
  """
  @spec from_line(Events.t()) :: t()
  def from_line(%Events.Unknown{error: nil, raw: %{} = map}), do: from_map(map)
  def from_line(%Events.Unknown{error: nil}), do: {:malformed, :not_a_message}
  def from_line(%Events.Unknown{}), do: {:malformed, :not_json}

  # What the decoder makes of a line over its budget. A line of the other lane has no bytes.
  def from_line(%Events.Error{additional_details: %{"max_line_nodes" => limit}}),
    do: {:malformed, {:overfull, limit}}

  def from_line(%Events.Error{additional_details: %{"line_bytes" => bytes}}),
    do: {:malformed, {:oversized, bytes}}

  def from_line(_event), do: {:malformed, :not_a_message}

  @doc "The message of a decoded object."
  @spec from_map(map()) :: t()
  def from_map(%{"method" => method, "id" => id} = map)
      when is_binary(method) and (is_integer(id) or is_binary(id)),
      do: with_params(map, &{:request, id, method, &1}, {:malformed_request, id})

  def from_map(%{"method" => method} = map) when is_binary(method) and not is_map_key(map, "id"),
    do: with_params(map, &{:notification, method, &1}, {:malformed, :not_a_message})

  def from_map(%{"id" => id, "error" => error}) when is_integer(id) or is_binary(id),
    do: {:error, id, if(is_map(error), do: error, else: %{"message" => inspect(error)})}

  def from_map(%{"id" => id, "result" => result}) when is_integer(id) or is_binary(id),
    do: {:result, id, result}

  def from_map(_other), do: {:malformed, :not_a_message}

  defp with_params(map, message, malformed) do
    case map["params"] do
      %{} = params -> message.(params)
      nil -> message.(%{})
      _other -> malformed
    end
  end

  @doc """
  The thread that parameters are about, or nil.

      iex> Codex.AppServer.Message.thread_id(%{"thread" => %{"id" => "t"}})
      "t"
  """
  @spec thread_id(map()) :: String.t() | nil
  def thread_id(%{"threadId" => id}), do: id
  def thread_id(%{"thread_id" => id}), do: id
  def thread_id(%{"thread" => %{"id" => id}}), do: id
  def thread_id(%{"conversationId" => id}), do: id
  def thread_id(_params), do: nil

  @doc "The turn that parameters are about, or nil."
  @spec turn_id(map()) :: String.t() | nil
  def turn_id(%{"turnId" => id}), do: id
  def turn_id(%{"turn" => %{"id" => id}}), do: id
  def turn_id(_params), do: nil
end
