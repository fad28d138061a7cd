defmodule Codex.AppServer.Reconnect do
  @moduledoc false
  # The option `:reconnect`, and the servers of a connection, one after the other: how many there
  # were, whether one is ready, and when the next one is tried. Pure; times are arguments, in ms.

  alias Codex.OptionError
  alias Codex.Options.{Rows, Schema, Type}

  @schema Schema.new(Rows.AppServer.reconnect())

  # Attempts count from the first again after a server that was ready for so long, and for longer
  # than the wait before it.
  @stable_ms 1_000

  defstruct servers: 1, up?: false, tried: 0, waited: 0, since: nil, waiting: %{}

  @typedoc """
    * `servers` - how many there were, with the present one
    * `up?` - whether one was ever ready; `since` - since when the present one is, or nil
    * `tried` - failed attempts in a row; `waited` - the last delay
    * `waiting` - callers that wait for the next server, with their timers
  """
  @type t :: %__MODULE__{
          servers: pos_integer(),
          up?: boolean(),
          tried: non_neg_integer(),
          waited: non_neg_integer(),
          since: integer() | nil,
          waiting: %{GenServer.from() => reference()}
        }

  @type policy :: %{
          attempts: pos_integer() | :infinity,
          delay_ms: pos_integer(),
          max_delay_ms: pos_integer()
        }

  @doc """
  Makes the policy of the option; nil turns reconnecting off.

      iex> Codex.AppServer.Reconnect.new(attempts: 3)
      {:ok, %{attempts: 3, delay_ms: 200, max_delay_ms: 10_000}}
      iex> {:error, error} = Codex.AppServer.Reconnect.new(attempts: 0)
      iex> Exception.message(error)
      "option :attempts must be a positive integer or :infinity, got: 0"
      iex> Enum.map([false, :yes], &Codex.AppServer.Reconnect.new/1)
      [{:ok, nil}, :error]
  """
  @spec new(term()) :: {:ok, policy() | nil} | {:error, OptionError.t()} | :error
  def new(false), do: {:ok, nil}
  def new(true), do: new([])

  def new(options) do
    with {:error, %{reason: :not_options}} <- Schema.validate(@schema, options, &cast/2),
         do: :error
  end

  defp cast(:attempts, :infinity), do: {:ok, :infinity}
  defp cast(:attempts, n), do: Type.cast(:positive, n)

  @doc "Marks the server ready. Returns whether it is a further one, and the callers that waited."
  @spec ready(t(), integer()) :: {again? :: boolean(), %{GenServer.from() => reference()}, t()}
  def ready(servers, now) do
    ready = %{servers | up?: true, since: now, waiting: %{}}
    {servers.up?, servers.waiting, ready}
  end

  @doc """
  Marks the server lost, or not reached. Returns when to try the next one and whether it had been
  ready, or `:stop`: without a policy, without attempts left, if no server was ever ready, and if
  the server refuses the client.

      iex> alias Codex.AppServer.Reconnect
      iex> {:ok, policy} = Reconnect.new(attempts: 2)
      iex> Reconnect.lost(%Reconnect{}, policy, {:app_server_down, %{}}, 0)
      :stop
      iex> {false, _none, servers} = Reconnect.ready(%Reconnect{}, 0)
      iex> Reconnect.lost(servers, policy, {:initialize_refused, %{}}, 5)
      :stop
      iex> down = {:app_server_down, %{}}
      iex> {:wait, 200, true, servers} = Reconnect.lost(servers, policy, down, 5)
      iex> {:wait, 400, false, servers} = Reconnect.lost(servers, policy, down, 5)
      iex> Reconnect.lost(servers, policy, down, 5)
      :stop
      iex> {true, _none, servers} = Reconnect.ready(servers, 10)
      iex> {:wait, ms, true, _servers} = Reconnect.lost(servers, policy, down, 1_010)
      iex> ms
      200
  """
  @spec lost(t(), policy() | nil, Codex.AppServer.State.reason(), integer()) ::
          {:wait, pos_integer(), was_up? :: boolean(), t()} | :stop
  def lost(%{up?: false}, _policy, _reason, _now), do: :stop
  def lost(_servers, nil, _reason, _now), do: :stop
  def lost(_servers, _policy, {:initialize_refused, _error}, _now), do: :stop

  def lost(servers, policy, _reason, now) do
    tried = if stable?(servers, now), do: 0, else: servers.tried

    # `:infinity` is above every number.
    if tried < policy.attempts do
      ms = min(policy.delay_ms * Integer.pow(2, min(tried, 32)), policy.max_delay_ms)
      {:wait, ms, servers.since != nil, %{servers | since: nil, tried: tried + 1, waited: ms}}
    else
      :stop
    end
  end

  defp stable?(%{since: nil}, _now), do: false
  defp stable?(servers, now), do: now - servers.since >= max(servers.waited, @stable_ms)

  @doc "Counts another server, which is not ready yet."
  @spec reached(t()) :: t()
  def reached(servers), do: %{servers | servers: servers.servers + 1}

  @doc "Adds a caller that waits for the next server."
  @spec wait(t(), GenServer.from(), reference()) :: t()
  def wait(servers, from, timer), do: put_in(servers.waiting[from], timer)

  @doc "Removes a caller whose time is over. Returns whether it still waited."
  @spec give_up(t(), GenServer.from()) :: {boolean(), t()}
  def give_up(servers, from) do
    {timer, waiting} = Map.pop(servers.waiting, from)
    {timer != nil, %{servers | waiting: waiting}}
  end
end
