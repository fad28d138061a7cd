defmodule Codex.Batch.Options do
  @moduledoc false
  # The options of a batch.

  alias Codex.Batch.{Budget, Job, Placement, Travel}
  alias Codex.{OptionError, Sessions}
  alias Codex.Options.{Cast, Schema, Type}

  @schema Schema.new(
            [
              {:client, :client, "the client of all jobs, see `Codex.Options`",
               default: [],
               shown: "`[]`",
               expected: "the options of `Codex.start_thread/2`: its first argument"},
              {:thread, :job_options, "options of threads and turns, for all jobs",
               default: %{thread: [], turn: []},
               shown: "`[]`",
               expected: "options of a thread or a turn, as a map or keyword"},
              {:pool, :server, "the `Codex.Pool` that runs the turns: `transport: {:pool, name}`",
               expected: "the name or the pid of a pool"},
              {:max_concurrency, {:integer, 1, 10_000}, "the most jobs that run at once",
               default: 4},
              {:ordered, :boolean,
               "whether results come in the order of the jobs. Then at most " <>
                 "`10 * max_concurrency` finished results wait for an earlier job",
               default: true},
              {:timeout_ms, :timeout,
               "the time limit of a job, with its waits and attempts: `total_timeout_ms` of its " <>
                 "turn", shown: "that of the turn"},
              {:total_timeout_ms, :timeout, "the time limit of the batch, from the first read"},
              {:retry, :retry, "the option `retry` of the turns",
               expected: "a boolean or `:resume`"},
              {:retry_opts, :retry_opts, "the option `retry_opts` of the turns",
               expected: "a map or keyword of the options of `Codex.Retry`"},
              {:gate, :boolean,
               "whether a rate limit stops all jobs until it resets: `rate_limit: true` with " <>
                 "`rate_limit_opts: [shared: true, max_wait_ms: :infinity]` and no limit of " <>
                 "attempts, unless the options of the thread or the job name others",
               default: true},
              {:budget, :budget, "the most tokens or money that the batch spends, see above",
               expected: "a positive number of tokens, or a map or keyword with tokens and usd"},
              {:prices, :map,
               "other prices: `%{\"model\" => {input, cached_input, output}}` in dollars per " <>
                 "million tokens", shown: "`Codex.Sessions.Prices`"},
              {:journal, :path, "a file for the states of the jobs, see below"},
              {:on_interrupted, {:one_of, [:report, :resume]},
               "what happens to a job whose turn was interrupted by a crash: `:report` makes it " <>
                 "`:uncertain`, `:resume` continues its thread with the prompt \"Continue.\"",
               default: :report},
              {:nodes, :nodes, "the nodes that run the jobs, see below",
               shown: "the node that reads the batch",
               expected:
                 "a list of nodes and `{node, labels}`, `{:group, name}`, or a function of a job"},
              {:max_per_node, {:integer, 1, 10_000}, "the most jobs that run at once on a node",
               shown: "`max_concurrency`"},
              {:node_wait_ms, :timeout,
               "how long a job waits for a node that may run it, and for the return of a node " <>
                 "that was lost while it ran", default: 60_000},
              {:send_secrets, :secrets,
               "options that can hold a secret, and are sent to other nodes all the same, such " <>
                 "as `[:env]`",
               default: [],
               shown: "`[]`",
               expected: "a list of options that can hold a secret, such as :env and :config"},
              {:progress, :boolean,
               "prints a line about the batch to stderr while it runs, if stderr is a terminal",
               default: false}
            ],
            places: true
          )

  # The limits end at some time, and the time of a job or of the batch has a limit of its own.
  @gate [
    rate_limit: true,
    rate_limit_opts: [shared: true, max_wait_ms: :infinity, max_attempts: 0xFFFFFFFF]
  ]

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks the options of a batch. Options of the turns are merged into those of the jobs."
  @spec new(term()) :: {:ok, map()} | {:error, OptionError.t()}
  def new(opts) do
    with {:ok, opts} <- Schema.validate(@schema, opts, &cast/2),
         :ok <- Sessions.Prices.check(opts.prices),
         {:ok, client} <- client(opts.client),
         opts = %{opts | client: client, thread: turn(opts)},
         :ok <- travels(opts),
         do: {:ok, opts}
  end

  defp travels(%{nodes: nil}), do: :ok

  defp travels(opts) do
    with :ok <- Travel.check(opts.client, opts.send_secrets),
         :ok <- named(opts.pool),
         do: Travel.check(opts.thread.thread ++ opts.thread.turn, :thread, opts.send_secrets)
  end

  # Each node has a pool of this name.
  defp named(pool) when is_atom(pool), do: :ok

  defp named(pool),
    do: {:error, OptionError.invalid(:pool, Type.kind(pool), "an atom beside :nodes")}

  defp client(%Codex.Options{} = client), do: {:ok, client}
  defp client([]), do: Codex.Options.new([])

  defp turn(opts) do
    more = for name <- [:retry, :retry_opts], opts[name] != nil, do: {name, opts[name]}
    pool = if opts.pool != nil, do: [transport: {:pool, opts.pool}], else: []
    gate = if opts.gate, do: @gate, else: []
    %{thread: gate ++ opts.thread.thread ++ pool, turn: more ++ opts.thread.turn}
  end

  defp cast(:client, value) do
    with {:error, %{reason: :not_options}} <- Codex.Options.new(value), do: :error
  end

  defp cast(:server, value), do: if(Type.server?(value), do: {:ok, value}, else: :error)
  defp cast(:job_options, value), do: Job.options(value)
  defp cast(:budget, value), do: Budget.cast(value)
  defp cast(:nodes, value), do: Placement.nodes(value)

  defp cast(:secrets, value) do
    if is_list(value) and not List.improper?(value) and value -- Travel.secrets() == [],
      do: {:ok, value},
      else: :error
  end

  defp cast(type, value), do: Cast.cast(type, value)
end
