defmodule Codex.AppServer.Asked do
  @moduledoc false
  # Answers to what the server asks.

  alias Codex.AppServer.{Answer, Denials, Message, State}
  alias Codex.Protocol

  @typedoc "As on the wire, or in the words of `Codex.AppServer.answer/2`."
  @type answer :: {:ok, map() | keyword()} | {:error, map()} | {:answer, term()}

  @doc """
  An answer as it goes over the wire. One that is none would fail what was asked for, without a word to anybody here.

      iex> method = "item/fileChange/requestApproval"
      iex> Codex.AppServer.Asked.check(method, %{}, {:ok, decision: :accept_for_session})
      {:ok, {:ok, %{"decision" => "acceptForSession"}}}
      iex> Codex.AppServer.Asked.check(method, %{}, {:ok, %{}})
      {:error, {:missing_option, :decision}}
      iex> Codex.AppServer.Asked.check(method, %{}, {:answer, {:deny, "no"}})
      {:ok, {:ok, %{"decision" => "decline"}}}
      iex> Codex.AppServer.Asked.check(method, %{}, {:error, %{"code" => -32000, "message" => "busy"}})
      {:ok, {:error, %{"code" => -32000, "message" => "busy"}}}
  """
  @spec check(String.t(), map(), answer()) ::
          {:ok, {:ok | :error, term()}} | {:error, Protocol.reason()}
  def check(method, params, {:answer, answer}) do
    with {:ok, wire} <- Answer.wire(method, params, answer) do
      with {:error, reason} <- check(method, params, wire), do: {:error, redacted(reason)}
    end
  end

  def check(method, _params, {:ok, result}) do
    case Protocol.method(method) do
      {:ok, %{result: type}} when type != nil ->
        with {:ok, wire} <- Protocol.check(type, result), do: {:ok, {:ok, wire}}

      # Newer than the data: anything that JSON can say.
      _unknown ->
        json(:ok, result)
    end
  end

  def check(_method, _params, {:error, %{"code" => code, "message" => message} = error})
      when is_integer(code) and is_binary(message),
      do: json(:error, error)

  def check(_method, _params, {:error, error}), do: {:error, {:invalid_options, error}}

  # What somebody answered may be a secret.
  defp redacted({:invalid_option, where, _value, expected}),
    do: {:invalid_option, where, "[redacted]", expected}

  defp redacted({:invalid_options, _value}), do: {:invalid_options, "[redacted]"}
  defp redacted(reason), do: reason

  defp json(tag, value) do
    case Codex.JSON.encode(value) do
      {:ok, _} -> {:ok, {tag, value}}
      {:error, _} -> {:error, {:invalid_options, value}}
    end
  end

  @doc "The message of a checked answer."
  @spec answer(Message.id(), {:ok | :error, term()}) :: map()
  def answer(id, {:ok, result}), do: %{"id" => id, "result" => result}
  def answer(id, {:error, error}), do: %{"id" => id, "error" => error}

  @doc "The no of its kind, and why."
  @spec deny(Message.id(), String.t(), :nobody | :expired | {:overflow, pos_integer()}) ::
          [State.action()]
  def deny(id, method, why),
    do: [{:send, answer(id, Denials.answer(method))}, {:note, {:denied, why, id, method}}]
end
