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
    * `{:invalid_mcp_servers, path}`, `{:invalid_model_providers, path}` - a value that cannot be
      handed over: `env` of a server that has no command, a variable or header that is no text
    * `{:unsupported_option, :mcp_servers, path}` - a secret that the CLI takes from its arguments only
    * `{:invalid_config_overrides, name}` - a name that cannot stand at the top of a configuration
    * `:conflicting_auto_flags` - `full_auto` together with `dangerously_bypass_approvals_and_sandbox`
    * `{:invalid_output_schema, {:not_encodable, value, path}}`
    * `{:invalid_review_target, value}` - not a target; or, with a map of `target`, `reason`,
      `directory` and `details`: there is no such branch (`:no_branch`) or commit (`:no_commit`),
      no repository (`:no_repository`), or Git did not answer (`:no_answer`). Git is asked before
      anything runs, unless it is not installed
    * `{:forced_login_method, forced, found}`, `{:forced_chatgpt_workspace_id, allowed, found}` - a rule of the configuration
      forbids the credential of this run. The CLI would not only refuse it but delete the login
  """

  alias Codex.Exec.{Args, Attempt, Options, Run}
  alias Codex.Telemetry.Span
  alias Codex.Turn.{Cancellation, Kept, Listener, Running}
  alias Codex.{Auth, Error, Events, RateLimit, Review, Telemetry, TransportError, Turn}
  alias Codex.Retry.Attempts

  @type reason :: Options.reason() | Args.reason() | Codex.Auth.Rules.violation()

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
  @spec run(Args.input(), Options.t() | map() | keyword()) ::
          result()
  def run(input, opts), do: collect({:run, input}, opts)

  @doc """
  Runs a turn lazily: the CLI starts when the stream is first read, in the process that reads it.

  Returns `{:ok, stream}` of `Codex.Events`, or the errors above. Reading raises `Codex.Error`. Halting the
  stream (`Enum.take/2`) stops the CLI; a CLI that has not ended within a second is stopped behind
  the caller. Each reading runs the turn anew.
  """
  @spec run_stream(Args.input(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def run_stream(input, opts), do: stream({:run, input}, opts, nil, :raise)

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
    with {:ok, options} <- Options.new(opts),
         {:ok, %{events: events} = result} <- collect({:review, target}, options) do
      case reviewed(events, target, options) do
        {:ok, review} -> {:ok, Map.put(result, :review, review)}
        {:error, {tag, error}} -> {:error, {tag, %{error | result: result}}}
      end
    end
  end

  @doc false
  # The review of these events.
  @spec reviewed([Events.t()], Review.target(), Options.t()) ::
          {:ok, Review.t()} | {:error, Review.unreadable()}
  def reviewed(events, target, options) do
    # A review that was repeated ran in another thread.
    id = for %Events.ThreadStarted{thread_id: id} <- events, reduce: nil, do: (_earlier -> id)

    home =
      with {:ok, args} <- Args.review(target, options),
           {:ok, home} <- Codex.Home.resolve(env: Args.surroundings(args)[:env]),
           do: home,
           else: (_ -> nil)

    Review.of(events, id, home)
  end

  @doc """
  Runs a code review lazily; as `run_stream/2`.

  The stream has the events alone. `Codex.Review.find/2` reads the review from the session file of
  the thread, once the stream has ended, and `Codex.Review.parse/1` from the last message. Both
  tell a review without findings from an answer that is no review.
  """
  @spec review_stream(Review.target(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def review_stream(target, opts), do: stream({:review, target}, opts, nil, :raise)

  @doc """
  Stops the runs that were started with this `cancellation_token`, from any process, and ends waiting for a next attempt
  (`retry`, `rate_limit`).

  Their readers get a `Codex.Error` of the kind `:interrupted`. Returns `:ok`, or `{:error, :not_found}` where
  no such run is going on.
  """
  @spec cancel(String.t()) :: :ok | {:error, :not_found}
  def cancel(token) when is_binary(token), do: Cancellation.cancel_all(token)

  # The default holds where the call blocks; a stream waits as long as its reader does.
  @blocking_timeout 3_600_000

  defp collect(what, opts) do
    with {:ok, options} <- Options.new(opts),
         {:ok, stream} <- stream(what, options, @blocking_timeout, :element) do
      on_event = options.turn_opts[:on_event]
      begin = {kept(options), nil, nil, %{}}

      {kept, failed, lost, extras} =
        Enum.reduce_while(stream, begin, fn event, acc ->
          {kept, failed, lost, extras} = acc = keep(event, acc)

          case Listener.tell(on_event, event) do
            :cont -> {:cont, acc}
            {:halt, error} -> {:halt, {kept, failed, lost || error, extras}}
          end
        end)

      so_far = Map.merge(extras, so_far(kept))

      case {failed, lost} do
        {nil, nil} -> {:ok, so_far}
        {nil, error} -> {:error, lost(error, so_far)}
        {failure, _} -> {:error, {:turn_failed, %{failure | result: so_far}}}
      end
    end
  rescue
    # The CLI could not be started.
    error in Error -> {:error, lost(error, so_far(Kept.new()))}
  end

  defp kept(%{thread: thread, turn_opts: turn}),
    do: Kept.of(if(thread, do: thread.thread_opts, else: %{}), turn)

  defp keep({:failed, error}, acc), do: put_elem(acc, 2, elem(acc, 2) || error)
  defp keep({:attempts, _n}, acc), do: acc
  defp keep({:extras, extras}, acc), do: put_elem(acc, 3, extras)

  defp keep(event, {kept, failed, lost, extras}),
    do: {Kept.add(kept, event), failed || Turn.failure(event), lost, extras}

  defp so_far(kept), do: %{events: Kept.events(kept), events_dropped: kept.dropped}

  # The name that this function has for its own clock, and for all other losses.
  defp lost(%{details: %{option: :timeout_ms, timeout_ms: ms}}, _so_far),
    do: {:codex_timeout, ms}

  defp lost(error, so_far), do: TransportError.of(%{error | result: so_far})

  @doc false
  # Everything is checked here; the stream only runs. A run that is lost raises, or (`:element`) ends with
  # `{:failed, exception}`, and `{:attempts, n}` before that or before the end of a failed turn.
  @spec stream(
          {:run, Args.input()} | {:review, Review.target()},
          Options.t() | map() | keyword(),
          timeout() | nil,
          :raise | :element
        ) :: {:ok, Enumerable.t()} | {:error, reason()}
  def stream(what, opts, default_timeout, lost) do
    :ok = Codex.Started.check!()

    with {:ok, options} <- Options.new(opts),
         :ok <- Turn.check_reader(options.turn_opts, default_timeout != nil, lost),
         {:ok, args} <- Args.build(what, options),
         :ok <- exists(what, args.settings.working_directory),
         :ok <- Auth.allow(Args.surroundings(args)) do
      args = %{args | about: Running.about(:exec, options.thread, what, args.settings)}

      if Telemetry.listening?() do
        about = Span.about(:exec, options.thread, elem(what, 1), args.settings)
        run = &attempts(what, options, %{args | telemetry: &1}, default_timeout, :element)
        {:ok, Span.observe(run, about, lost)}
      else
        {:ok, attempts(what, options, args, default_timeout, lost)}
      end
    end
  end

  defp exists({:review, target}, directory), do: Review.Target.exists(target, directory)
  defp exists(_run, _directory), do: :ok

  defp attempts({:review, _} = what, options, args, default_timeout, lost),
    do: what |> tries(options, args, default_timeout, lost) |> Stream.map(&unused/1)

  defp attempts(what, options, args, default_timeout, lost),
    do: tries(what, options, args, default_timeout, lost)

  # Of a review, the CLI (0.169) counts no tokens, and reports zeros.
  defp unused(%Events.TurnCompleted{usage: %{} = usage} = event),
    do: if(Enum.all?(usage, &match?({_, 0}, &1)), do: %{event | usage: nil}, else: event)

  defp unused(event), do: event

  defp tries(what, options, args, default_timeout, lost) do
    account = fn -> RateLimit.account(args.settings) end

    case Attempts.plan(args.settings, args.tokens, elem(what, 0), account) do
      nil ->
        next = if lost == :raise, do: &Run.next/1, else: &Run.next_or_failure/1
        Stream.resource(fn -> Run.start(args, default_timeout) end, next, &Run.stop/1)

      plan ->
        Attempts.stream(Attempt.source(what, options, args, default_timeout), plan, lost)
    end
  end
end
