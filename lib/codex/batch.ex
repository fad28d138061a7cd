defmodule Codex.Batch do
  @moduledoc """
  Many turns, a few at a time: a lazy enumerable of `Codex.Batch.Result`.

      {:ok, batch} =
        Codex.Batch.new(
          ["Explain lib/a.ex", %{key: "b", prompt: "Explain lib/b.ex", cwd: "/srv/b"}],
          thread: [sandbox: :read_only],
          max_concurrency: 4
        )

      for result <- batch, do: IO.inspect({result.key, result.status, to_string(result.result)})

  `Codex.map/3` makes a batch of an enumerable and a function. `guides/many.md` shows batches with
  pools, budgets and journals.

  ## Jobs

  A job is a prompt, or a map or keyword list:

  #{Codex.Batch.Job.docs()}

  An element `{:error, reason}` of the source is a job that failed.

  The jobs come from any enumerable, which may be infinite. The process that reads the batch takes
  an element when a job can begin, so a million queued jobs cost no memory, and a slow reader slows
  the source down. While the source makes the reader wait, finished jobs wait, too.

  ## Reading

  Nothing runs before the batch is read. Each job runs its turn in a process of its own, which ends
  with the reader. A reader that stops early ends the running jobs. Reading twice runs the jobs
  twice, unless there is a journal.

  ## Options

  #{Codex.Batch.Options.docs()}

  ## Budget

  `budget` is a number of tokens, or a keyword list or map with `tokens` and `usd`. Tokens are the
  input and output tokens of the results, also of failed turns. Those of a failed turn of
  `codex exec` are read from its recorded thread: an ephemeral one has none. Money is an estimate by
  list prices, see `Codex.Sessions.Prices`: of the tokens of the result if the model is
  an option of the job, else of the recorded thread.

  When the budget is used up, no further job begins, and running jobs end. The next job, which did
  not run, is the last result. Its status is `:skipped`; its error has the kind `:usage_limit`, and
  `details.option` is `:budget`. The rest of the source is not read. A batch ends in the same way:

    * when the time of `total_timeout_ms` is over
    * when a job fails because the quota of the account is used up (kind `:quota`)
    * when there is no price for a job, and the budget is in money

  ## Rate limits

  When a job meets a rate limit of its account, all jobs wait until the limit resets, and then begin
  one after the other. This holds for all batches, and for all runs with
  `rate_limit_opts: [shared: true]`, of the account on all connected nodes; see "Rate limits" in
  `guides/errors.md`. Other accounts go on. A job that waits keeps its place among
  `max_concurrency`, and the wait counts for its time limits. `gate: false` turns this off.

  ## Journal

  With `journal: path`, the states of the jobs are in a file, so that a batch continues after a
  crash or a deploy: read the batch again with the same journal and the same jobs. The journal knows
  jobs by their keys, so name them if the order of the source can change.

    * A job that was done is not run again. Its result is returned once more, without events, and
      its usage counts for the budget. A turn that failed is done, too
    * A job that had not begun runs
    * A job that had begun is looked up in the home of the CLI (`Codex.Sessions`). A completed turn
      is done. A turn that did not end is reported or continued, as `on_interrupted` says. The SDK
      does not send its prompt again: if nothing is known, the job is `:uncertain`

  States are on the disk before they count: a prompt is sent after its job was noted as begun, and a
  result is returned after it was noted. The journal has prompts as digests, and answers as text.

  In a batch with `nodes`, the journal has the node of a job, and the job is looked up there.

  One batch at a time uses a journal; the file `path.lock` shows that it is in use. A damaged
  journal is repaired, with a warning in the log and the event `[:codex, :batch, :journal,
  :repaired]` about what was lost; then a job that was only queued is uncertain, too. Reading raises
  `Codex.Error` if the file is no journal, or cannot be used.
  ## Nodes

  With `nodes`, jobs run on connected nodes that have this package: on the node that runs the fewest
  of those that have the labels in `on` of the job. The option is

    * a list of nodes, or of `{node, labels}`: `[:"a@host", {:"b@host", repo: "shop"}]`
    * `{:group, name}`: the nodes on which `Codex.Batch.Node` runs, with its labels
    * a function that gets a map with `:key`, `:prompt`, `:cwd` and `:on` of a job, and returns a
      node or a list of nodes. The reader of the batch calls it, also repeatedly

  Prompts and options travel to the node. Paths are those of the node: the folder, the home and the
  CLI. Each node uses its own login: options that can hold a secret, such as `api_key`, `env` and
  `config`, are refused unless `send_secrets` names them. Functions and modules of approvals, hooks,
  host tools, `until`, `on_event` and `request_handler` do not travel: they are called on the node
  that reads the batch. So do `metadata` and `labels` of the thread stay. A pool or a connection is
  named by an atom, and each node has its own. A module of the option `output` is needed on all
  nodes.

  A job runs on one node. Its process there asks the reader's node before it sends the prompt, and
  ends when that node or the connection to it is lost. If the node of a job is lost:

    * before the job began, it moves to another node, or waits for one
    * otherwise it waits up to `node_wait_ms` for the return of the node, and is then looked up in
      the threads that the CLI has recorded there, as with a journal. If the node does not return,
      the job is `:uncertain`, with its node and thread. It never moves

  So each side of a split network knows about its jobs, and none runs twice.

  Nodes may have different versions of this package, as long as they have the same number of the
  protocol for jobs. Otherwise a node refuses jobs, with an error that names both versions.
  """

  alias Codex.Batch.{Job, Options, Report, Result, Run, Worker}
  alias Codex.OptionError
  alias Codex.Options.Type

  @enforce_keys [:jobs, :opts, :ref, :stopped]
  defstruct [:jobs, :opts, :ref, :stopped]

  @typedoc "A batch. Its fields are private, except the reference `ref` of telemetry events."
  @type t :: %__MODULE__{
          jobs: Enumerable.t(),
          opts: map(),
          ref: reference(),
          stopped: :atomics.atomics_ref()
        }

  @typedoc "A job: a prompt, or a map or keyword list. See above."
  @type job :: String.t() | map() | keyword() | {:error, term()}

  @doc """
  Makes a batch. Nothing runs.

  Options: see above. Returns `{:error, error}` with a `Codex.OptionError` for an invalid option.

      iex> {:error, error} = Codex.Batch.new([], max_concurency: 2)
      iex> Exception.message(error)
      "unknown option :max_concurency; did you mean :max_concurrency?"
      iex> {:ok, batch} = Codex.Batch.new([])
      iex> Enum.to_list(batch)
      []
  """
  @spec new(Enumerable.t(), keyword() | map()) :: {:ok, t()} | {:error, OptionError.t()}
  def new(jobs, opts \\ []) do
    with :ok <- enumerable(jobs, :jobs, Job.expected()),
         {:ok, opts} <- Options.new(opts) do
      {:ok, %__MODULE__{jobs: jobs, opts: opts, ref: make_ref(), stopped: :atomics.new(1, [])}}
    end
  end

  defp enumerable(source, name, expected) do
    if enumerable?(source),
      do: :ok,
      else: {:error, OptionError.argument(name, Type.kind(source), expected)}
  end

  defp enumerable?(source) when is_list(source), do: not List.improper?(source)
  defp enumerable?(source) when is_function(source), do: is_function(source, 2)
  defp enumerable?(source), do: Enumerable.impl_for(source) != nil

  @doc """
  Cancels a batch from any process of its node: no job begins any more, and running turns are
  interrupted. Their results have the status `:cancelled`.

  Returns `:ok` when no turn of the batch runs. The batch stays cancelled.
  """
  @spec cancel(t()) :: :ok
  def cancel(%__MODULE__{} = batch) do
    :ok = :atomics.put(batch.stopped, 1, 1)
    Enum.each(Worker.running(batch.ref), fn {pid, _key} -> Worker.stop(pid) end)
  end

  def cancel(other), do: OptionError.wrong!(:batch, other, "a Codex.Batch")

  @doc """
  Cancels the running jobs with this key, from any process of the node. The batch goes on.

  Returns `:ok`, or `{:error, :not_found}` if no such job runs.
  """
  @spec cancel(t(), term()) :: :ok | {:error, :not_found}
  def cancel(%__MODULE__{} = batch, key) do
    case for {pid, ^key} <- Worker.running(batch.ref), do: pid do
      [] -> {:error, :not_found}
      pids -> Enum.each(pids, &Worker.stop/1)
    end
  end

  def cancel(other, _key), do: OptionError.wrong!(:batch, other, "a Codex.Batch")

  @doc """
  Makes a report of results: of an enumerable of `Codex.Batch.Result`, or of the journal at a path.

  Results of a stream are read one after the other. A batch as the enumerable runs its jobs. A
  journal may belong to a batch that runs; `unfinished` of the report counts the jobs without a
  result.

      {:ok, report} = Codex.Batch.report("night.journal")
      :ok = Codex.Batch.Report.write(report, "night.html")

  Errors: a `Codex.Error` if the file is no journal or cannot be read, a `Codex.OptionError` for
  another argument or another element. An exception of the enumerable passes.

      iex> result = %Codex.Batch.Result{key: "a", index: 0, status: :ok}
      iex> {:ok, report} = Codex.Batch.report([result])
      iex> {report.jobs, report.counts}
      {1, %{ok: 1}}
  """
  @spec report(Enumerable.t() | Path.t()) ::
          {:ok, Report.t()} | {:error, Codex.Error.t() | OptionError.t()}
  def report(path) when is_binary(path), do: Report.of_journal(Path.expand(path))

  def report(results) do
    with :ok <-
           enumerable(results, :results, "an enumerable of results, or the path of a journal") do
      Enum.reduce_while(results, {:ok, Report.new()}, fn
        %Result{} = result, {:ok, report} ->
          {:cont, {:ok, Report.add(report, result)}}

        other, _report ->
          expected = "an enumerable of Codex.Batch.Result"
          {:halt, {:error, OptionError.argument(:results, Type.kind(other), expected)}}
      end)
    end
  end

  defimpl Enumerable do
    def reduce(batch, acc, fun), do: Run.reduce(batch, acc, fun)
    def count(_batch), do: {:error, __MODULE__}
    def member?(_batch, _result), do: {:error, __MODULE__}
    def slice(_batch), do: {:error, __MODULE__}
  end

  defimpl Inspect do
    # Options and jobs hold prompts and keys.
    def inspect(batch, opts) do
      shown = [max_concurrency: batch.opts.max_concurrency, ordered: batch.opts.ordered]
      Codex.ShortInspect.fields(Codex.Batch, shown, opts)
    end
  end
end
