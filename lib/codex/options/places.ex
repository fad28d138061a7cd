defmodule Codex.Options.Places do
  @moduledoc false
  # The lists of options of a run and of a connection, by name: an option that stands in the wrong
  # list is named with the right one.

  alias Codex.OptionError
  alias Codex.Options.Rows

  @type t ::
          :client
          | :thread
          | :turn
          | :connection
          | :remote
          | :subscription
          | :retry
          | :rate_limit

  @places [
    client:
      "a client: give it to the first argument of Codex.start_thread/2 or " <>
        "Codex.AppServer.connect/2",
    thread: "a thread: give it to the second argument of Codex.start_thread/2",
    turn: "a turn: give it to the last argument of Codex.Thread.run/3",
    connection: "a connection: give it to the second argument of Codex.AppServer.connect/2",
    remote:
      "a remote connection: give it to the second argument of Codex.AppServer.connect_remote/2",
    subscription: "a subscription: give it to the second argument of Codex.AppServer.subscribe/2",
    retry: "retries: give it to the option retry_opts",
    rate_limit: "rate limits: give it to the option rate_limit_opts"
  ]

  @loop "it is for a loop over turns, and this call runs one turn: use Codex.AgentRunner.run/3"
  @token "the CLI has no continuation tokens; leave it out"

  # Options without an equivalent, and options with only one valid value on either transport.
  @unsupported [agent: @loop, run_config: @loop, backoff: @loop, max_turns: @loop] ++
                 [continuation_token: @token] ++
                 for(
                   {name, _type, _doc, facts} <- Rows.all(),
                   match?({{:always, _}, {:always, _}}, {facts[:exec], facts[:app]}),
                   do: {name, facts[:hint]}
                 )

  @names (for {place, rows} <- [
                client: Rows.of(:global),
                thread: Rows.of(:thread),
                turn: Rows.of(:turn),
                connection: Rows.AppServer.child(),
                remote: Rows.AppServer.remote() -- Rows.AppServer.child(),
                subscription: Rows.AppServer.subscription(),
                retry: Rows.Retry.retry(),
                rate_limit: Rows.Retry.rate_limit()
              ],
              {name, _type, _doc, facts} <- rows,
              name <- [name | facts[:also] || []],
              reduce: %{} do
            names -> Map.update(names, Atom.to_string(name), [place], &Enum.uniq(&1 ++ [place]))
          end)

  @doc """
  Returns the error of a key that another list has, or that this version does not support; else nil.

      iex> Exception.message(Codex.Options.Places.error(:sandbox))
      "option :sandbox belongs to a thread: give it to the second argument of Codex.start_thread/2"
      iex> Codex.Options.Places.error(:max_turns).reason
      :unsupported
      iex> Codex.Options.Places.error(:modle)
      nil
  """
  @spec error(term()) :: OptionError.t() | nil
  def error(key) when is_atom(key) or (is_binary(key) and byte_size(key) <= 64) do
    word = to_string(key)

    cond do
      option = Enum.find(@unsupported, fn {name, _hint} -> Atom.to_string(name) == word end) ->
        {name, hint} = option
        OptionError.new(:unsupported, [name], expected: hint)

      places = @names[word] ->
        texts = Enum.map_join(places, ", or to ", &@places[&1])
        OptionError.new(:misplaced, [key], expected: "belongs to #{texts}")

      true ->
        nil
    end
  end

  def error(_key), do: nil
end
