defmodule Codex.AppServer.Pending do
  @moduledoc false
  # What the server asked and waits for, in the process of a connection: the request as its readers get it, and which subscribers
  # got it. All functions but `open/5` and `close/2` are pure; these two keep `Codex.AppServer.Tokens`.

  alias Codex.AppServer.{Message, Request, Tokens}

  @type t :: %{Message.id() => {Request.t(), [pid()]}}

  @doc "The server asks; `left` is how long an answer may take, in ms, or nil."
  @spec open(t(), Message.id(), String.t(), map(), non_neg_integer() | nil) :: t()
  def open(pending, id, method, params, left) do
    expires_at = if left, do: DateTime.add(DateTime.utc_now(), left, :millisecond)
    request = %{Request.new(method, params) | token: Tokens.open(), expires_at: expires_at}
    Map.put(pending, id, {request, []})
  end

  @doc "It is not waited for any more: the request, and who is to hear of that."
  @spec close(t(), Message.id()) :: {Request.t(), [pid()], t()}
  def close(pending, id) do
    {{request, told}, pending} = Map.pop!(pending, id)
    :ok = Tokens.close(request.token)
    {request, told, pending}
  end

  @doc "A subscriber gets it."
  @spec tell(t(), Message.id(), pid()) :: {Request.t(), t()}
  def tell(pending, id, pid) do
    {request, told} = Map.fetch!(pending, id)
    {request, Map.put(pending, id, {request, [pid | told]})}
  end

  @spec request(t(), Message.id()) :: Request.t()
  def request(pending, id), do: pending |> Map.fetch!(id) |> elem(0)

  @doc "All of them, the oldest first."
  @spec requests(t()) :: [Request.t()]
  def requests(pending), do: for({_id, {request, _}} <- Enum.sort(pending), do: request)

  @doc "What waits under a token."
  @spec id(t(), String.t()) :: Message.id() | nil
  def id(pending, token),
    do: Enum.find_value(pending, fn {id, {request, _}} -> request.token == token && id end)
end
