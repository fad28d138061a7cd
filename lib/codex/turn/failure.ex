defmodule Codex.Turn.Failure do
  @moduledoc false
  # Makes the error of a turn that did not begin or did not end. Transports return causes as plain
  # data, and the same cause has the same words on every transport. Pure.

  alias Codex.{Error, Subprocess}
  alias Codex.Error.{Classifier, HookWords}
  alias Codex.Turn.Timeouts

  # The limit of the launcher counts for the program, too.
  @program_timeout 5_000

  @typedoc """
  Why a turn failed:

    * `:cancelled`, `:interrupted` - a caller of this node stopped the call; the server ended the
      turn
    * `{:timeout, name, ms}` - a limit of `Codex.Turn.Timeouts` expired, or a `:request` had no
      answer
    * `{:not_started, error, ms}` - the program could not be started; `ms` is the start limit
    * `{:lost, error}` - the launcher of the program was lost
    * `{:next_attempt, reason}` - an attempt after the first cannot be prepared
    * `:exited` - the program exited without ending the turn
    * `{:blocked, …}`, `{:budget, …}`, `{:until, …}` - what hooks of the host decided
    * `:still_running` - the program closed its output and did not exit
    * `{:thread_not_found, thread, words}` - the thread to resume or fork does not exist
    * `{:no_connection, name}`, `{:down, reason}` - the connection is not there any more
    * `{:thread_closed, method}` - the server closed or deleted the thread
    * any reason that `Codex.Error.normalize/1` takes
  """
  @type cause :: term()

  @typedoc """
  The end of the process that served this turn alone: how it exited, its output for people, the last
  error event, whether the thread had started, and the thread that was wanted.
  """
  @type ending :: %{
          optional(:exit) => Subprocess.Exit.t() | nil,
          optional(:stderr) => String.t(),
          optional(:stderr_truncated?) => boolean(),
          optional(:started?) => boolean(),
          optional(:resume) => nil | :last | {:fork, String.t()} | String.t()
        }

  @doc "Returns the error of a cause. `event` is the last error event of the turn, or nil."
  @spec error(cause(), ending(), struct() | nil) :: Error.t()
  def error(cause, ending \\ %{}, event \\ nil) do
    {kind, message, facts} = describe(cause, ending, event)
    {fields, details} = Map.split(facts, [:http_status, :resets_at, :retry_after_ms])
    said = %{stderr: ending[:stderr] || "", stderr_truncated?: ending[:stderr_truncated?] == true}

    details =
      for {key, value} <- said |> Map.put(:retryable?, false) |> Map.merge(details),
          value != nil,
          into: %{},
          do: {key, value}

    struct!(%{Error.new(kind, message, details) | event: event}, fields)
  end

  @doc "Returns the error of an expired limit; it names the option that sets the limit."
  @spec timeout(name, pos_integer(), Timeouts.t(), ending(), struct() | nil) :: Error.t()
        when name: Timeouts.name() | :request
  def timeout(name, ms, timeouts, ending \\ %{}, event \\ nil) do
    option = Timeouts.option(timeouts, name)
    clock = if name in [:silence, :stall], do: :idle, else: name
    facts = %{timeout_ms: ms, clock: clock, option: option, open: Timeouts.open(timeouts)}
    error({:expired, expired(name, ms) <> " (#{option})", facts}, ending, event)
  end

  defp expired(:start, ms), do: "start timeout: codex sent no event for #{ms} ms"
  defp expired(:request, ms), do: "request timeout: the app-server gave no answer for #{ms} ms"
  defp expired(:silence, ms), do: "idle timeout: codex sent nothing for #{ms} ms"
  defp expired(:stall, ms), do: "idle timeout: the turn made no progress for #{ms} ms"
  defp expired(:total, ms), do: "total timeout: the run was not over after #{ms} ms"

  defp describe({:expired, message, facts}, _ending, _event),
    do: {:timeout, message, Map.put(facts, :retryable?, true)}

  defp describe(:cancelled, ending, _event) do
    status = if exit = ending[:exit], do: status(exit), else: %{}
    {:interrupted, "the run was cancelled", status}
  end

  defp describe(:interrupted, _ending, _event),
    do: {:interrupted, "the turn was interrupted", %{}}

  defp describe({:not_started, error, ms}, _ending, _event) do
    {kind, message, facts} = child(error, "codex could not be started")

    limit = %{timeout_ms: ms || @program_timeout, option: :start_timeout_ms}
    {kind, message, if(facts.clock == :start, do: Map.merge(facts, limit), else: facts)}
  end

  defp describe({:next_attempt, reason}, _ending, _event) do
    error = Error.normalize(reason)
    {error.kind, "the next attempt cannot begin: #{error.message}", %{}}
  end

  defp describe({:lost, error}, _ending, _event), do: child(error, "codex was lost")

  # Hooks of the host.
  defp describe(cause, _ending, _event)
       when is_tuple(cause) and elem(cause, 0) in [:blocked, :budget, :until],
       do: {elem(cause, 0), HookWords.reason(cause), facts(cause)}

  defp describe(:still_running, _ending, _event) do
    message = "codex closed its output without ending the turn, and has not exited"
    {:protocol, message, %{}}
  end

  defp describe({:thread_not_found, thread, words}, _ending, _event),
    do: {:thread_not_found, no_thread(thread, words), %{}}

  defp describe(:exited, %{exit: exit} = ending, event) do
    {verdict, words} = classify(exit, ending.stderr, ending.started?)
    facts = Map.merge(status(exit), Map.delete(verdict, :kind))

    cond do
      verdict.kind == :thread_not_found ->
        {:thread_not_found, no_thread(ending.resume, words), facts}

      verdict.kind == :protocol and dropped?(event) ->
        message = "the end of the turn cannot be read: " <> event.message
        {:overflow, message, %{facts | retryable?: false}}

      true ->
        {verdict.kind, words(verdict.kind, exit, words), facts}
    end
  end

  defp describe({:app_server_down, info}, ending, event), do: down(info, ending, event)
  defp describe({:down, {:shutdown, reason}}, ending, event), do: describe(reason, ending, event)

  defp describe({:down, reason}, _ending, _event) when reason in [:normal, :noproc, :shutdown],
    do: {:crashed, "the connection to the app-server was closed", %{}}

  defp describe({:down, _reason}, _ending, _event),
    do: {:crashed, "the connection to the app-server has crashed", %{}}

  defp describe(:noproc, ending, event), do: describe({:down, :noproc}, ending, event)

  defp describe({:no_connection, name}, _ending, _event),
    do: {:crashed, "there is no connection: no process is named #{inspect(name)}", %{}}

  defp describe({:thread_closed, method}, _ending, _event),
    do: {:protocol, "the server sent #{method} during the turn", %{}}

  defp describe(other, _ending, _event) do
    error = Error.normalize(other)
    facts = Map.take(error, ~w(retryable? retry_after_ms resets_at http_status)a)
    {error.kind, error.message, facts}
  end

  defp facts({:blocked, event, reason}), do: %{hook: event, reason: reason}
  defp facts({:budget, {:no_price, model}}), do: %{model: model}
  defp facts({:budget, %{} = facts}), do: facts
  defp facts({:until, max, why}), do: %{max: max, reason: why}
  defp facts(_other), do: %{}

  # A line over a limit, which may have been the end of the turn.
  defp dropped?(%Codex.Events.Error{additional_details: %{"line_bytes" => _}}), do: true
  defp dropped?(_event), do: false

  ## The end of a process

  defp down(%{exit_status: status, signal: signal} = info, _ending, _event)
       when status != nil or signal != nil do
    exit = %{status: status, signal: signal}
    stderr = Map.get(info, :stderr) || ""
    {verdict, words} = classify(exit, stderr, true)
    # The server ends well by itself after SIGTERM; another one can go on.
    verdict = if status == 0, do: %{verdict | kind: :crashed, retryable?: true}, else: verdict
    facts = exit |> status() |> Map.merge(%{stderr: stderr, retryable?: verdict.retryable?})
    {verdict.kind, words(verdict.kind, exit, words), facts}
  end

  defp down(%{reason: {:closed, code, text}}, _ending, _event) do
    number = if code, do: " (#{code})", else: ""
    why = if text == "", do: "", else: ": " <> text
    {:crashed, "the app-server closed the connection#{number}#{why}", %{}}
  end

  defp down(%{reason: reason}, ending, event) when reason in [:disconnected, :noproc, :normal],
    do: describe(:noproc, ending, event)

  defp down(%{reason: %Subprocess.Error{} = error}, ending, event),
    do: describe({:lost, error}, ending, event)

  defp down(_info, ending, event), do: describe({:down, :crashed}, ending, event)

  defp child(error, what) do
    known = Error.normalize(error)
    facts = %{retryable?: known.retryable?, clock: known.details[:clock]}
    {known.kind, "#{what}: #{known.message}", facts}
  end

  defp classify(exit, stderr, started?) do
    ended = %{status: exit.status, signal: number(exit.signal), started?: started?}
    {Classifier.ended(stderr, ended), Classifier.last_words(stderr)}
  end

  # As a shell has it.
  defp status(exit),
    do: %{exit_status: exit.status || 128 + number(exit.signal), signal: exit.signal}

  defp words(:crashed, %{status: 0}, _words),
    do: "codex exited with status 0 without ending the turn, as after SIGTERM"

  defp words(:interrupted, _exit, _words), do: "codex was interrupted"
  defp words(:killed, exit, _words), do: "codex was ended by signal #{exit.signal}"
  defp words(:protocol, _exit, _words), do: "codex exited without ending the turn"

  defp words(:crashed, exit, ""), do: "codex exited with status #{exit.status} and no message"
  defp words(:crashed, exit, words), do: "codex exited with status #{exit.status}: #{words}"
  # The CLI names its flag.
  defp words(:not_a_git_repo, _exit, words),
    do: words <> " Make it a Git repository, or set the option skip_git_repo_check: true."

  defp words(_kind, _exit, words), do: words

  defp no_thread({:fork, id}, words), do: no_thread(id, words)
  defp no_thread(thread, words), do: "no thread #{inspect(thread)}: #{words}"

  defp number(signal) when signal == nil or is_integer(signal), do: signal
  defp number(signal), do: Subprocess.Signal.number!(signal)
end
