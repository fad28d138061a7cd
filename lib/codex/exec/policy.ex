defmodule Codex.Exec.Policy do
  @moduledoc false
  # What the options of a run say about failures, and how `codex exec` is run once more.

  alias Codex.Exec.{Args, Options, Run}
  alias Codex.{Error, RateLimit, TransportError}
  alias Codex.Retry.Attempts

  @doc "The policy of a run, or nil where nothing is on."
  @spec of({:run | :review, term()}, Args.t()) :: Attempts.policy() | nil
  def of({what, _}, %Args{settings: settings, tokens: tokens}) do
    retry = if on?(settings.retry, settings.retry_opts), do: retry(settings)
    limits = if on?(settings.rate_limit, settings.rate_limit_opts), do: limits(settings)

    if retry || limits do
      %{
        retry: retry,
        limits: limits,
        # There is no such thing as half a review, and what is not kept cannot be resumed.
        resume?: settings.retry == :resume and what == :run and settings.ephemeral != true,
        account: (limits && limits.account) || RateLimit.account(settings),
        total: settings.total_timeout_ms || :infinity,
        tokens: tokens
      }
    end
  end

  # Options are as good as `true`, but not against `false`.
  defp on?(nil, opts), do: opts not in [nil, [], %{}]
  defp on?(switch, _opts), do: switch != false

  defp retry(settings) do
    opts = Codex.Retry.Options.check!(settings.retry_opts || [])
    %{opts | telemetry_prefix: settings.telemetry_prefix}
  end

  defp limits(settings) do
    opts = RateLimit.Options.complete!(settings.rate_limit_opts || [])
    %{opts | telemetry_prefix: settings.telemetry_prefix}
  end

  @doc "How this is run: at first with `args`, then as each attempt goes on."
  @spec source({:run | :review, term()}, Options.t(), Args.t(), timeout() | nil) ::
          Attempts.source()
  def source(what, options, args, default_timeout) do
    %{
      start: fn how, call ->
        with {:ok, next} <- args(how, what, options, args),
             do: Run.try_start(%{next | telemetry: args.telemetry}, default_timeout, call)
      end,
      next: &Run.next_or_failure/1,
      stop: &Run.stop/1
    }
  end

  defp args({:resume, id}, {:run, _input}, options, args) do
    opts = Codex.Retry.Options.check!(args.settings.retry_opts || [])
    # The thread has the images of the turn.
    options = %{options | attachments: [], turn_opts: Map.delete(options.turn_opts, :images)}
    again({:run, opts.resume_prompt}, options, id)
  end

  # The newest thread may be another one by now.
  defp args({:repeat, id}, what, %{thread: %{resume: :last}} = options, _args)
       when is_binary(id),
       do: again(what, options, id)

  defp args(_how, _what, _options, args), do: {:ok, args}

  defp again(what, options, id) do
    thread = options.thread || %{thread_opts: nil}
    thread = Map.merge(thread, %{thread_id: id, resume: nil, fork_of: nil})

    with {:error, reason} <- Args.build(what, %{options | thread: thread}) do
      error = Error.normalize(reason)
      message = "the next attempt cannot begin: #{error.message}"
      {:error, %TransportError{reason_code: error.kind, message: message}}
    end
  end
end
