defmodule Codex.Thread.Server do
  @moduledoc """
  A thread as a process under a supervisor of the application. Turns belong to this process, so they
  go on when the page that began them is closed, and any number of processes can follow them.

      children = [
        {Codex.Pool, name: MyApp.Codex},
        {Codex.Thread.Server,
         name: MyApp.Reviewer,
         thread: [transport: {:pool, MyApp.Codex}, sandbox: :read_only],
         state: "/var/lib/my_app/reviewer.json"}
      ]

      {:ok, result} = Codex.Thread.Server.run(MyApp.Reviewer, "What changed this week?")

  All transports work: `codex exec`, a connection, a pool. `guides/app_server.md` has a page of
  Phoenix LiveView that shows a thread, and answers its questions.

  ## Turns

  `run/3` runs a turn and waits for it, `submit/3` does not wait. One turn runs at a time. A further
  one is `{:error, {:turn_running, thread_id, run}}`, of the kind `:thread_busy`; with the option
  `queue: n`, up to `n` turns wait in line. `steer/2` adds input to the running turn, `interrupt/2`
  ends it. A turn ends neither with the process that began it nor with its followers.

  ## Followers

  `follow/2` makes the calling process a follower. It gets messages

      {:codex_thread, ref, [{offset, entry}, ...]}

  and confirms each of them with `ack/2`. It gets no further message before, so a slow follower has
  at most one message in its mailbox (64 entries or 64 KiB; a longer entry comes alone), and a fast
  one gets each entry at once. A slow follower holds up neither the turn nor other followers.
  `stream/2` returns the entries as an enumerable instead.

  Entries, in order, by offsets that grow by one:

    * `{:resumed, thread_id}` - the server has begun with a thread that exists
    * `{:began, run, input}` - a turn begins. `run` is the reference that `submit/3` returned
    * `{:event, event}` - an event of the turn, see `Codex.Events`
    * `{:steered, run, input}` - the turn got more input
    * `{:asked, id, question}` - the turn waits for `answer/3`, see *Approvals*
    * `{:answered, id, answer}` - it has its answer: the decision about an approval, `:given` for
      other questions, `:closed` if no answer came in time
    * `{:ended, run, outcome}` - the turn is over: `:ok`, or `{:error, error}` with a `Codex.Error`
    * `{:cut, first, last}` - entries with these offsets are not kept any more; its own offset is
      `last`

  The server keeps the newest entries, limited by `buffer_events` and `buffer_bytes`. A follower
  that comes late, or comes back, begins at an offset of its choice: `from: offset`. `{:cut, …}`
  shows a late or slow follower the gap. The CLI records each thread completely:
  `Codex.Sessions.read/2` returns its history. Offsets of a server that is started again are
  higher than all before.

  `follow/2` monitors the server. Its end is the last message:

      {:DOWN, ref, :process, _server, reason}

  `reason` is `{:shutdown, :idle}` after `idle_ms`, `:normal` after `stop/1`, `:shutdown` if its
  supervisor ended, `:noconnection` if the node of the server is lost, and another one after a
  crash. The server monitors its followers, and forgets those that end. Callers and followers may be
  on other nodes.

  ## Approvals

  With `approvals: :followers`, the followers decide: each question of the CLI is an entry
  `{:asked, id, question}`, and `answer/3` answers it from any process. The first answer counts. A
  `question` about an approval is an event of `Codex.Approvals`, a map with `type`. Over an
  app-server, other questions are structs of `Codex.AppServer.Request`. A question waits for
  `approval_timeout_ms` of the thread (600_000 ms by default with this option), and is declined
  then. So is one of an app-server after `answer_timeout_ms` of its connection. `codex exec` asks
  about every command and patch, see `Codex.Approvals.transports/0`. `status/1` returns the open
  questions.

  With `approvals: :thread`, the functions among the options of the thread decide.

  ## After a crash

  The thread goes on after each failure of a turn. If the CLI or a server of the pool is killed,
  followers get `{:ended, run, {:error, error}}`, and the next turn resumes the thread. A connection
  as transport needs a name and `reconnect: true` for that.

  If the process of the server is killed, its turn is interrupted and the CLI ends with it. No
  prompt is sent again: a turn that may have run is for the application to repeat.

  A supervisor starts the server again, with the same options. The option `state` keeps the id of
  the thread, so that the new server continues it:

    * `state: path` - a file, written when the CLI has named the thread. It survives a crash of the
      process and of the VM
    * `state: {load, save}` - functions of the application, for example with a row of its database.
      `load` returns the id or nil, when a server starts. `save` gets the id, in the process of the
      turn; other results than an exception do not count

  If its node is lost, start the server on another one. That needs the state and the thread: the
  same `CODEX_HOME`, or the option `session_store` of the thread (`Codex.SessionStore`).

  A turn whose thread cannot be saved is stopped, with an error of the kind `:config`. Without
  `state`, a server that is started again begins with the thread of `resume`, or a new one. If the
  thread does not exist any more, turns fail with the kind `:thread_not_found`; the input `/new`
  begins a new thread.

  Give a server a name, so that a thread has one server: `{:via, Registry, {MyApp.Threads, id}}`
  on a node, `{:global, {MyApp, id}}` in a cluster.

  ## Options

  #{Codex.Thread.Server.Options.docs()}

  As the child of a supervisor, a server has `restart: :transient`: it is not started again after
  `idle_ms` and `stop/1`. An idle server takes 3 to 5 kB, and its buffer.

  ## Errors

  Functions return `{:error, {:no_thread_server, server}}` if there is no such server, and a
  `Codex.OptionError` for an invalid argument.
  """

  alias Codex.{AgentRunner, Error, Input, OptionError, Thread}
  alias Codex.Options.Schema
  alias Codex.Thread.Server.{Call, Entries, Loop, Options}

  @typedoc "The pid or the name of a thread server."
  @type server :: GenServer.server()

  @typedoc "A turn, in entries and for `interrupt/2`."
  @type run :: reference()

  @typedoc "The place of an entry."
  @type offset :: non_neg_integer()

  @typedoc "An entry for followers. See above."
  @type entry ::
          {:resumed, thread_id :: String.t()}
          | {:began, run(), Input.t()}
          | {:event, Codex.Events.t()}
          | {:steered, run(), Input.t()}
          | {:asked, id :: String.t(), question()}
          | {:answered, id :: String.t(), Codex.Approvals.decision() | :cancel | :given | :closed}
          | {:ended, run(), :ok | {:error, Error.t()}}
          | {:cut, first :: offset(), last :: offset()}

  @typedoc "A question to the followers: an event of `Codex.Approvals`, or a request."
  @type question :: map() | Codex.AppServer.Request.t()

  @typedoc "Why a server cannot be called."
  @type reason :: {:no_thread_server, server()} | OptionError.t()

  @typedoc "Why a turn did not begin: another one runs, and no more may wait."
  @type busy :: {:turn_running, thread_id :: String.t() | nil, run()}

  @from "an offset, :start or :now"
  @follow Schema.new(
            [{:from, :from, "the first entry", default: :start, expected: @from}],
            places: true
          )

  @doc """
  Starts a server that is linked to the caller. Options: see above.

  Returns `{:error, reason}`: a `Codex.OptionError` or another reason of `Codex.start_thread/2`, a
  `Codex.Error` of the kind `:config` if the state cannot be loaded, and `{:already_started, pid}`.
  """
  @spec start_link(keyword() | map() | (... -> keyword() | map())) ::
          {:ok, pid()} | {:error, Codex.reason() | Error.t() | {:already_started, pid()}}
  def start_link(options) when is_function(options, 0), do: start_link(options.())

  def start_link(options) do
    :ok = Codex.Started.check!()
    with {:ok, opts} <- Options.new(options), do: Loop.start_link(opts)
  end

  @doc """
  Returns the child specification for `start_link/1`. Its id is the name. `restart` is `:transient`.
  """
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(options) do
    pairs = Schema.pairs!(options)
    name = Enum.find_value(pairs, fn {key, value} -> key in [:name, "name"] && value end)

    %{
      id: name || __MODULE__,
      # A function, because reports of supervisors show arguments, which may hold keys.
      start: {__MODULE__, :start_link, [fn -> options end]},
      restart: :transient,
      shutdown: 10_000
    }
  end

  @doc """
  Runs a turn and waits for its end. Options and results are those of `Codex.Thread.run/3`.

  Returns `{:error, {:turn_running, thread_id, run}}` if another turn runs and the queue is full. If
  the server ends during the call, the error is `{:exec_failed, error}` of the kind `:crashed`: the
  turn may have run.
  """
  @spec run(server(), Input.t(), keyword() | map()) ::
          {:ok, Codex.Turn.Result.t()}
          | {:error, Thread.failure() | AgentRunner.reason() | busy() | reason()}
  def run(server, input, opts \\ []) do
    with {:ok, opts} <- Schema.pairs(opts),
         {:ended, reason} <- Call.call(server, {:run, input, opts, true}) do
      message =
        "the server of the thread ended during the call, and the turn may have run: #{reason}"

      {:error, {:exec_failed, Error.new(:crashed, message, %{retryable?: false})}}
    end
  end

  @doc """
  Begins a turn, or puts it in line, and returns `{:ok, run}`. The outcome is the entry
  `{:ended, run, outcome}`, also for invalid options. Takes the options of `run/3`.
  """
  @spec submit(server(), Input.t(), keyword() | map()) ::
          {:ok, run()} | {:error, busy() | reason()}
  def submit(server, input, opts \\ []) do
    with {:ok, opts} <- Schema.pairs(opts),
         do: Call.request(server, {:run, input, opts, false})
  end

  @doc """
  Adds input to the turn that runs. Results are those of `Codex.Thread.steer/2`: `:ok`, or
  `{:error, {:unsupported, :exec}}` and others.
  """
  @spec steer(server(), Input.t()) :: :ok | {:error, Thread.steer_reason() | :crashed | reason()}
  def steer(server, input), do: Call.request(server, {:steer, input})

  @doc """
  Interrupts the turn that runs, or with `run` this turn, which may wait in line. Its outcome is an
  error of the kind `:interrupted`. The thread can be continued.

  Returns `:ok` before the turn has ended; `{:error, {:no_turn, thread_id}}` if no such turn runs or
  waits, `{:error, :missing_thread_id}` if the thread has not begun.
  """
  @spec interrupt(server(), run() | nil) ::
          :ok | {:error, :missing_thread_id | {:no_turn, String.t()} | reason()}
  def interrupt(server, run \\ nil)

  def interrupt(server, run) when is_reference(run) or run == nil,
    do: Call.request(server, {:interrupt, run})

  def interrupt(_server, other),
    do: {:error, OptionError.argument(:run, other, "the reference of a turn, or nil")}

  @doc """
  Answers a question of the turn, by the id of its entry: a decision of `Codex.Approvals`, or the
  answer of the request (`Codex.AppServer.Request`).

  Returns `:ok`, once. `{:error, {:request_closed, id}}` if the question has another answer, or is
  declined; a `Codex.OptionError` if the answer is not a decision, which can be answered again.
  """
  @spec answer(server(), String.t(), term()) ::
          :ok | {:error, {:request_closed, String.t()} | reason()}
  def answer(server, id, answer) when is_binary(id),
    do: Call.request(server, {:answer, id, answer})

  def answer(_server, other, _answer),
    do: {:error, OptionError.argument(:id, other, "the id of a question")}

  @doc """
  Makes the calling process a follower. Returns `{:ok, ref}`, the reference in its messages and the
  monitor of the server.

      {:ok, ref} = Codex.Thread.Server.follow(server)

      receive do
        {:codex_thread, ^ref, entries} ->
          for {offset, entry} <- entries, do: IO.inspect(entry, label: offset)
          Codex.Thread.Server.ack(server, ref)

        {:DOWN, ^ref, :process, _server, reason} ->
          IO.inspect(reason)
      end

  Options:

  #{Schema.docs(@follow)}

  `:start` is the oldest entry that is kept, `:now` the next one. To go on after an offset, pass
  `offset + 1`.
  """
  @spec follow(server(), keyword() | map()) :: {:ok, reference()} | {:error, reason()}
  def follow(server, opts \\ []) do
    with {:ok, %{from: from}} <- Schema.validate(@follow, opts, &cast/2),
         {:ok, process} <- Call.whereis(server) do
      ref = Process.monitor(process)

      with {:error, reason} <- Call.request(process, {:follow, self(), ref, from}) do
        Process.demonitor(ref, [:flush])
        {:error, reason}
      else
        :ok -> {:ok, ref}
      end
    end
  end

  defp cast(:from, from) when from in [:start, :now], do: {:ok, from}
  defp cast(:from, offset) when is_integer(offset) and offset >= 0, do: {:ok, offset}
  defp cast(:from, _other), do: :error

  @doc """
  Confirms a message of entries: the follower gets the next one. Returns `:ok`, also if the server
  has ended.
  """
  @spec ack(server(), reference()) :: :ok | {:error, OptionError.t()}
  def ack(server, ref) when is_reference(ref) do
    with :ok <- Call.check(server), do: GenServer.cast(server, {:ack, ref})
  end

  def ack(_server, other), do: {:error, no_follower(other)}

  @doc """
  Ends following. Messages with this reference are removed from the mailbox. Returns `:ok`, also if
  the server has ended.
  """
  @spec unfollow(server(), reference()) :: :ok | {:error, OptionError.t()}
  def unfollow(server, ref) when is_reference(ref) do
    with :ok <- Call.check(server) do
      Process.demonitor(ref, [:flush])
      _ = Call.call(server, {:unfollow, ref})
      flush(ref)
    end
  end

  def unfollow(_server, other), do: {:error, no_follower(other)}

  defp no_follower(value),
    do:
      OptionError.argument(
        :ref,
        value,
        "the reference that Codex.Thread.Server.follow/2 returned"
      )

  defp flush(ref) do
    receive do
      {:codex_thread, ^ref, _entries} -> flush(ref)
    after
      0 -> :ok
    end
  end

  @doc """
  Returns the entries as a lazy enumerable of `{offset, entry}`, for the process that reads it.
  Options are those of `follow/2`.

      for {_offset, {:event, event}} <- Codex.Thread.Server.stream(server, from: :now),
          do: IO.inspect(event)

  The enumerable ends when the server stops in good order. Reading raises `Codex.Error` if there is
  no server, or it crashes, and `Codex.OptionError` for invalid arguments.
  """
  @spec stream(server(), keyword() | map()) :: Enumerable.t()
  def stream(server, opts \\ []) do
    Entries.stream(
      fn -> follow(server, opts) end,
      &ack(server, &1),
      &unfollow(server, &1)
    )
  end

  @doc """
  Returns the state of a server, `{:ok, map}`:

    * `:thread_id` - nil until the CLI has named the thread
    * `:run` - the turn that runs, or nil; `:queued` - those that wait
    * `:first`, `:next` - the offsets of the oldest entry that is kept, and of the next one
    * `:bytes` - the size of the entries
    * `:followers` - their number
    * `:asked` - a map of open questions by id
  """
  @spec status(server()) :: {:ok, map()} | {:error, reason()}
  def status(server), do: Call.request(server, :status)

  @doc """
  Stops a server. A turn that runs is interrupted; those that wait do not begin. Returns `:ok`, or
  `{:error, {:no_thread_server, server}}`.
  """
  @spec stop(server()) :: :ok | {:error, reason()}
  def stop(server) do
    with {:ok, process} <- Call.whereis(server) do
      monitor = Process.monitor(process)
      result = Call.request(process, :stop)

      receive do
        {:DOWN, ^monitor, :process, _, _} -> result
      end
    end
  end
end
