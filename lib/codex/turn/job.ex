defmodule Codex.Turn.Job do
  @moduledoc false
  # A turn that is to run: the task, the thread, and the options of client, thread and turn, merged.

  alias Codex.Options.Merge
  alias Codex.Review.Target
  alias Codex.Schema.Strict
  alias Codex.Telemetry.Trace

  @enforce_keys [:task, :settings]
  defstruct [
    :task,
    :settings,
    :thread,
    :plan,
    :module,
    :last?,
    :hook,
    mode: :blocking,
    transport: :exec,
    tokens: [],
    history: [],
    turn_opts: %{}
  ]

  @typedoc """
    * `task` - an input, `:continue` for a turn without new input, or the target of a review
    * `settings` - the options, merged (`Codex.Options.Merge`)
    * `thread` - nil if `Codex.Exec` runs without one
    * `plan` - the data that the transport sends
    * `module` - the `Codex.Turn.Transport`
    * `last?` - nil, or a function that returns whether no further turn may begin
    * `hook` - nil, or a function that is called before an attempt is sent, with `:begin`, and when
      the CLI has named the thread, with `{:thread, id}`. An error of the first one fails the
      attempt
    * `mode` - see `Codex.Turn.Driver`
    * `tokens` - any of these cancels the turn
    * `history` - response items that a new thread begins with
    * `turn_opts` - the options of the turn alone
  """
  @type t :: %__MODULE__{
          task: {:run, Codex.Input.t() | :continue} | {:review, Codex.Review.target()},
          settings: map(),
          thread: struct() | nil,
          plan: term(),
          module: module() | nil,
          last?: (... -> boolean()) | nil,
          hook: (:begin | {:thread, String.t()} -> :ok | {:error, Codex.Error.t()}) | nil,
          mode: Codex.Turn.Driver.mode(),
          transport: :exec | {:app_server | :pool, GenServer.server()},
          tokens: [String.t()],
          history: [map()],
          turn_opts: map()
        }

  @type reason ::
          Codex.Reason.option() | Codex.Reason.review_target() | Codex.Reason.output_schema()

  @doc "Merges the options of a turn and checks the rules of all transports."
  @spec new(tuple(), Codex.Options.t(), struct() | nil, map(), keyword()) ::
          {:ok, t()} | {:error, reason()}
  def new(task, client, thread, turn_opts, more \\ []) do
    with {:ok, turn_opts} <- output(turn_opts),
         {:ok, settings} <- Merge.settings(client, thread && thread.thread_opts, turn_opts),
         settings = Map.merge(settings, %{output_schema_path: more[:output_schema_path]}),
         settings = %{settings | images: (more[:images] || []) ++ settings.images},
         settings = %{settings | trace: Trace.of_run(settings.trace, settings.env)},
         transport = if(thread, do: thread.transport, else: :exec),
         :ok <- check(task, settings),
         :ok <- storable(settings),
         :ok <- repairable(settings, transport) do
      {:ok,
       %__MODULE__{
         task: task,
         settings: settings,
         thread: thread,
         transport: transport,
         hook: more[:hook],
         tokens: List.wrap(settings.cancellation_token) ++ List.wrap(more[:run_token]),
         history: more[:history] || [],
         turn_opts: turn_opts
       }}
    end
  end

  # The schema for decoding, and its strict form for the provider.
  defp output(%{output: source, output_schema: schema}) when source != nil and schema != nil,
    do: {:error, {:unsupported_option, :output_schema, :output}}

  defp output(%{output: source} = turn_opts) when source != nil do
    with {:ok, schema, strict} <- Codex.Schema.compile(source),
         do: {:ok, Map.merge(turn_opts, %{output: schema, output_schema: Strict.ordered(strict)})}
  end

  defp output(turn_opts), do: {:ok, turn_opts}

  defp check({:review, target}, settings) do
    with :ok <- Target.form(target) do
      case Enum.find([:images, :output, :until], &(settings[&1] not in [nil, []])) do
        nil -> :ok
        option -> {:error, {:unsupported_option, option}}
      end
    end
  end

  defp check({:run, _input}, %{output: schema, output_schema_path: path})
       when schema != nil and path != nil,
       do: {:error, {:unsupported_option, :output_schema_path, :output}}

  defp check({:run, _input}, _settings), do: :ok

  # There is no session file here.
  defp storable(%{session_store: nil}), do: :ok

  defp storable(%{ephemeral: true}),
    do: {:error, {:unsupported_option, :session_store, :ephemeral}}

  defp storable(%{remote: remote}) when remote != nil,
    do: {:error, {:unsupported_option, :session_store, :remote}}

  defp storable(_settings), do: :ok

  # A further turn runs in the same thread.
  defp repairable(%{repair: 0}, _transport), do: :ok

  defp repairable(%{output: nil}, _transport),
    do: {:error, {:unsupported_option, :repair, :no_output}}

  # `codex exec` resumes no ephemeral thread, and none with `--worktree`.
  defp repairable(settings, :exec) do
    case Enum.find([:ephemeral, :worktree], &(settings[&1] == true)) do
      nil -> :ok
      option -> {:error, {:unsupported_option, :repair, option}}
    end
  end

  defp repairable(_settings, _transport), do: :ok

  @doc "Calls the hook of a job."
  @spec notify(t(), :begin | {:thread, String.t()}) :: :ok | {:error, Codex.Error.t()}
  def notify(%{hook: nil}, _what), do: :ok
  def notify(%{hook: hook}, what), do: hook.(what)

  @doc "Returns the job that continues a thread, without data that the thread has already."
  @spec resume(t(), String.t(), String.t()) :: t()
  def resume(job, thread_id, prompt) do
    job = repeat(job, thread_id)
    %{job | task: {:run, prompt}, settings: %{job.settings | images: []}}
  end

  @doc "Returns the same job in a thread that is known by now."
  @spec repeat(t(), String.t()) :: t()
  def repeat(job, thread_id) do
    thread = job.thread || %{thread_id: nil}
    %{job | thread: Map.merge(thread, %{thread_id: thread_id, resume: nil, fork_of: nil})}
  end
end
