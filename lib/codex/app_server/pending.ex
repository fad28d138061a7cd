defmodule Codex.AppServer.Pending do
  @moduledoc false
  # What the server asked and waits for, in the process of a connection: the request as its readers get it. All functions but `open/5` and `close/2` are pure; these two keep `Codex.AppServer.Tokens`.

  alias Codex.AppServer.{Message, Request, Tokens}

  @typedoc "By its id: the request, and its place in the order of requests."
  @type t :: %{Message.id() => {Request.t(), integer()}}

  @doc """
  The server asks; `left` is how long an answer may take, in ms, or nil. Ids begin anew with each server: of the second one on, they have its
  number before them for whoever answers by them, so that no late answer is one to another question.
  """
  @spec open(
          t(),
          Message.id(),
          {String.t(), map()},
          non_neg_integer() | nil,
          servers :: non_neg_integer()
        ) :: t()
  def open(pending, id, {method, params}, left, servers) do
    expires_at = if left, do: DateTime.add(DateTime.utc_now(), left, :millisecond)
    request = Request.new(method, params)
    request = %{request | token: Tokens.open(), expires_at: expires_at, id: name(id, servers)}
    Map.put(pending, id, {request, System.unique_integer([:monotonic])})
  end

  defp name(id, servers), do: if(servers <= 1, do: id, else: "#{servers}:#{id}")

  @doc "What the server tells of a request, by the id that its readers know."
  @spec renamed(String.t(), map(), pos_integer()) :: map()
  def renamed("serverRequest/resolved", %{"requestId" => id} = params, servers)
      when is_integer(id) or is_binary(id),
      do: %{params | "requestId" => name(id, servers)}

  def renamed(_method, params, _servers), do: params

  @doc "It is not waited for any more."
  @spec close(t(), Message.id()) :: {Request.t(), t()}
  def close(pending, id) do
    {{request, _order}, pending} = Map.pop!(pending, id)
    :ok = Tokens.close(request.token)
    {request, pending}
  end

  @spec request(t(), Message.id()) :: Request.t()
  def request(pending, id), do: pending |> Map.fetch!(id) |> elem(0)

  @doc "All of them, the oldest first."
  @spec requests(t()) :: [Request.t()]
  def requests(pending),
    do: pending |> Map.values() |> Enum.sort_by(&elem(&1, 1)) |> Enum.map(&elem(&1, 0))

  @doc "What is answered by this id."
  @spec named(t(), Message.id()) :: Message.id() | nil
  def named(pending, name), do: find(pending, &(&1.id == name))

  @doc "What waits under a token."
  @spec id(t(), String.t()) :: Message.id() | nil
  def id(pending, token), do: find(pending, &(&1.token == token))

  defp find(pending, fun),
    do: Enum.find_value(pending, fn {id, {request, _}} -> if fun.(request), do: id end)
end
