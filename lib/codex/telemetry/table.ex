defmodule Codex.Telemetry.Table do
  @moduledoc false
  # The events that the SDK emits. Their documentation is generated from these rows, and tests
  # compare emitted events with them.
  #
  # A row: name (without the prefix), meaning, measurements, metadata.

  @spent [:system_time, :duration, :duration_ms]
  @turn [:lane, :originator, :span_token, :thread_id, :turn_id]
  @tool @turn ++ [:tool, :server, :call_id, :item_type]

  @request [:lane, :originator, :method, :thread_id]
  @approval [:lane, :originator, :method, :tool, :call_id, :thread_id, :turn_id]

  @job [:originator, :batch, :key, :index, :node]

  @rows [
    {[:thread, :start],
     "a turn begins: the first attempt of a run, when it is first read. `model` is the option " <>
       "`model`, or nil", [:system_time], @turn ++ [:model]},
    {[:thread, :stop],
     "a turn ended, or its reader stopped. `result` is `:ok`, `:error` (the CLI reported a " <>
       "failure: `error` has its kind and message) or `:early_exit`", @spent,
     @turn ++ [:result, :early_exit?, :error, :attempts, :usage]},
    {[:thread, :exception],
     "the CLI could not be started, or ended without ending the turn. `reason` is a `Codex.Error`",
     @spent, @turn ++ [:result, :reason, :attempts]},
    {[:thread, :token_usage, :updated],
     "the CLI reported the usage. `usage` is the thread's running total, `delta` this turn's " <>
       "(nil if it is not known)", [:system_time], @turn ++ [:usage, :delta]},
    {[:turn, :diff, :updated], "the turn's changes to files changed (app-server)", [:system_time],
     @turn},
    {[:turn, :compaction, :started],
     "a compaction of the conversation started (app-server). `compaction` has the CLI's data",
     [:system_time, :token_savings], @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :completed], "the compaction succeeded", [:system_time, :token_savings],
     @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :failed], "the compaction failed", [:system_time, :token_savings],
     @turn ++ [:compaction, :stage]},
    {[:turn, :compaction, :unknown], "the compaction has an unknown state",
     [:system_time, :token_savings], @turn ++ [:compaction, :stage]},
    {[:process, :start], "a process of the CLI started", [:system_time], @turn ++ [:os_pid]},
    {[:process, :stop],
     "the process ended. `dropped_stderr_bytes` counts the bytes of stderr that were not kept",
     @spent, @turn ++ [:os_pid, :exit_status, :signal, :dropped_stderr_bytes]},
    {[:tee, :stop],
     "the files of a run with the option `tee` are complete. `error` is nil, or why writing ended",
     @spent ++ [:bytes, :dropped_bytes], [:originator, :path, :error]},
    {[:tui, :start],
     "an interactive session of the CLI started (`Codex.CLI.Session`). `command` is " <>
       "`\"start\"`, `\"resume\"` or `\"fork\"`", [:system_time],
     [:originator, :command, :os_pid]},
    {[:tui, :stop], "the session ended, and its owner got its exit", @spent,
     [:originator, :command, :os_pid, :exit_status, :signal]},
    {[:item, :started], "an item of the turn started", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:item, :updated], "the item changed", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:item, :completed], "the item is complete; most items have only this event", [:system_time],
     @turn ++ [:item_id, :item_type, :status]},
    {[:tool, :start],
     ~S(the agent uses a tool: `tool` is `"command"`, `"apply_patch"`, `"web_search"`, or ) <>
       "the name of a tool of an MCP server (`server`) or of an agent", [:system_time], @tool},
    {[:tool, :success], "the tool succeeded. `duration` is nil if there was no start event",
     @spent, @tool ++ [:result]},
    {[:tool, :failure], "the tool failed, or was declined", @spent,
     @tool ++ [:result, :error, :exit_code]},
    {[:tool, :output_cut],
     "a host tool (`Codex.Tool`) returned more than the CLI passes to the model, which leaves " <>
       "out the middle. `bytes` is the size of the output", [:system_time, :bytes, :limit],
     [:originator, :tool, :call_id, :thread_id, :turn_id]},
    {[:request, :start], "a request is sent to an app-server", [:system_time], @request},
    {[:request, :stop],
     "the request was answered or failed. `result` is `:ok` or `:error`, `error` the reason",
     @spent, @request ++ [:result, :error]},
    {[:approval, :requested],
     ~S(an app-server requests an approval: `tool` is `"command"`, `"apply_patch"`, ) <>
       ~S(`"permissions"` or the name of a tool. Also emitted by ) <>
       "`Codex.Approvals.review_tool/4` (`lane` and `method` are nil)", [:system_time],
     @approval},
    {[:approval, :approved], "the request was approved", @spent, @approval},
    {[:approval, :denied],
     "the request was denied. `reason` is the reason of the answer, `:nobody` if no process " <>
       "could answer, or `:down` if the connection was lost", @spent, @approval ++ [:reason]},
    {[:approval, :timeout], "the request expired without an answer, so it was denied", @spent,
     @approval},
    {[:hook, :stop],
     "a hook of the host has answered (`Codex.Hooks`). `answer` is `:allow`, `:deny`, `:ask`, " <>
       "`:rewrite`, `:context`, `:replace_output` or `:continue`; `failure` is `:crashed`, " <>
       "`:late` or `:too_many` if the answer stands in for one that did not come", @spent,
     [:event, :tool, :answer, :failure, :thread_id, :turn_id]},
    {[:mcp, :tool_call, :start], "`Codex.MCP.Client.call_tool/4` begins", [:system_time],
     [:originator, :tool, :server_name]},
    {[:mcp, :tool_call, :success], "the server answered. `attempt` is the number of attempts",
     @spent, [:originator, :tool, :server_name, :attempt]},
    {[:mcp, :tool_call, :failure], "the call failed. `reason` is that of the returned error",
     @spent, [:originator, :tool, :server_name, :attempt, :reason]},
    {[:cli, :start],
     "a function of `Codex.CLI` starts a command. `command` is its words without values, or nil " <>
       "for an unknown command", [:system_time], [:originator, :command]},
    {[:cli, :stop],
     "the command ended (`result` is `:ok`, for every exit status), or did not start or was " <>
       "stopped (`:error`; `error` has the kind)", @spent,
     [:originator, :command, :result, :exit_status, :signal, :error]},
    {[:retry, :attempt],
     "an attempt of a call with `retry` or `rate_limit`, or of `Codex.Retry`, ended. " <>
       "`delay_ms` is the wait that follows. `outcome` is `:ok`, `:retry` (another attempt " <>
       "follows) or `:error`; `mode` is that of the next attempt: `:repeat`, `:resume` or nil",
     [:system_time, :duration, :delay_ms],
     [:attempt, :max_attempts, :outcome, :reason, :kind, :mode]},
    {[:rate_limit, :rate_limited],
     "a limit was reached. `info` as in `Codex.RateLimit.detect/1`; `attempt` counts the " <>
       "limited attempts of this call, and is 0 if the limit was known before the first",
     [:system_time], [:delay_ms, :attempt, :info]},
    {[:batch, :start], "a `Codex.Batch` is read; `batch` is its reference", [:system_time],
     [:originator, :batch, :max_concurrency]},
    {[:batch, :stop],
     "the batch ended. `reason` is `:done`, `:halted` (its reader stopped), `:raised`, " <>
       "`:cancelled`, `:budget`, `:total_timeout_ms` or `:quota`; `counts` has the results by " <>
       "status", @spent, [:originator, :batch, :reason, :counts]},
    {[:batch, :job, :start], "a job of a batch begins", [:system_time], @job},
    {[:batch, :job, :stop], "the job ended, with the fields of its `Codex.Batch.Result`", @spent,
     @job ++ [:status, :kind, :attempts, :usage, :usd, :thread_id]},
    {[:batch, :journal, :repaired],
     "the journal of a batch was damaged. `bytes` and `entries` are lost, `jobs` are known",
     [:system_time, :bytes, :entries], [:originator, :path, :jobs]},
    {[:pool, :server, :start], "a server of a `Codex.Pool` is ready", [:system_time],
     [:originator, :pool, :conn]},
    {[:pool, :server, :stop],
     "a server of a pool ended, after so many `turns`. `reason` is `:turns`, `:age`, `:memory`, " <>
       "`:unhealthy`, `:idle`, `:drained` or `:lost`", @spent,
     [:originator, :pool, :conn, :reason, :turns]},
    {[:pool, :server, :failed], "a server of a pool could not be started", [:system_time],
     [:originator, :pool, :kind]},
    {[:pool, :checkout],
     "a turn got its place on a server, after a wait. `loaded?`: the server has its thread",
     @spent, [:originator, :pool, :loaded?]},
    {[:session_store, :append], "lines of a session file were sent to a session store",
     @spent ++ [:bytes], [:originator, :thread_id]},
    {[:session_store, :failure],
     "a session store failed, and is tried again. `attempt` counts the failures in a row, `kind` " <>
       "and `reason` are those of the error", [:system_time],
     [:originator, :thread_id, :attempt, :kind, :reason]},
    {[:session_store, :stop],
     "the mirror of a turn ended. `state` is `:current`, or `:behind` or `:failed` if " <>
       "`give_up_ms` was over; `error` is the kind of the last failure", @spent ++ [:bytes],
     [:originator, :thread_id, :state, :error]},
    {[:attachment, :staged],
     "`Codex.Files.stage/2` staged a file. `cached?` is true if its content was there already",
     [:size_bytes], [:checksum, :name, :persist?, :ttl_ms, :cached?]},
    {[:attachment, :cleaned], "a staged copy was removed", [:count, :bytes],
     [:checksum, :name, :ttl_ms]}
  ]

  # Keys that events have only with `telemetry_content: true`.
  @content %{
    [:thread, :start] => [:input],
    [:turn, :diff, :updated] => [:diff],
    [:item, :started] => [:item],
    [:item, :updated] => [:item],
    [:item, :completed] => [:item],
    [:tool, :start] => [:arguments],
    [:tool, :success] => [:arguments, :output],
    [:tool, :failure] => [:arguments, :output],
    [:mcp, :tool_call, :start] => [:arguments],
    [:mcp, :tool_call, :success] => [:arguments],
    [:mcp, :tool_call, :failure] => [:arguments]
  }

  @doc "Returns the names of all events, without their prefix."
  @spec names() :: [[atom(), ...]]
  def names, do: for({name, _, _, _} <- @rows, do: name)

  @doc """
  Returns the keys of measurements and metadata of an event, and those added with its content.
  """
  @spec keys([atom(), ...]) :: {[atom()], [atom()], [atom()]} | nil
  def keys(name) do
    with {_, _, measurements, metadata} <- List.keyfind(@rows, name, 0),
         do: {measurements, metadata, @content[name] || []}
  end

  @doc "Formats the table as Markdown."
  @spec docs() :: String.t()
  def docs do
    rows =
      for {name, doc, measurements, metadata} <- @rows do
        more = for key <- @content[name] || [], do: "`#{key}` (content)"
        measurements = Enum.map_join(measurements, ", ", &label/1)
        metadata = Enum.join(Enum.map(short(metadata), &label/1) ++ more, ", ")

        "| `#{inspect([:codex | name])}` | #{doc} | #{measurements} | #{metadata} |\n"
      end

    "| event | when | measurements | metadata |\n| --- | --- | --- | --- |\n" <> Enum.join(rows)
  end

  # The metadata that all events of a turn share is documented once.
  defp short(metadata) do
    if Enum.take(metadata, length(@turn)) == @turn,
      do: [:turn | Enum.drop(metadata, length(@turn))],
      else: metadata
  end

  defp label(:turn), do: "metadata of a turn"
  defp label(key), do: "`#{key}`"
end
