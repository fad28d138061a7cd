defmodule Codex.Exec do
  @moduledoc """
  Runs `codex exec --json`: one process for each call, with its events decoded as they come.

  `Codex.Thread` is built on this module and easier to use.

  The prompt is written to the CLI's stdin, which is then closed; neither prompt nor key is in its
  arguments. The CLI runs under a launcher (`Codex.Subprocess`). If nothing reads the stream, the
  CLI waits and memory does not grow. When the reader ends for any reason, the CLI and all its
  descendants are ended, first with SIGINT, the signal that makes the CLI end its commands.

  A stream ends after `Codex.Events.TurnCompleted` or `TurnFailed`, when the CLI has exited. If the
  CLI ends in any other way, the stream raises `Codex.Error`; it never just stops.

  A run is tried once and has no time limit except `timeout_ms`, unless `turn_opts` have `retry`,
  `rate_limit` or other timeouts: see `guides/errors.md`.

  ## Errors

  Before the CLI starts, functions return `{:error, reason}`:

    * the reasons of `Codex.Exec.Options.new/1` and `Codex.Options.codex_path/1`
    * `{:invalid_input, value}` - neither text nor a list of blocks; `""`; `:not_utf8`
    * `{:unsupported_input, :exec}` - the block needs an app-server (`:text` and `:local_image` work
      here)
    * `{:input_too_large, characters, limit}` - the limit of the CLI is 1_048_576 characters
    * `{:image_too_large, path, bytes}`, `{:image_not_found, path}`,
      `{:invalid_working_directory, path}`
    * `{:unsupported_option, option}`, `{:unsupported_option, option, value}` - the CLI does not
      support the option (any more): see the table in `guides/options.md`
    * `{:dangerous, option}` - the option needs `dangerous: true`, too
    * `{:invalid_profile, name}`, `Codex.Config.Error` - `developer_instructions` beyond 127 KiB are
      put into a profile in the home for the run; the named profile or the home cannot be read
    * `{:unsupported_option, :developer_instructions, :ignore_user_config}` - the instructions
      exceed 127 KiB, and the CLI is told not to read profiles
    * `{:invalid_output_schema, {:not_encodable, value, path}}`
    * `{:invalid_schema, path, keyword}` - the option `output` has no strict form: see
      `Codex.Schema`
    * `{:invalid_review_target, value}` - not a target; or, with a map of `target`, `reason`,
      `directory` and `details`: there is no such branch (`:no_branch`) or commit (`:no_commit`),
      no repository (`:no_repository`), or Git did not answer (`:no_answer`). Git is asked before
      anything runs, unless it is not installed
    * `{:forced_login_method, forced, found}`, `{:forced_chatgpt_workspace_id, allowed, found}` -
      the configuration forbids the credential of this run. The CLI would refuse it and delete the
      login
  """

  alias Codex.{Error, Events, Input, OptionError, Review, TransportError, Turn}
  alias Codex.Exec.Options
  alias Codex.Turn.{Cancellation, Driver, Job, Kept, Listener}

  @typedoc "Why a call was not started. See the list above."
  @type reason :: Options.reason() | Codex.Reason.command() | Codex.Reason.login_rule()

  @typedoc "The result of a call that waits for the end of the turn."
  @type result :: {:ok, collected()} | {:error, failure()}
  @typedoc "The events of a turn, and the number of events that a limit dropped."
  @type collected :: %{events: [Events.t()], events_dropped: non_neg_integer()}
  @typedoc "Why a call failed. See `run/2`."
  @type failure ::
          {:turn_failed, Error.t()}
          | {:codex_timeout, pos_integer()}
          | TransportError.t()
          | reason()

  @doc """
  Runs a turn to its end. `opts` as in `Codex.Exec.Options`.

  Returns `{:ok, %{events: events, events_dropped: n}}`, or besides the errors above:

    * `{:error, {:turn_failed, error}}` - a `Codex.Error` with the CLI's own message; `event` is the
      failure, `result` has the events
    * `{:error, {:codex_timeout, ms}}` - no event came for `timeout_ms` (default 3_600_000)
    * `{:error, error}` - a `Codex.TransportError`: the CLI did not end the turn, or another timeout
      expired; `result` has the events
  """
  @spec run(Input.t(), Options.t() | map() | keyword()) :: result()
  def run(input, opts),
    do: with({:ok, job} <- prepare({:run, input}, opts, :blocking), do: collect(job))

  @doc """
  Runs a turn lazily: the CLI starts when the stream is first read, in the process that reads it.

  Returns `{:ok, stream}` of `Codex.Events`, or the errors above. Reading raises `Codex.Error`.
  Halting the stream (`Enum.take/2`) stops the CLI; a CLI that has not ended within a second is
  stopped in the background. Each reading runs a new turn.
  """
  @spec run_stream(Input.t(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def run_stream(input, opts), do: stream({:run, input}, opts)

  @doc """
  Runs a code review to its end. Targets: `:uncommitted_changes`, `{:base_branch, branch}`,
  `{:commit, sha}`, `{:commit, sha, title}`, `{:custom, instructions}` or the instructions as
  text.

  Returns the result of `run/2`, with a `review` in the map: a `Codex.Review`. If the answer is not
  a review, the error is `{:error, {:review_unreadable, error}}`, with the events in `error.result`.
  The CLI reports no usage of a review: the `usage` of its `Codex.Events.TurnCompleted` is nil.
  """
  @spec review(Review.target(), Options.t() | map() | keyword()) ::
          {:ok, %{events: [Events.t()], review: Review.t()}}
          | {:error, failure() | Review.unreadable()}
  def review(target, opts) do
    with {:ok, job} <- prepare({:review, target}, opts, :blocking),
         {:ok, %{events: events} = result} <- collect(job) do
      # A repeated review ran in another thread.
      id = for %Events.ThreadStarted{thread_id: id} <- events, reduce: nil, do: (_earlier -> id)

      case Driver.review(job, events, id) do
        {:ok, review} -> {:ok, Map.put(result, :review, review)}
        {:error, {tag, error}} -> {:error, {tag, %{error | result: result}}}
      end
    end
  end

  @doc """
  Runs a code review lazily, like `run_stream/2`.

  The stream has only events. After its end, `Codex.Review.find/2` reads the review from the session
  file of the thread, and `Codex.Review.parse/1` from the last message. Both distinguish a review
  without findings from an answer that is not a review.
  """
  @spec review_stream(Review.target(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def review_stream(target, opts), do: stream({:review, target}, opts)

  @doc """
  Stops the runs that were started with this `cancellation_token`, from any process, and ends waits
  for a next attempt (`retry`, `rate_limit`).

  Their readers get a `Codex.Error` of the kind `:interrupted`. Returns `:ok`, or
  `{:error, :not_found}` if no such run is going on.
  """
  @spec cancel(String.t()) :: :ok | {:error, :not_found}
  def cancel(token) when is_binary(token), do: Cancellation.cancel_all(token)
  def cancel(other), do: OptionError.wrong!(:token, other, "a cancellation_token")

  defp prepare(task, opts, mode) do
    with {:ok, %{thread: thread} = options} <- Options.new(opts),
         more = [
           images: options.attachments,
           output_schema_path: options.output_schema_path,
           run_token: options.run_token
         ],
         {:ok, job} <- Job.new(task, options.codex_opts, thread, options.turn_opts, more),
         # The transport of the thread does not matter.
         do: Driver.prepare(Codex.Exec.Turn, %{job | transport: :exec}, mode)
  end

  defp stream(task, opts),
    do: with({:ok, job} <- prepare(task, opts, :events), do: {:ok, Driver.stream(job)})

  defp collect(%{thread: thread, turn_opts: turn_opts} = job) do
    kept = Kept.of(if(thread, do: thread.thread_opts, else: %{}), turn_opts)

    {kept, failed, lost, extras} =
      Enum.reduce_while(Driver.stream(job), {kept, nil, nil, %{}}, fn element, acc ->
        acc = keep(element, acc)

        case Listener.notify(turn_opts[:on_event], element) do
          :cont -> {:cont, acc}
          {:halt, error} -> {:halt, put_elem(acc, 2, elem(acc, 2) || error)}
        end
      end)

    so_far = Map.merge(extras, %{events: Kept.events(kept), events_dropped: kept.dropped})

    case {failed, lost} do
      {nil, nil} -> {:ok, so_far}
      {nil, error} -> {:error, lost(error, so_far)}
      {failure, _} -> {:error, {:turn_failed, %{failure | result: so_far}}}
    end
  end

  defp keep({:failed, error}, acc), do: put_elem(acc, 2, error)
  defp keep({tag, _n}, acc) when tag in [:attempts, :repair], do: acc
  defp keep({:extras, extras}, acc), do: put_elem(acc, 3, extras)

  defp keep(event, {kept, failed, lost, extras}),
    do: {Kept.add(kept, event), failed || Turn.failure(event), lost, extras}

  # This function names its own timeout differently from all other failures.
  defp lost(%{details: %{option: :timeout_ms, timeout_ms: ms}}, _so_far),
    do: {:codex_timeout, ms}

  defp lost(error, so_far), do: TransportError.of(%{error | result: so_far})
end
