defmodule Codex.Thread.Server.Options do
  @moduledoc false
  # The options of a thread server, and the thread that they describe.

  alias Codex.Error
  alias Codex.Hooks.Unreachable
  alias Codex.OptionError
  alias Codex.Options.{Merge, Schema, Type}
  alias Codex.Thread
  alias Codex.Thread.Server.Saved
  alias Codex.Thread.Start

  # The time for an answer of a person.
  @answer_ms 600_000

  @schema Schema.new(
            [
              {:name, :server_name,
               "the registered name of the server; `{:global, term}` for a cluster",
               expected: "a name of a process, as GenServer takes it"},
              {:client, :client, "the client of the thread, see `Codex.Options`",
               default: [], expected: "options of a client"},
              {:thread, :thread,
               "the options of the thread, see `Codex.Thread.Options`; `transport` is one of them",
               default: [], expected: "options of a thread"},
              {:resume, :thread_id, "continues this thread",
               expected: "the id or name of a thread, or :last"},
              {:state, :state,
               "keeps the id of the thread, so that the next server continues it: see *After a " <>
                 "crash*",
               expected: "the path of a file, or `{load, save}` with functions of arity 0 and 1"},
              {:approvals, {:one_of, [:thread, :followers]},
               "who is asked: the functions among the options of the thread, or the followers",
               default: :thread},
              {:queue, {:integer, 0, 10_000}, "the most turns that wait while one runs",
               default: 0},
              {:idle_ms, :timeout,
               "the server stops when no turn has run and no function was called for this time",
               default: 900_000},
              {:buffer_events, :positive, "the most entries that are kept for followers",
               default: 2_000},
              {:buffer_bytes, :bytes, "the most bytes of these entries, as external terms",
               default: 1_048_576}
            ],
            places: true
          )

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc """
  Checks the options, loads the state, and makes the thread. The result has the `thread` instead of
  its options.
  """
  @spec new(term()) :: {:ok, map()} | {:error, Start.reason() | Error.t()}
  def new(options) do
    with {:ok, opts} <- Schema.validate(@schema, options, &cast/2),
         {:ok, client} <- Codex.Options.new(opts.client),
         {:ok, thread_opts} <- thread(opts),
         :ok <- policy(opts.approvals, thread_opts),
         {:ok, id} <- Saved.load(opts.state),
         {:ok, thread} <- Start.new(client, thread_opts, which(id, opts.resume)) do
      :ok = thread.codex_opts |> Merge.merge(thread.thread_opts, %{}) |> Unreachable.warn()
      {:ok, %{opts | client: nil, thread: thread}}
    end
  end

  defp which(id, _resume) when is_binary(id), do: [thread_id: id]
  defp which(nil, nil), do: []
  defp which(nil, :last), do: [resume: :last]
  defp which(nil, id), do: [thread_id: id]

  defp thread(%{thread: %Thread.Options{} = given}), do: {:ok, given}
  defp thread(%{thread: given, approvals: :thread}), do: Thread.Options.new(given)

  defp thread(%{thread: given}),
    do: Thread.Options.new([{:approval_timeout_ms, @answer_ms} | given])

  # Either the followers or a function is asked.
  defp policy(:followers, thread_opts) do
    names = [:approval_policy, :approval_hook, :request_handler]

    case Enum.find(names, &(Map.fetch!(thread_opts, &1) != nil)) do
      nil ->
        :ok

      name ->
        value = Map.fetch!(thread_opts, name)
        expected = "left out with approvals: :followers, which asks the followers"
        {:error, [:thread, name] |> OptionError.invalid(value, expected) |> OptionError.redact()}
    end
  end

  defp policy(:thread, _thread_opts), do: :ok

  defp cast(:client, value) do
    with {:error, %{reason: :not_options}} <- Codex.Options.new(value), do: :error
  end

  defp cast(:thread, %Thread.Options{} = value), do: Thread.Options.new(value)

  defp cast(:thread, value) do
    with {:ok, pairs} <- Type.pairs(value),
         {:ok, _checked} <- Thread.Options.new(pairs),
         do: {:ok, pairs}
  end

  defp cast(:thread_id, :last), do: {:ok, :last}

  defp cast(:thread_id, id),
    do: if(is_binary(id) and id != "" and String.valid?(id), do: {:ok, id}, else: :error)

  defp cast(:state, {load, save}) when is_function(load, 0) and is_function(save, 1),
    do: {:ok, {load, save}}

  defp cast(:state, path), do: Type.cast(:path, path)

  # A name on another node cannot be registered.
  defp cast(:server_name, {:global, _term} = name), do: {:ok, name}
  defp cast(:server_name, {:via, module, _term} = name) when is_atom(module), do: {:ok, name}

  defp cast(:server_name, name) when is_atom(name) and name not in [nil, true, false],
    do: {:ok, name}

  defp cast(_type, _value), do: :error
end
