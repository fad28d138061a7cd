defmodule Codex.Telemetry.Table do
  @moduledoc false
  # Every event that the SDK emits, once: its documentation comes from here, and tests hold what is emitted against it.
  #
  # A row: name (without the prefix), what happened, measurements, metadata.

  @spent [:system_time, :duration, :duration_ms]
  @turn [:lane, :originator, :span_token, :thread_id, :turn_id]
  @tool @turn ++ [:tool, :server, :call_id, :item_type]

  @request [:lane, :originator, :method, :thread_id]
  @approval [:lane, :originator, :method, :tool, :call_id, :thread_id, :turn_id]

  @rows [
    {[:thread, :start], "a turn begins: the first attempt of a run, when it is first read",
     [:system_time], @turn},
    {[:thread, :stop],
     "a turn has ended, or its reader went away. `result` is `:ok`, `:error` (the CLI ended it with a failure: `error` has its kind and message) or `:early_exit`",
     @spent, @turn ++ [:result, :early_exit?, :error, :attempts, :usage]},
    {[:thread, :exception],
     "the CLI was lost before it ended the turn, or could not be started. `reason` is a `Codex.Error`",
     @spent, @turn ++ [:result, :reason, :attempts]},
    {[:thread, :token_usage, :updated],
     "the CLI told the usage. `usage` is the thread's running total, `delta` this turn's, or nil where it is not known",
     [:system_time], @turn ++ [:usage, :delta]},
    {[:turn, :diff, :updated], "the turn's changes to files are others now (app-server)",
     [:system_time], @turn},
    {[:turn, :compaction, :started],
     "the conversation is being made shorter (app-server). `compaction` is what is told of it",
     [:system_time, :token_savings], @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :completed], "it is shorter now", [:system_time, :token_savings],
     @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :failed], "it is not", [:system_time, :token_savings],
     @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :unknown], "something else is told of that",
     [:system_time, :token_savings], @turn ++ [:compaction, :stage]},
    {[:process, :start], "a process of the CLI is up", [:system_time], @turn ++ [:os_pid]},
    {[:process, :stop],
     "it has ended. `dropped_stderr_bytes` is what did not fit into the tail that is kept",
     @spent, @turn ++ [:os_pid, :exit_status, :signal, :dropped_stderr_bytes]},
    {[:item, :started], "an item of the turn has begun", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:item, :updated], "it has changed", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:item, :completed], "it is complete; most items are told only then", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:tool, :start],
     "Codex uses a tool: `tool` is `\"command\"`, `\"apply_patch\"`, `\"web_search\"`, or the name of an MCP server's (`server`) or an agent's",
     [:system_time], @tool},
    {[:tool, :success], "it has ended well. `duration` is nil where its beginning was not told",
     @spent, @tool ++ [:result]},
    {[:tool, :failure], "it has failed, or was declined", @spent,
     @tool ++ [:result, :error, :exit_code]},
    {[:request, :start], "a request goes to an app-server", [:system_time], @request},
    {[:request, :stop],
     "it has its answer, or will have none. `result` is `:ok` or `:error`, `error` what was answered instead",
     @spent, @request ++ [:result, :error]},
    {[:approval, :requested],
     "an app-server asks whether it may: `tool` is `\"command\"`, `\"apply_patch\"`, `\"permissions\"` or the name of a tool; or `Codex.Approvals.review_tool/4` is asked (`lane` and `method` are nil)",
     [:system_time], @approval},
    {[:approval, :approved], "it may", @spent, @approval},
    {[:approval, :denied],
     "it may not. `reason` is the word of the answer, `:nobody` where nobody could give one, or `:down` where the connection is lost",
     @spent, @approval ++ [:reason]},
    {[:approval, :timeout], "nobody answered in time, which means no", @spent, @approval},
    {[:retry, :attempt],
     "an attempt of a call with `retry` or `rate_limit` on has ended; from `Codex.Retry` as well. " <>
       "`delay_ms` is the wait that follows. `outcome` is `:ok`, `:retry` (another follows) or " <>
       "`:error`; `mode` is the next attempt's: `:repeat`, `:resume` or nil",
     [:system_time, :duration, :delay_ms],
     [:attempt, :max_attempts, :outcome, :reason, :kind, :mode]},
    {[:rate_limit, :rate_limited],
     "a limit was hit. `info` as in `Codex.RateLimit.detect/1`; `attempt` counts the limited " <>
       "attempts of this call, and is 0 if the limit was known before the first", [:system_time],
     [:delay_ms, :attempt, :info]}
  ]

  # Only where it was asked for.
  @content %{
    [:thread, :start] => [:input],
    [:turn, :diff, :updated] => [:diff],
    [:item, :started] => [:item],
    [:item, :updated] => [:item],
    [:item, :completed] => [:item],
    [:tool, :start] => [:arguments],
    [:tool, :success] => [:arguments, :output],
    [:tool, :failure] => [:arguments, :output]
  }

  @doc "Names of all events, without their prefix."
  @spec names() :: [[atom(), ...]]
  def names, do: for({name, _, _, _} <- @rows, do: name)

  @doc "Keys of measurements and metadata of an event, and of what is added with its content."
  @spec keys([atom(), ...]) :: {[atom()], [atom()], [atom()]} | nil
  def keys(name) do
    with {_, _, measurements, metadata} <- List.keyfind(@rows, name, 0),
         do: {measurements, metadata, @content[name] || []}
  end

  @doc "The table as Markdown."
  @spec docs() :: String.t()
  def docs do
    rows =
      for {name, doc, measurements, metadata} <- @rows do
        more = for key <- @content[name] || [], do: "`#{key}` (content)"
        metadata = Enum.map(short(metadata), &words/1) ++ more

        "| `#{inspect([:codex | name])}` | #{doc} | #{Enum.map_join(measurements, ", ", &words/1)} | #{Enum.join(metadata, ", ")} |\n"
      end

    "| event | when | measurements | metadata |\n| --- | --- | --- | --- |\n" <> Enum.join(rows)
  end

  # What every event of a turn has is said once.
  defp short(metadata) do
    if Enum.take(metadata, length(@turn)) == @turn,
      do: [:turn | Enum.drop(metadata, length(@turn))],
      else: metadata
  end

  defp words(:turn), do: "those of a turn"
  defp words(key), do: "`#{key}`"
end
