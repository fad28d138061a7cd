defmodule Codex.Events.Names do
  @moduledoc false
  # Names and documentation of the kinds that follow from the protocol (`Codex.Events.Protocol`). A
  # kind without an entry is named after its wire type.

  # Wire types with a name of their own.
  @structs %{
    "item/autoApprovalReview/started" => "GuardianApprovalReviewStarted",
    "item/autoApprovalReview/completed" => "GuardianApprovalReviewCompleted",
    "autoApprovalReview/strictReviewRequired" => "StrictReviewRequired"
  }

  @docs %{
    # Notifications
    "account/gatewayOAuth/changed" => "The login to a model gateway changed.",
    "app/list/updated" => "The list of apps changed; `data` is the whole list.",
    "autoApprovalReview/strictReviewRequired" =>
      "The automatic review of approvals became strict for a turn.",
    "command/exec/outputDelta" =>
      "A piece of the output of a command that `Codex.AppServer.command_exec/3` runs.",
    "configWarning" => "A setting is invalid or was replaced; results list it in `warnings`.",
    "externalAgentConfig/import/completed" =>
      "The import of another agent's configuration ended.",
    "externalAgentConfig/import/progress" =>
      "A part of another agent's configuration was imported.",
    "fs/changed" => "Watched files or folders changed; `fs/watch` starts the watch.",
    "fuzzyFileSearch/sessionCompleted" => "A file search session has searched all files.",
    "fuzzyFileSearch/sessionUpdated" => "A file search session has new results.",
    "guardianWarning" => "The automatic review of approvals warns; results list the message.",
    "hook/completed" => "A hook ended.",
    "hook/started" => "A hook began.",
    "item/autoApprovalReview/completed" => "The automatic review of an approval ended.",
    "item/autoApprovalReview/started" => "The automatic review of an approval began.",
    "item/fileChange/patchUpdated" =>
      "The changes of a patch so far, before it is applied; whole each time.",
    "item/plan/delta" => "A piece of the proposal in plan mode.",
    "mcpServer/event/stream/notification" =>
      "A notification of an MCP server whose events the connection has subscribed to.",
    "mcpServer/startupStatus/updated" =>
      "An MCP server starts, is ready or has failed; results list a failure in `warnings`.",
    "model/rerouted" => "The provider answers with another model than the requested model.",
    "model/safetyBuffering/updated" =>
      "The provider holds back the answer while it checks its safety.",
    "model/verification" => "The provider asks for a verification of the account.",
    "modelProvider/authRecoveryCompleted" => "The credentials of the model provider are renewed.",
    "modelProvider/authRecoveryStarted" =>
      "The model provider refused the credentials, and the server renews them.",
    "process/exited" => "A process of `process/spawn` ended.",
    "process/outputDelta" => "A piece of the output of a process of `process/spawn`.",
    "project/changed" => "A project was created, changed or deleted.",
    "remoteControl/status/changed" => "The connection for remote control changed.",
    "serverRequest/resolved" => "A request of the server got its answer, or is no longer open.",
    "skills/changed" => "Files of skills changed: `skills/list` has the new skills.",
    "thread/archived" => "A thread was archived.",
    "thread/attachment/updated" => "An attachment of a thread was created or deleted.",
    "thread/closed" => "The server has unloaded a thread.",
    "thread/deleted" => "A thread was deleted.",
    "thread/environment/connected" => "A thread is connected to an environment.",
    "thread/environment/disconnected" => "A thread lost the connection to an environment.",
    "thread/goal/cleared" => "The goal of a thread was removed.",
    "thread/goal/updated" => "The goal of a thread changed.",
    "thread/name/updated" => "A thread has another name.",
    "thread/prediction/updated" => "The server predicts the next message of the user.",
    "thread/project/updated" => "A thread belongs to another project.",
    "thread/queue/changed" => "The queued messages of a thread changed.",
    "thread/readState/changed" => "The mark between read and unread messages of a thread moved.",
    "thread/realtime/closed" => "The voice session of a thread ended.",
    "thread/realtime/error" => "The voice session of a thread reports an error.",
    "thread/realtime/item/completed" => "An item of the voice session ended.",
    "thread/realtime/item/started" => "An item of the voice session began.",
    "thread/realtime/item/transcript/delta" => "A piece of the transcript of an item.",
    "thread/realtime/itemAdded" => "The voice session has a new raw item.",
    "thread/realtime/outputAudio/delta" => "A piece of the audio of the answer.",
    "thread/realtime/sdp" => "The server's answer to the WebRTC offer of a voice session.",
    "thread/realtime/started" => "The voice session of a thread began.",
    "thread/realtime/transcript/delta" => "A piece of the transcript of a voice session.",
    "thread/realtime/transcript/done" => "A transcript of a voice session is complete.",
    "thread/reverted" => "A thread was set back to an earlier turn.",
    "thread/search/partial" =>
      "Results that a thread search has found so far, for the request `request_id`.",
    "thread/section/changed" => "A thread was moved to another section.",
    "thread/settings/updated" => "The settings of a thread changed; `thread_settings` has all.",
    "thread/status/changed" => "A thread became idle or active, waits, or has failed.",
    "thread/unarchived" => "An archived thread was restored.",
    "turn/moderationMetadata" => "The provider's moderation data of a turn.",
    "warning" => "A warning of the server; results list the message in `warnings`.",
    "windowsSandbox/setupCompleted" => "The setup of the Windows sandbox ended.",
    # Items
    "functionCallOutput" => "The output of a function that has no item of its own.",
    "hookPrompt" => "Texts that hooks added to the input of the model.",
    "imageGeneration" =>
      "An image that the model generated: in Base64 in `result`, or stored as `file_id`. " <>
        "`saved_path` is its file on the machine of the server.",
    "sleep" => "The agent waits for `duration_ms` milliseconds.",
    "subAgentActivity" =>
      "Another agent began, was addressed, was interrupted or ended: `agent_thread_id` is its " <>
        "thread, `agent_path` its place in the tree of agents."
  }

  # Names of fields on the wire.
  @fields %{
    "capReached" => "whether more output was dropped because of the limit in bytes",
    "completedAtMs" => "Unix time in milliseconds",
    "deltaBase64" => "bytes in Base64",
    "durationMs" => "milliseconds",
    "startedAtMs" => "Unix time in milliseconds"
  }

  @doc """
  Returns the name of the struct of a wire type.

      iex> Codex.Events.Names.struct("thread/status/changed")
      "ThreadStatusChanged"
      iex> Codex.Events.Names.struct("account/gatewayOAuth/changed")
      "AccountGatewayOAuthChanged"
  """
  @spec struct(String.t()) :: String.t()
  def struct(type) do
    case Map.fetch(@structs, type) do
      {:ok, name} -> name
      :error -> type |> String.split(~r/\W+/, trim: true) |> Enum.map_join(&Macro.camelize/1)
    end
  end

  @doc "Returns the documentation of a wire type."
  @spec doc(String.t()) :: String.t()
  def doc(type), do: Map.get(@docs, type, "`#{type}` of the app-server.")

  @doc """
  Returns the name of the field for a name on the wire. The names are those of the protocol data,
  read while this library is compiled.
  """
  @spec field(String.t()) :: atom()
  def field(wire) do
    wire |> Macro.underscore() |> String.replace(~r/\W/, "_") |> String.to_atom()
  end

  @doc "Returns the documentation of a field, or nil."
  @spec field_doc(String.t()) :: String.t() | nil
  def field_doc(wire), do: @fields[wire]
end
