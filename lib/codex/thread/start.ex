defmodule Codex.Thread.Start do
  @moduledoc false
  # Makes threads of options that are checked: for `Codex.start_thread/2` and the like, and for the
  # jobs of a batch.

  alias Codex.AppServer.ThreadParams
  alias Codex.Exec.Flags
  alias Codex.{Options, Thread}

  @type reason ::
          Codex.Reason.option() | Codex.Reason.output_schema() | Codex.AppServer.reason()

  @doc "Makes a thread. `extra` are the fields that say which one it is."
  @spec new(term(), term(), keyword()) :: {:ok, Thread.t()} | {:error, reason()}
  def new(opts, thread_opts, extra \\ []) do
    with {:ok, opts} <- Options.new(opts),
         {:ok, thread_opts} <- Thread.Options.new(thread_opts),
         :ok <- of_last(thread_opts, extra),
         :ok <- check(thread_opts.transport, opts, thread_opts) do
      {:ok, Thread.build(opts, thread_opts, extra)}
    end
  end

  defp of_last(%{resume_all: true}, extra) do
    if extra[:resume] == :last,
      do: :ok,
      else: {:error, {:unsupported_option, :resume_all, :not_last}}
  end

  defp of_last(_thread_opts, _extra), do: :ok

  # Options that the transport can never send are refused here, before the first turn.
  defp check(:exec, opts, thread_opts), do: Flags.check(opts, thread_opts)
  defp check(_connection, opts, thread_opts), do: ThreadParams.check(opts, thread_opts)
end
