defmodule Codex.JSONRPC.Message do
  @moduledoc false
  # Messages of JSON-RPC: decoded objects become tagged tuples. The member `jsonrpc` is not looked
  # at, as an app-server leaves it out.

  alias Codex.Events

  @typedoc "Ids of the other side are returned as they came."
  @type id :: integer() | String.t()
  @type t ::
          {:request, id(), method :: String.t(), params :: map()}
          | {:notification, method :: String.t(), params :: map()}
          | {:result, id(), term()}
          | {:error, id(), map()}
          | {:batch, [t()]}
          | {:malformed, reason()}
          | {:malformed_request, id()}
  @type reason ::
          :not_json
          | :not_a_message
          | {:oversized, bytes :: non_neg_integer() | nil}
          | {:overfull, limit :: pos_integer()}

  @doc """
  Returns the message of a line that `Codex.JSONL` has decoded.

      iex> line = ~s({"method":"turn/started","params":{"threadId":"t"},"emittedAtMs":1}\\n)
      iex> [event] = Codex.JSONL.feed(Codex.JSONL.new(), line)
      iex> Codex.JSONRPC.Message.from_line(event)
      {:notification, "turn/started", %{"threadId" => "t"}}
  """
  @spec from_line(Events.t()) :: t()
  def from_line(%Events.Unknown{error: nil, raw: term}), do: from_term(term)
  def from_line(%Events.Unknown{}), do: {:malformed, :not_json}

  # Lines over a limit. Errors of `codex exec` have no size.
  def from_line(%Events.Error{additional_details: %{"max_line_nodes" => limit}}),
    do: {:malformed, {:overfull, limit}}

  def from_line(%Events.Error{additional_details: %{"line_bytes" => bytes}}),
    do: {:malformed, {:oversized, bytes}}

  def from_line(_event), do: {:malformed, :not_a_message}

  @doc """
  Returns the message of a decoded JSON value.

      iex> Codex.JSONRPC.Message.from_term([%{"id" => "a", "result" => 1}, 7])
      {:batch, [{:result, "a", 1}, {:malformed, :not_a_message}]}
  """
  @spec from_term(term()) :: t()
  def from_term(%{"method" => method, "id" => id} = map)
      when is_binary(method) and (is_integer(id) or is_binary(id)),
      do: with_params(map, &{:request, id, method, &1}, {:malformed_request, id})

  def from_term(%{"method" => method} = map) when is_binary(method) and not is_map_key(map, "id"),
    do: with_params(map, &{:notification, method, &1}, {:malformed, :not_a_message})

  # Some peers send both members.
  def from_term(%{"id" => id, "error" => error} = map)
      when (is_integer(id) or is_binary(id)) and (error != nil or not is_map_key(map, "result")),
      do: {:error, id, if(is_map(error), do: error, else: %{"message" => inspect(error)})}

  def from_term(%{"id" => id, "result" => result}) when is_integer(id) or is_binary(id),
    do: {:result, id, result}

  def from_term([_ | _] = list), do: {:batch, Enum.map(list, &from_member/1)}
  def from_term(_other), do: {:malformed, :not_a_message}

  # Batches hold no batches.
  defp from_member(map) when is_map(map), do: from_term(map)
  defp from_member(_other), do: {:malformed, :not_a_message}

  defp with_params(map, message, malformed) do
    case map["params"] do
      %{} = params -> message.(params)
      nil -> message.(%{})
      _other -> malformed
    end
  end
end
