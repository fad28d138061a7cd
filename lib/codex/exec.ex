defmodule Codex.Exec do
  @moduledoc """
  Runs `codex exec --json`: one process for each call, its events decoded as they come.

  `Codex.Thread` is the comfortable way; this is what it stands on.

  The prompt goes to the CLI's stdin, which is closed then; neither prompt nor key is in its arguments. The CLI runs under
  a launcher (`Codex.Subprocess`): a stream that nobody reads makes it wait instead of filling memory, and whatever ends
  the reader ends the CLI and all that it started, with SIGINT first, the signal that makes Codex end its commands.

  A stream ends after `Codex.Events.TurnCompleted` or `TurnFailed`, once the CLI has exited. When the CLI ends in any other
  way, the stream raises `Codex.TransportError`. It never just stops.

  ## Errors

  Before anything runs, functions return `{:error, reason}`:

    * what `Codex.Exec.Options.new/1` and `Codex.Options.codex_path/1` return
    * `{:invalid_input, value}` - neither text nor a list of blocks; `""`; `:not_utf8`
    * `{:unsupported_input, :exec}` - a block that only the app-server takes (`:text` and `:local_image` work here)
    * `{:input_too_large, characters, limit}` - the CLI takes 1_048_576 characters
    * `{:image_not_found, path}`, `{:invalid_working_directory, path}`
    * `{:unsupported_option, option}`, `{:unsupported_option, option, value}` - the CLI has nothing like it (any more):
      see the table in `guides/options.md`
    * `{:dangerous, option}` - it needs `dangerous: true` beside it
    * `{:invalid_profile, name}`, `Codex.Config.Error` - `developer_instructions` beyond 127 KiB stand in a profile that is
      made for the run, in the home; the named profile, or the home, cannot be read
    * `{:invalid_config_overrides, name}` - a name that cannot stand at the top of a configuration
    * `:conflicting_auto_flags` - `full_auto` together with `dangerously_bypass_approvals_and_sandbox`
    * `{:invalid_output_schema, {:not_encodable, value, path}}`
    * `{:invalid_review_target, value}`
    * `{:forced_login_method, forced, found}`, `{:forced_chatgpt_workspace_id, allowed, found}` - a rule of the configuration
      forbids the credential of this run. The CLI would not only refuse it but delete the login
  """

  alias Codex.Exec.{Args, Options, Run}
  alias Codex.{Auth, Error, Events, Subprocess, TransportError}

  @type reason :: Options.reason() | Args.reason() | Codex.Auth.Rules.violation()

  @typedoc "What a call that waits for the end of the turn returns."
  @type result ::
          {:ok, %{events: [Events.t()]}}
          | {:error,
             {:turn_failed, Error.t()}
             | {:codex_timeout, pos_integer()}
             | TransportError.t()
             | reason()}

  @doc """
  Runs a turn to its end. `opts` as in `Codex.Exec.Options`.

  Returns `{:ok, %{events: events}}`, or besides the errors above:

    * `{:error, {:turn_failed, error}}` - a `Codex.Error` with the CLI's own message; `event` and `result` have what came
    * `{:error, {:codex_timeout, ms}}` - nothing came for `timeout_ms` (default 3_600_000)
    * `{:error, error}` - a `Codex.TransportError`: the CLI did not end the turn
  """
  @spec run(Args.input(), Options.t() | map() | keyword()) ::
          result()
  def run(input, opts), do: collect(&Args.run(input, &1), opts)

  @doc """
  Runs a turn lazily: the CLI starts when the stream is first read, in the process that reads it.

  Returns `{:ok, stream}` of `Codex.Events`, or the errors above. Reading raises `Codex.TransportError`. Halting the
  stream (`Enum.take/2`) stops the CLI before it returns. Each reading runs the turn anew.
  """
  @spec run_stream(Args.input(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def run_stream(input, opts), do: stream(&Args.run(input, &1), opts, nil)

  @doc """
  Runs a code review to its end. Targets: `:uncommitted_changes`, `{:base_branch, branch}`, `{:commit, sha}`,
  `{:commit, sha, title}`, `{:custom, instructions}` or the instructions as text.

  Returns what `run/2` returns. The findings are in the last `Codex.Items.AgentMessage`, as text; the CLI reports no usage.
  """
  @spec review(Args.review(), Options.t() | map() | keyword()) ::
          result()
  def review(target, opts), do: collect(&Args.review(target, &1), opts)

  @doc "Runs a code review lazily; as `run_stream/2`."
  @spec review_stream(Args.review(), Options.t() | map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def review_stream(target, opts), do: stream(&Args.review(target, &1), opts, nil)

  @doc """
  Stops the runs that were started with this `cancellation_token`, from any process.

  Their readers get a `Codex.TransportError` with the reason `:interrupted`. Returns `:ok`, or `{:error, :not_found}` where
  no such run is going on.
  """
  @spec cancel(String.t()) :: :ok | {:error, :not_found}
  def cancel(token) when is_binary(token) do
    case Registry.lookup(Codex.Exec.Registry, token) do
      [] ->
        {:error, :not_found}

      runs ->
        for {_pid, {sub, cancelled}} <- runs do
          :atomics.put(cancelled, 1, 1)
          Subprocess.request_stop(sub)
        end

        :ok
    end
  end

  # The default holds where the call blocks; a stream waits as long as its reader does.
  @blocking_timeout 3_600_000

  defp collect(build, opts) do
    with {:ok, stream} <- stream(build, opts, @blocking_timeout) do
      events = Enum.to_list(stream)

      case Enum.find(events, &match?(%Events.TurnFailed{}, &1)) do
        nil ->
          {:ok, %{events: events}}

        failed ->
          error = Error.normalize(failed.error)
          {:error, {:turn_failed, %{error | event: failed, result: %{events: events}}}}
      end
    end
  rescue
    error in TransportError ->
      case error do
        %{reason_code: :timeout, timeout_ms: ms} -> {:error, {:codex_timeout, ms}}
        error -> {:error, error}
      end
  end

  @doc false
  # Everything is checked here; the stream only runs. `next` is `&Run.next/1`, or `&Run.next_or_failure/1`.
  def stream(build, opts, default_timeout, next \\ &Run.next/1) do
    with {:ok, options} <- Options.new(opts),
         {:ok, args} <- build.(options),
         :ok <- Auth.allow(Args.surroundings(args)) do
      {:ok, Stream.resource(fn -> Run.start(args, default_timeout) end, next, &Run.stop/1)}
    end
  end
end
