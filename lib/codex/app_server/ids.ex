defmodule Codex.AppServer.Ids do
  @moduledoc false
  # The ids in parameters and results of the protocol.

  @doc """
  Returns the id of the thread that parameters are about, or nil.

      iex> Codex.AppServer.Ids.thread_id(%{"thread" => %{"id" => "t"}})
      "t"
  """
  @spec thread_id(map()) :: String.t() | nil
  def thread_id(%{"threadId" => id}), do: id
  def thread_id(%{"thread_id" => id}), do: id
  def thread_id(%{"thread" => %{"id" => id}}), do: id
  def thread_id(%{"conversationId" => id}), do: id
  def thread_id(_params), do: nil

  @doc "Returns the id of the turn that parameters are about, or nil."
  @spec turn_id(map()) :: String.t() | nil
  def turn_id(%{"turnId" => id}), do: id
  def turn_id(%{"turn" => %{"id" => id}}), do: id
  def turn_id(_params), do: nil
end
