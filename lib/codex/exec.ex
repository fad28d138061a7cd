defmodule Codex.Exec do
  @moduledoc """
  Runs `codex exec --json`: one process for each call, its events decoded as they come.

  `Codex.Thread` is the comfortable way; this is what it stands on.

  The prompt goes to the CLI's stdin, which is closed then; neither prompt nor key is in its arguments. The CLI runs under
  a launcher (`Codex.Subprocess`): a stream that nobody reads makes it wait instead of filling memory, and whatever ends
  the reader ends the CLI and all that it started, with SIGINT first, the signal that makes Codex end its commands.

  A stream ends after `Codex.Events.TurnCompleted` or `TurnFailed`, once the CLI has exited. When the CLI ends in any other
  way, the stream raises `Codex.Error`. It never just stops.

  A run is tried once, and as long as it takes, unless `turn_opts` have `retry`, `rate_limit` or clocks: see `guides/errors.md`.

  ## Errors

  Before anything runs, functions return `{:error, reason}`:

    * what `Codex.Exec.Options.new/1` and `Codex.Options.codex_path/1` return
    * `{:invalid_input, value}` - neither text nor a list of blocks; `""`; `:not_utf8`
    * `{:unsupported_input, :exec}` - a block that only the app-server takes (`:text` and `:local_image` work here)
    * `{:input_too_large, characters, limit}` - the CLI takes 1_048_576 characters
    * `{:image_too_large, path, bytes}`, `{:image_not_found, path}`, `{:invalid_working_directory, path}`
    * `{:unsupported_option, option}`, `{:unsupported_option, option, value}` - the CLI has nothing like it (any more):
      see the table in `guides/options.md`
    * `{:dangerous, option}` - it needs `dangerous: true` beside it
    * `{:invalid_profile, name}`, `Codex.Config.Error` - `developer_instructions` beyond 127 KiB stand in a profile that is
      made for the run, in the home; the named profile, or the home, cannot be read
    * `{:unsupported_option, :developer_instructions, :ignore_user_config}` - they are beyond
      127 KiB, and the CLI is told not to read profiles
    * `{:invalid_output_schema, {:not_encodable, value, path}}`
    * `{:invalid_review_target, value}` - not a target; or, with a map of `target`, `reason`,
      `directory` and `details`: there is no such branch (`:no_branch`) or commit (`:no_commit`),
      no repository (`:no_repository`), or Git did not answer (`:no_answer`). Git is asked before
      anything runs, unless it is not installed
    * `{:forced_login_method, forced, found}`, `{:forced_chatgpt_workspace_id, allowed, found}` - a rule of the configuration
      forbids the credential of this run. The CLI would not only refuse it but delete the login
  """

  alias Codex.{Error, Events, Input, Review, TransportError, Turn}
  alias Codex.Exec.{Argv, Options}
  alias Codex.Turn.{Cancellation, Driver, Job, Kept, Listener}

  @type reason :: Options.reason() | Argv.reason() | Codex.Auth.Rules.violation()

  @typedoc "What a call that waits for the end of the turn returns."
  @type result :: {:ok, collected()} | {:error, failure()}
  @type collected :: %{events: [Events.t()], events_dropped: non_neg_integer()}
  @type failure ::
          {:turn_failed, Error.t()}
          | {:codex_timeout, pos_integer()}
          | TransportError.t()
          | reason()

  @doc """
  Runs a turn to its end. `opts` as in `Codex.Exec.Options`.

  Returns `{:ok, %{events: events, events_dropped: n}}`, or besides the errors above:

    * `{:error, {:turn_failed, error}}` - a `Codex.Error` with the CLI's own message; `event` and `result` have what came
    * `{:error, {:codex_timeout, ms}}` - nothing came for `timeout_ms` (default 3_600_000)
    * `{:error, error}` - a `Codex.TransportError`: the CLI did not end the turn, or another clock ran out; `result` has the
      events that came
  """
  @spec run(Input.t(), Options.t() | map() | keyword()) :: result()
  def run(input, opts),
    do: with({:ok, job} <- prepare({:run, input}, opts, :blocking), do: collect(job))

  @doc """
  Runs a turn lazily: the CLI starts when the stream is first read, in the process that reads it.

  Returns `{:ok, stream}` of `Codex.Events`, or the errors above. Reading raises `Codex.Error`. Halting the
  stream (`Enum.take/2`) stops the CLI; a CLI that has not ended within a second is stopped behind
  the caller. Each reading runs the turn anew.
  """
  @spec run_stream(Input.t(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def run_stream(input, opts), do: stream({:run, input}, opts)

  @doc """
  Runs a code review to its end. Targets: `:uncommitted_changes`, `{:base_branch, branch}`,
  `{:commit, sha}`, `{:commit, sha, title}`, `{:custom, instructions}` or the instructions as
  text.

  Returns what `run/2` returns, and in the map a `review`: a `Codex.Review`. An answer that is no
  review is `{:error, {:review_unreadable, error}}`, with the events in `error.result`. The CLI
  reports no usage of a review: the `usage` of its `Codex.Events.TurnCompleted` is nil.
  """
  @spec review(Review.target(), Options.t() | map() | keyword()) ::
          {:ok, %{events: [Events.t()], review: Review.t()}}
          | {:error, failure() | Review.unreadable()}
  def review(target, opts) do
    with {:ok, job} <- prepare({:review, target}, opts, :blocking),
         {:ok, %{events: events} = result} <- collect(job) do
      # A review that was repeated ran in another thread.
      id = for %Events.ThreadStarted{thread_id: id} <- events, reduce: nil, do: (_earlier -> id)

      case Driver.review(job, events, id) do
        {:ok, review} -> {:ok, Map.put(result, :review, review)}
        {:error, {tag, error}} -> {:error, {tag, %{error | result: result}}}
      end
    end
  end

  @doc """
  Runs a code review lazily; as `run_stream/2`.

  The stream has the events alone. `Codex.Review.find/2` reads the review from the session file of
  the thread, once the stream has ended, and `Codex.Review.parse/1` from the last message. Both
  tell a review without findings from an answer that is no review.
  """
  @spec review_stream(Review.target(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def review_stream(target, opts), do: stream({:review, target}, opts)

  @doc """
  Stops the runs that were started with this `cancellation_token`, from any process, and ends waiting for a next attempt
  (`retry`, `rate_limit`).

  Their readers get a `Codex.Error` of the kind `:interrupted`. Returns `:ok`, or `{:error, :not_found}` where
  no such run is going on.
  """
  @spec cancel(String.t()) :: :ok | {:error, :not_found}
  def cancel(token) when is_binary(token), do: Cancellation.cancel_all(token)

  defp prepare(task, opts, mode) do
    with {:ok, %{thread: thread} = options} <- Options.new(opts),
         more = [
           images: options.attachments,
           output_schema_path: options.output_schema_path,
           run_token: options.run_token
         ],
         {:ok, job} <- Job.new(task, options.codex_opts, thread, options.turn_opts, more),
         # Whatever runs the turns of the thread.
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
  defp keep({:attempts, _n}, acc), do: acc
  defp keep({:extras, extras}, acc), do: put_elem(acc, 3, extras)

  defp keep(event, {kept, failed, lost, extras}),
    do: {Kept.add(kept, event), failed || Turn.failure(event), lost, extras}

  # The name that this function has for its own timeout, and for all other failures.
  defp lost(%{details: %{option: :timeout_ms, timeout_ms: ms}}, _so_far),
    do: {:codex_timeout, ms}

  defp lost(error, so_far), do: TransportError.of(%{error | result: so_far})
end
