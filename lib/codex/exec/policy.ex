defmodule Codex.Exec.Policy do
  @moduledoc false
  # What the options of a run say about failures, and how `codex exec` is run once more.

  alias Codex.Exec.{Args, Options, Run}
  alias Codex.{Error, RateLimit}
  alias Codex.Retry.{Attempts, Policy}

  @doc "The policy of a run, or nil where nothing is on."
  @spec of({:run | :review, term()}, Args.t()) :: Attempts.policy() | nil
  def of({what, _}, %Args{settings: settings, tokens: tokens}),
    do: Policy.of(settings, tokens, what, fn -> RateLimit.account(settings) end)

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
      stop: &Run.stop/1,
      about: args.about
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
      {:error, Error.new(error.kind, message)}
    end
  end
end
