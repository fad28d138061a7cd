defmodule Codex.Thread.Server.Entries do
  @moduledoc false
  # The entries of a thread server as a lazy enumerable, in the process that follows the server. A
  # message is acknowledged when all of its entries are read.

  alias Codex.{Error, OptionError}
  alias Codex.Thread.Server.Call

  @spec stream(
          (... -> {:ok, reference()} | {:error, term()}),
          (reference() -> term()),
          (reference() -> term())
        ) :: Enumerable.t()
  def stream(follow, ack, unfollow) do
    Stream.resource(
      fn -> {begin(follow), false} end,
      fn {ref, read?} ->
        if read?, do: ack.(ref)
        next(ref)
      end,
      fn {ref, _read?} -> unfollow.(ref) end
    )
  end

  defp begin(follow) do
    case follow.() do
      {:ok, ref} -> ref
      {:error, %OptionError{} = error} -> raise error
      {:error, reason} -> raise Error.normalize(reason)
    end
  end

  defp next(ref) do
    receive do
      {:codex_thread, ^ref, entries} ->
        {entries, {ref, true}}

      {:DOWN, ^ref, :process, _server, reason} ->
        unless graceful?(reason) do
          raise Error.new(:crashed, "the server of the thread ended: #{Call.words(reason)}")
        end

        {:halt, {ref, true}}
    end
  end

  defp graceful?({:shutdown, _why}), do: true
  defp graceful?(reason), do: reason in [:shutdown, :normal]
end
