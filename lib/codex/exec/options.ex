defmodule Codex.Exec.Options do
  @moduledoc """
  Options of one call of `Codex.Exec`.

    * `codex_opts` - a `Codex.Options` (required)
    * `thread` - a `Codex.Thread`: its options, and which thread to resume
    * `turn_opts` - options of the turn, see `Codex.Thread.run_turn/3`; those below win over them
    * `env`, `clear_env?`, `cancellation_token`, `timeout_ms`, `stream_idle_timeout_ms` - as in the options of a turn
    * `attachments` - images: paths, or maps with a `:path`
    * `output_schema_path` - file with the JSON schema of the answer
    * `tool_outputs`, `tool_failures` - accepted, not sent
    * `continuation_token` - the CLI has none any more: an error that names it
  """

  alias Codex.Options.Table

  # They hold an environment.
  @derive {Inspect, except: [:turn_opts]}
  @enforce_keys [:codex_opts]
  defstruct [
    :codex_opts,
    :thread,
    :output_schema_path,
    :run_token,
    turn_opts: %{},
    attachments: [],
    tool_outputs: [],
    tool_failures: []
  ]

  @type t :: %__MODULE__{
          codex_opts: Codex.Options.t(),
          thread: struct() | nil,
          turn_opts: map(),
          attachments: [Path.t()],
          output_schema_path: Path.t() | nil,
          tool_outputs: list(),
          tool_failures: list(),
          run_token: String.t() | nil
        }

  @type reason :: :missing_options | {:unsupported_option, atom()} | Table.reason()

  @own [
    :codex_opts,
    :thread,
    :output_schema_path,
    :turn_opts,
    :attachments,
    :tool_outputs,
    :tool_failures
  ]
  @turn [:env, :clear_env?, :cancellation_token, :timeout_ms, :stream_idle_timeout_ms]

  @doc """
  Checks options, given as map or keyword list.

  Errors: `:missing_options` (no `codex_opts`), `{:unsupported_option, :continuation_token}`, and those of the options
  of a turn.
  """
  @spec new(t() | map() | keyword()) :: {:ok, t()} | {:error, reason()}
  def new(%__MODULE__{} = options), do: {:ok, options}

  def new(attrs) when is_list(attrs),
    do:
      if(Keyword.keyword?(attrs),
        do: new(Map.new(attrs)),
        else: {:error, {:invalid_options, Table.first_odd(attrs)}}
      )

  def new(%{} = attrs) when not is_struct(attrs) do
    attrs = for {key, value} <- attrs, value != nil, into: %{}, do: {known(key), value}
    {own, rest} = Map.split(attrs, @own)
    {turn, rest} = Map.split(rest, @turn)

    with :ok <- check_codex_opts(own[:codex_opts]),
         :ok <- check_rest(Map.keys(rest)),
         :ok <- check_lists(own),
         {:ok, turn_opts} <- check_turn(own[:turn_opts]),
         {:ok, turn} <- former(Table.check(:turn, turn)),
         {:ok, %{images: images}} <- Table.check(:turn, images: own[:attachments] || []) do
      own = Map.merge(own, %{turn_opts: Map.merge(turn_opts, turn), attachments: images})
      {:ok, struct(__MODULE__, own)}
    end
  end

  def new(other), do: {:error, {:invalid_options, Codex.Options.Keywords.redacted(other)}}

  defp known(key), do: Enum.find(@own ++ @turn, key, &(Atom.to_string(&1) == key))

  defp check_codex_opts(%Codex.Options{}), do: :ok
  defp check_codex_opts(_), do: {:error, :missing_options}

  defp check_rest([]), do: :ok

  defp check_rest([key | _]) when key in [:continuation_token, "continuation_token"],
    do: {:error, {:unsupported_option, :continuation_token}}

  defp check_rest([key | _]),
    do: {:error, Codex.Options.Unknown.reason(key, @own ++ @turn)}

  defp check_lists(own) do
    Enum.find_value([:attachments, :tool_outputs, :tool_failures], :ok, fn key ->
      value = own[key]
      if value != nil and not is_list(value), do: {:error, {:invalid_list, key, value}}
    end)
  end

  # Here this option has its former name in the error.
  defp former({:error, {:invalid_timeout_ms, value}}), do: {:error, {:invalid_timeout, value}}
  defp former(result), do: result

  defp check_turn(nil), do: {:ok, %{}}
  defp check_turn(turn) when is_map(turn) or is_list(turn), do: Table.check(:turn, turn)
  defp check_turn(other), do: {:error, {:invalid_map, :turn_opts, other}}
end
