defmodule Codex.Batch.Job do
  @moduledoc false
  # A job of a batch: the turn that is to run, checked as far as it can be without its transport.

  alias Codex.OptionError
  alias Codex.Options.{Schema, Table, Type}

  @enforce_keys [:index, :key, :prompt]
  defstruct [:index, :key, :prompt, :cwd, :timeout_ms, :node] ++
              [thread: [], turn: [], on: [], state: :queued]

  @typedoc """
    * `thread`, `turn` - options, unchecked: those of the batch first
    * `on` - the labels of the nodes that may run it; `node` - the one that does
    * `state` - what the journal knows of the job
  """
  @type t :: %__MODULE__{
          index: non_neg_integer(),
          key: term(),
          prompt: Codex.Input.t(),
          cwd: Path.t() | nil,
          timeout_ms: timeout() | nil,
          thread: keyword(),
          turn: keyword(),
          on: [{String.t(), term()}],
          node: node() | nil,
          state: state()
        }

  @typedoc "A job that has begun has its thread and another node, if these are known."
  @type state :: :queued | {:begun, String.t() | nil, node() | nil} | {:done, map()}

  @type options :: %{thread: [{term(), term()}], turn: [{term(), term()}]}

  @schema Schema.new([
            {:prompt, :any, "text or blocks, as `Codex.Thread.run/3` takes them",
             required: true, expected: "a string or a list of blocks"},
            {:key, :any, "names the job in results", shown: "its number, from 0"},
            {:cwd, :path, "the option `working_directory` of the thread"},
            {:options, :job_options,
             "options of the thread and the turn, which win over those " <>
               "of the batch",
             default: %{thread: [], turn: []},
             shown: "`[]`",
             expected: "options of a thread or a turn, as a map or keyword"},
            {:timeout_ms, :timeout, "the time limit of the job", shown: "that of the batch"},
            {:on, :labels, "the labels of the nodes that may run the job: `[repo: \"shop\"]`",
             expected: "labels, as a map or keyword"}
          ])

  # An option of both belongs to the thread, and an unknown one is reported there.
  @turn for(
          row <- Table.rows(:turn) -- Table.rows(:thread),
          name <- [row.name | row.opts[:also] || []],
          do: Atom.to_string(name)
        ) --
          for(
            row <- Table.rows(:thread),
            name <- [row.name | row.opts[:also] || []],
            do: Atom.to_string(name)
          )

  @doc "Returns the members of a job as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Returns the valid sources of jobs in words."
  @spec expected() :: String.t()
  def expected, do: "an enumerable of jobs"

  @doc """
  Makes a job of an element of the source. `base` are the options of the batch. An error has the key
  of the job.
  """
  @spec new(term(), non_neg_integer(), options()) ::
          {:ok, t()} | {:error, key :: term(), OptionError.t() | term()}
  def new(prompt, index, base) when is_binary(prompt), do: new(%{prompt: prompt}, index, base)
  def new({:error, reason}, index, _base), do: {:error, index, reason}

  def new(element, index, base) do
    case Schema.validate(@schema, element, &cast/2) do
      {:ok, job} ->
        cwd = if job.cwd, do: [working_directory: job.cwd], else: []

        {:ok,
         %__MODULE__{
           index: index,
           key: if(job.key == nil, do: index, else: job.key),
           prompt: job.prompt,
           cwd: job.cwd,
           timeout_ms: job.timeout_ms,
           on: job.on || [],
           thread: base.thread ++ cwd ++ job.options.thread,
           turn: base.turn ++ job.options.turn
         }}

      {:error, error} ->
        {:error, key(element, index), error}
    end
  end

  defp key(element, index) do
    with {:ok, pairs} <- Type.pairs(element),
         {_name, key} when key != nil <-
           Enum.find(pairs, fn {name, _} -> name in [:key, "key"] end),
         do: key,
         else: (_ -> index)
  end

  defp cast(:job_options, value), do: options(value)
  defp cast(:labels, value), do: labels(value)
  defp cast(_type, _value), do: :error

  @doc """
  Returns labels with strings as names.

      iex> Codex.Batch.Job.labels(repo: "shop", repo: "billing")
      {:ok, [{"repo", "shop"}, {"repo", "billing"}]}
      iex> Codex.Batch.Job.labels("shop")
      :error
  """
  @spec labels(term()) :: {:ok, [{String.t(), term()}]} | :error
  def labels(value) do
    with {:ok, pairs} <- Type.pairs(value) do
      labels = for {name, value} <- pairs, name = Type.name(name), do: {name, value}
      if length(labels) == length(pairs), do: {:ok, labels}, else: :error
    end
  end

  @doc """
  Splits options into those of the thread and those of the turn, and checks them. An option of both
  belongs to the thread.
  """
  @spec options(term()) :: {:ok, options()} | {:error, OptionError.t()} | :error
  def options(value) do
    with {:ok, pairs} <- Type.pairs(value),
         {turn, thread} = Enum.split_with(pairs, fn {name, _} -> Type.name(name) in @turn end),
         {:ok, _checked} <- Table.check(:thread, thread),
         {:ok, _checked} <- Table.check(:turn, turn),
         do: {:ok, %{thread: thread, turn: turn}}
  end
end
