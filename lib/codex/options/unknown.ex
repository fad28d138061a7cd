defmodule Codex.Options.Unknown do
  @moduledoc false
  # A key that a list of options does not have: the list that it belongs to, or which key was meant.

  alias Codex.AppServer.Options, as: Connection
  alias Codex.{RateLimit, Retry, Suggest}
  alias Codex.Options.Rows

  @type place ::
          :client
          | :thread
          | :turn
          | :connection
          | :remote
          | :subscription
          | :retry
          | :rate_limit
  @type reason ::
          {:misplaced_option, term(), [place(), ...]}
          | {:unsupported_option, atom()}
          | {:unknown_option, term(), nearest :: atom() | nil}

  @scopes [client: :global, thread: :thread, turn: :turn]

  @run (for {place, scope} <- @scopes do
          names =
            for {name, scopes, _, _, facts} <- Rows.all(), scope in scopes do
              turn_also = if place == :turn, do: facts[:turn_also] || [], else: []
              [name | facts[:also] || []] ++ turn_also
            end

          {place, List.flatten(names)}
        end)

  @subscription [:methods, :thread_id, :as]

  @doc "The options of `Codex.AppServer.subscribe/2`."
  @spec subscription() :: [atom()]
  def subscription, do: @subscription

  @doc """
  The reason for a key that is none of `known`.

      iex> alias Codex.Options.Unknown
      iex> Unknown.reason(:sandbox, [:model, :api_key])
      {:misplaced_option, :sandbox, [:thread]}
      iex> Unknown.reason("timeout_ms", [:start_timeout_ms])
      {:misplaced_option, "timeout_ms", [:turn]}
      iex> Unknown.reason(:modle, [:model, :api_key])
      {:unknown_option, :modle, :model}
      iex> Unknown.reason(:max_turns, [:max_events])
      {:unsupported_option, :max_turns}
  """
  @spec reason(term(), [atom()]) :: reason()
  def reason(key, known) do
    case {places(key), refused(key)} do
      {[], nil} -> {:unknown_option, key, Suggest.nearest(key, known)}
      {[], name} -> {:unsupported_option, name}
      {places, _} -> {:misplaced_option, key, places}
    end
  end

  # Options of 0.4.5 that this version has no form of.
  @refused ~w(agent run_config backoff max_turns)a

  defp refused(key), do: Enum.find(@refused, &(key in [&1, Atom.to_string(&1)]))

  @doc "The lists of options that have this key."
  @spec places(term()) :: [place()]
  def places(key) when is_atom(key) or (is_binary(key) and byte_size(key) <= 64) do
    word = to_string(key)
    for {place, names} <- all(), Enum.any?(names, &(Atom.to_string(&1) == word)), do: place
  end

  def places(_key), do: []

  defp all do
    @run ++
      [
        connection: Connection.names(:child),
        remote: Connection.names(:remote) -- Connection.names(:child),
        subscription: @subscription,
        retry: names(Retry.Options.rows()),
        rate_limit: names(RateLimit.Options.rows())
      ]
  end

  defp names(rows), do: Enum.map(rows, &elem(&1, 0))
end
