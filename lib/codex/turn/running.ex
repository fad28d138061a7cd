defmodule Codex.Turn.Running do
  @moduledoc """
  A turn that runs on this node: `Codex.running/0` lists them, `Codex.stop/1` ends one. A job that a
  batch runs on another node is in the lists of both nodes.

    * `ref` - names the run; retries of it have the same
    * `pid` - the process that reads the turn. The entry vanishes with it
    * `thread_id` - nil until the CLI has named the thread
    * `kind` - `:turn` or `:review`
    * `transport` - `:exec`, `{:app_server, conn}` or `{:pool, name}`
    * `cwd` - the option `working_directory`, nil if it is the VM's own
    * `started_at` - when the run began, as a `DateTime` in UTC
  """

  alias Codex.Options.Type

  @registry Codex.Turn.Registry

  @enforce_keys [:ref, :pid, :kind, :transport, :started_at]
  defstruct [:ref, :pid, :thread_id, :thread_ref, :kind, :transport, :cwd, :started_at]

  @typedoc "A turn that runs. Fields: see above."
  @type t :: %__MODULE__{
          ref: reference(),
          pid: pid(),
          thread_id: String.t() | nil,
          thread_ref: reference() | nil,
          kind: :turn | :review,
          transport: :exec | {:app_server | :pool, GenServer.server()},
          cwd: Path.t() | nil,
          started_at: DateTime.t()
        }

  @typedoc false
  @type about :: map()

  @typedoc "The names of a run; a thread has its id and its `ref`."
  @type target ::
          t()
          | reference()
          | pid()
          | String.t()
          | {:thread, String.t() | nil, reference() | nil}

  @doc false
  @spec about(term(), struct() | map() | nil, {:run | :review, term()}, map()) :: about()
  def about(transport, thread, {what, _input}, settings) do
    %{
      thread_id: thread && thread.thread_id,
      thread_ref: thread && Map.get(thread, :ref),
      kind: if(what == :review, do: :review, else: :turn),
      transport: transport,
      cwd: settings.working_directory
    }
  end

  @doc false
  # Enters a run of this process in the list.
  @spec begin(reference(), about()) :: :ok
  def begin(ref, about) do
    more = %{ref: ref, pid: self(), started_at: DateTime.utc_now()}
    {:ok, _} = Registry.register(@registry, ref, struct!(__MODULE__, Map.merge(about, more)))
    :ok
  end

  @doc false
  # The CLI has named the thread of a run of this process.
  @spec begun(reference(), String.t()) :: :ok
  def begun(ref, thread_id) do
    _ = Registry.update_value(@registry, ref, &%{&1 | thread_id: thread_id})
    :ok
  end

  @doc false
  @spec finish(reference()) :: :ok
  def finish(ref), do: Registry.unregister(@registry, ref)

  @doc false
  @spec list() :: [t()]
  def list do
    :ok = Codex.Started.check!()

    @registry
    |> Registry.select([{{:_, :_, :"$1"}, [], [:"$1"]}])
    |> Enum.sort_by(& &1.started_at, DateTime)
  end

  @doc false
  # The id of a thread, also of a value from before its first turn, while that runs.
  @spec thread_id(struct()) :: String.t() | nil
  def thread_id(%{thread_id: nil, ref: ref}) when ref != nil,
    do: Enum.find_value(list(), &(&1.thread_ref == ref && &1.thread_id))

  def thread_id(thread), do: thread.thread_id

  @doc false
  @spec find(target()) :: [t()]
  def find(target), do: Enum.filter(list(), wanted(target))

  defp wanted(%__MODULE__{ref: ref}), do: wanted(ref)
  defp wanted(ref) when is_reference(ref), do: &(&1.ref == ref)
  defp wanted(pid) when is_pid(pid), do: &(&1.pid == pid)
  defp wanted(id) when is_binary(id), do: &(&1.thread_id == id)

  defp wanted({:thread, id, ref}),
    do: &((id != nil and &1.thread_id == id) or (ref != nil and &1.thread_ref == ref))

  defp wanted(other) do
    raise ArgumentError,
          "expected a Codex.Turn.Running, its ref, a Codex.Thread, a thread id or the pid of " <>
            "the reader, got: #{Type.kind(other)}"
  end
end
