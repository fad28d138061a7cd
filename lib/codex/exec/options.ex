defmodule Codex.Exec.Options do
  @moduledoc """
  Options of one call of `Codex.Exec`.

    * `codex_opts` - a `Codex.Options` (required)
    * `thread` - a `Codex.Thread`: its options, and the thread to resume
    * `turn_opts` - options of the turn, see `Codex.Thread.run_turn/3`; those below win over them
    * `env`, `clear_env?`, `cancellation_token`, `timeout_ms`, `stream_idle_timeout_ms` - as in the
      options of a turn
    * `attachments` - images: paths, or maps with a `:path`
    * `output_schema_path` - file with the JSON schema of the answer
    * `tool_outputs`, `tool_failures` - accepted, not sent
  """

  alias Codex.OptionError
  alias Codex.Options.{Cast, Rows, Schema, Table}

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

  @typedoc "Options of one call."
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

  @typedoc "The reason of invalid options."
  @type reason :: :missing_options | OptionError.t()

  @turn [:env, :clear_env?, :cancellation_token, :timeout_ms, :stream_idle_timeout_ms]

  @schema Schema.new(
            [
              {:codex_opts, :client, "a `Codex.Options` (required)",
               expected: "a `Codex.Options`", secret: true},
              {:thread, :thread, "a `Codex.Thread`: its options, and the thread to resume",
               expected: "a `Codex.Thread`", secret: true},
              {:turn_opts, :turn_opts,
               "options of the turn, see `Codex.Thread.run_turn/3`; the options below override them",
               expected: "a map or keyword"},
              {:attachments, {:list, :image}, "images: paths, or maps with a `:path`",
               expected: "a list of paths, or of maps with a `:path`"},
              {:output_schema_path, :path, "file with the JSON schema of the answer"},
              {:tool_outputs, {:list, :any}, "accepted, not sent", expected: "a list"},
              {:tool_failures, {:list, :any}, "accepted, not sent", expected: "a list"}
            ] ++ for({name, _, _, _} = row <- Rows.of(:turn), name in @turn, do: row),
            places: true
          )

  @doc """
  Checks options, given as map or keyword list.

  Errors: `:missing_options` (no `codex_opts`), or a `Codex.OptionError`.
  """
  @spec new(t() | map() | keyword()) :: {:ok, t()} | {:error, reason()}
  def new(%__MODULE__{} = options), do: {:ok, options}

  def new(attrs) do
    with {:ok, set} <- Schema.set(@schema, attrs, &cast/2),
         %{codex_opts: _client} <- set do
      {turn, own} = Map.split(set, @turn)
      {:ok, struct(__MODULE__, Map.update(own, :turn_opts, turn, &Map.merge(&1, turn)))}
    else
      {:error, error} -> {:error, error}
      _set -> {:error, :missing_options}
    end
  end

  # An error inside is that of the option of the turn.
  defp cast(:turn_opts, value) do
    with {:error, %{reason: :not_options}} <- Table.check(:turn, value), do: :error
  end

  defp cast(:client, %Codex.Options{} = options), do: Codex.Options.new(options)

  # A `Codex.Thread`, which this area does not name.
  defp cast(:thread, %_{codex_opts: _, thread_opts: %_{}, thread_id: _} = thread),
    do: {:ok, thread}

  defp cast(type, value), do: Cast.cast(type, value)
end
