defmodule Codex.Exec.Attempt do
  @moduledoc false
  # Starts the attempts of a run on `codex exec`: the first, a repetition or a resumption.

  alias Codex.Exec.{Args, Options, Run}
  alias Codex.Error
  alias Codex.Retry.Attempts

  @doc "Returns the source of a run. The first attempt runs with `args`."
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
    # The thread has the images already.
    options = %{options | attachments: [], turn_opts: Map.delete(options.turn_opts, :images)}
    again({:run, opts.resume_prompt}, options, id)
  end

  # Another thread may be the newest by now.
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
