defmodule Codex.AppServer.Life do
  @moduledoc false
  # The servers of a connection, one after the other: how many there were, whether one is there, and when the next one is to be reached. Pure;
  # times are arguments, in ms.

  alias Codex.AppServer.{Reconnect, State}

  # A server that stays for so long, and longer than it was waited for, was a good one.
  @good 1_000

  defstruct servers: 1, up?: false, tried: 0, waited: 0, since: nil, waiting: %{}

  @typedoc """
    * `servers` - how many there were, the present one included
    * `up?` - whether one was ever ready; `since` - since when this one is
    * `tried` - how often in a row one was lost or not reached; `waited` - for how long the last time
    * `waiting` - who waits for the next one, with their timers
  """
  @type t :: %__MODULE__{
          servers: pos_integer(),
          up?: boolean(),
          tried: non_neg_integer(),
          waited: non_neg_integer(),
          since: integer() | nil,
          waiting: %{GenServer.from() => reference()}
        }

  @doc "A server is ready: whether it is another one, and who waited for it."
  @spec ready(t(), integer()) :: {again? :: boolean(), %{GenServer.from() => reference()}, t()}
  def ready(life, now),
    do: {life.up?, life.waiting, %{life | up?: true, since: now, waiting: %{}}}

  @doc """
  It is lost, or was not reached: when the next one is to be, and whether it had been ready; or that there is none.

      iex> alias Codex.AppServer.Life
      iex> {:ok, policy} = Codex.AppServer.Reconnect.new(attempts: 2)
      iex> Life.lost(%Life{}, policy, {:app_server_down, %{}}, 0)
      :stop
      iex> {false, none, life} = Life.ready(%Life{}, 0)
      iex> {:wait, 200, true, life} = Life.lost(life, policy, {:app_server_down, %{}}, 5)
      iex> {:wait, 400, false, life} = Life.lost(life, policy, {:app_server_down, %{}}, 5)
      iex> {Life.lost(life, policy, {:app_server_down, %{}}, 5), none}
      {:stop, %{}}
      iex> {true, _, life} = Life.ready(life, 10)
      iex> {:wait, ms, true, _life} = Life.lost(life, policy, {:app_server_down, %{}}, 1_010)
      iex> ms
      200
  """
  @spec lost(t(), Reconnect.t() | nil, State.reason(), integer()) ::
          {:wait, pos_integer(), was_up? :: boolean(), t()} | :stop
  def lost(%{up?: false}, _policy, _reason, _now), do: :stop

  def lost(life, policy, reason, now) do
    tried = if good?(life, now), do: 0, else: life.tried

    with {:wait, ms} <- Reconnect.next(policy, reason, tried),
         do: {:wait, ms, life.since != nil, %{life | since: nil, tried: tried + 1, waited: ms}}
  end

  defp good?(%{since: nil}, _now), do: false
  defp good?(life, now), do: now - life.since >= max(life.waited, @good)

  @doc "Another one was reached, and has not said hello yet."
  @spec reached(t()) :: t()
  def reached(life), do: %{life | servers: life.servers + 1}

  @doc "Somebody waits for the next one."
  @spec wait(t(), GenServer.from(), reference()) :: t()
  def wait(life, from, timer), do: put_in(life.waiting[from], timer)

  @doc "Their time is over: whether they still waited."
  @spec give_up(t(), GenServer.from()) :: {boolean(), t()}
  def give_up(life, from) do
    {timer, waiting} = Map.pop(life.waiting, from)
    {timer != nil, %{life | waiting: waiting}}
  end
end
