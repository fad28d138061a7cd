defmodule Codex.AppServer.Reconnect do
  @moduledoc false
  # Whether, and when, a connection that lost its server gets another one. Pure.

  @defaults %{attempts: 10, delay_ms: 200, max_delay_ms: 10_000}

  @type t :: %{
          attempts: pos_integer() | :infinity,
          delay_ms: pos_integer(),
          max_delay_ms: pos_integer()
        }

  @doc """
  A policy of the option `:reconnect`; nil for none.

      iex> Codex.AppServer.Reconnect.new(attempts: 3)
      {:ok, %{attempts: 3, delay_ms: 200, max_delay_ms: 10_000}}
      iex> Enum.map([false, true, [attempts: 0], :yes], &(&1 |> Codex.AppServer.Reconnect.new() |> is_tuple()))
      [true, true, false, false]
  """
  @spec new(term()) :: {:ok, t() | nil} | :error
  def new(false), do: {:ok, nil}
  def new(true), do: {:ok, @defaults}

  def new(options) do
    with {:ok, pairs} <- Codex.Options.Cast.pairs(options),
         true <- Enum.all?(pairs, &valid?/1) do
      {:ok, Map.merge(@defaults, Map.new(pairs))}
    else
      _ -> :error
    end
  end

  defp valid?({:attempts, :infinity}), do: true
  defp valid?({:attempts, n}), do: is_integer(n) and n > 0

  defp valid?({name, ms}) when name in [:delay_ms, :max_delay_ms],
    do: is_integer(ms) and ms in 1..0xFFFFFFFF

  defp valid?(_other), do: false

  @doc """
  How long to wait before the next attempt, after `tried` of them: twice as long each time, in ms; or that there is none. A server that
  refuses the client does so again.

      iex> {:ok, policy} = Codex.AppServer.Reconnect.new(attempts: 3, max_delay_ms: 500)
      iex> for tried <- 0..3, do: Codex.AppServer.Reconnect.next(policy, {:app_server_down, %{}}, tried)
      [{:wait, 200}, {:wait, 400}, {:wait, 500}, :stop]
      iex> Codex.AppServer.Reconnect.next(policy, {:initialize_refused, %{}}, 0)
      :stop
  """
  @spec next(t() | nil, Codex.AppServer.State.reason(), non_neg_integer()) ::
          {:wait, pos_integer()} | :stop
  def next(nil, _reason, _tried), do: :stop
  def next(_policy, {:initialize_refused, _error}, _tried), do: :stop

  # Atoms are above every number.
  def next(%{attempts: most}, _reason, tried) when tried >= most, do: :stop

  def next(policy, _reason, tried) do
    # No number gets too long for that.
    doubled = policy.delay_ms * Integer.pow(2, min(tried, 32))
    {:wait, min(doubled, policy.max_delay_ms)}
  end
end
