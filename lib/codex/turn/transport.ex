defmodule Codex.Turn.Transport do
  @moduledoc false
  # The transports of a turn: a process of `codex exec` (`Codex.Exec.Turn`), or a connection to an
  # app-server (`Codex.AppServer.Turn`). A transport opens a turn, returns its events, and closes.
  # It returns plain data and raises nothing; `Codex.Turn.Driver` does the rest once for all
  # transports: timeouts, retries, rate limits, cancellation, redaction, telemetry, errors, results.
  #
  # All functions run in the process that reads the turn.

  alias Codex.Turn.{Cancellation, Failure, Job, Timeouts}

  @typedoc """
  The state of an open turn. `extras` has the data of the options `keep` and `tee`, `hooks` the
  hooks of the host, if there are any.
  """
  @type run :: %{
          required(:extras) => Codex.Turn.Extras.t() | nil,
          required(:hooks) => Codex.Hooks.Set.t() | nil,
          optional(atom()) => term()
        }

  @typedoc """
  The beginning of an attempt: the job, the job in a known thread, or another prompt in this thread,
  without the images of the job.
  """
  @type how :: :first | {:repeat, String.t() | nil} | {:resume, String.t(), prompt :: String.t()}

  @typedoc """
  The call that an attempt is part of, prefix and metadata of its telemetry (nil without listeners),
  what all attempts of the call have spent (`Codex.Hooks.Set.spent/0`), the writer of the option
  `tee`, and a function that returns how much time is left.
  """
  @type context :: %{
          call: Cancellation.t(),
          telemetry: {[atom(), ...], map()} | nil,
          spent: :atomics.atomics_ref(),
          tee: Codex.Turn.Tee.t() | nil,
          left: (... -> {:wait, timeout()} | {:expired, Timeouts.name(), pos_integer()})
        }

  @typedoc "An event, or texts for the warnings of the result, before the end of the turn."
  @type event :: Codex.Events.t() | {:warnings, [String.t()]}

  @typedoc """
  The result of waiting for the next message:

    * `:ok` - a message of the peer
    * `:waiting` - likewise, and until the next `:ok` the peer is not to blame for silence: it waits
      for the host, or the turn is over and the process exits
    * `:none` - a message that does not concern the turn
    * `:timeout` - nothing
    * `:done` - the turn and its process are over
    * `:cancelled` - the call was cancelled
  """
  @type next ::
          {:ok | :waiting, [event()], run()}
          | {:none | :timeout | :done | :cancelled, run()}
          | {:failed, Failure.cause(), run()}

  @typedoc "Reasons why a turn cannot begin, of all transports."
  @type reason ::
          Codex.Exec.reason()
          | Codex.AppServer.Backend.reason()
          | {:no_pool | :pool_drained, term()}
          | {:unwritable_tee, Path.t(), String.t()}

  @typedoc "Reasons why a turn that runs cannot get input or be interrupted, of all transports."
  @type running_reason ::
          {:unsupported, atom() | tuple()} | Codex.AppServer.Backend.steer_reason()

  @doc "Checks all that can be checked before a turn, and adds the data of `open/3` to the job."
  @callback prepare(Job.t()) :: {:ok, Job.t()} | {:error, reason()}

  @doc "Begins an attempt. A failure has the state that is to be closed, if there is one."
  @callback open(Job.t(), how(), context()) ::
              {:ok, [event()], run()} | {:failed, Failure.cause(), run() | nil}

  @doc "Waits for at most this many ms."
  @callback next(run(), timeout()) :: next()

  @doc "Ends the turn if it still runs. A slow end continues in another process."
  @callback close(run()) :: run()

  @doc "Returns how the process of a closed turn ended, and events that are left."
  @callback ending(run()) :: {Failure.ending(), [event()]}

  @doc "Returns the newest bytes of the process on stderr, as text."
  @callback stderr(run()) :: String.t()

  @doc "Returns texts that must not be shown."
  @callback secrets(Job.t()) :: [String.t()]

  @doc "Returns the home of the CLI, or nil."
  @callback home(Job.t()) :: Path.t() | nil

  @doc "Returns the account that the rate limits of a turn belong to."
  @callback account(Job.t()) :: String.t()

  @doc "Adds input to the turn that runs in a thread."
  @callback steer(Codex.Thread.t(), Codex.Input.t()) :: :ok | {:error, running_reason()}

  @doc "Interrupts the turn that runs in a thread."
  @callback interrupt(Codex.Thread.t(), clean? :: boolean()) ::
              :ok | {:error, running_reason()}

  @doc "Names the operations that a transport does not support."
  @callback unsupported() :: [:steer | :interrupt | :review_of_thread]

  @optional_callbacks steer: 2, interrupt: 2
end
