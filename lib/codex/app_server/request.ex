defmodule Codex.AppServer.Request do
  @moduledoc """
  What the server asks, one struct a kind.

  They come to a process that subscribed with `as: :structs`, as `{:codex_request, conn, request}`; to the `request_handler` of a thread; and
  approvals, as maps, to its `approval_policy` (`Codex.Approvals`). All of them have

    * `token` - a text to answer by, with `Codex.AppServer.answer/2`: from any process of any connected node, until then
    * `expires_at` - the `DateTime` when the answer is no by itself (`:answer_timeout_ms` of the connection), or nil
    * `id` - what `Codex.AppServer.respond/3` answers by
    * `method`, `params` - the request as the server sent it
    * `thread_id`, `turn_id`, `item_id` - what it is about, nil where it is about none

  and those of their own, nil where the server sent none:

  | struct | what is asked | answer |
  | --- | --- | --- |
  | `CommandApproval` | whether a command may run | a decision |
  | `FileChangeApproval` | whether files may be changed; which, the item says that began before | a decision |
  | `PermissionsApproval` | whether the turn may get more permissions | a decision |
  | `UserInput` | questions for the user (plan mode) | a map: a text or a list of texts by the id of the question; `%{}` leaves them unanswered |
  | `Elicitation` | input for an MCP server, or whether a tool of one may be called (`tool` is set then) | `{:accept, content}`, `:accept`, `:decline` or `:cancel`; or a decision |
  | `ToolCall` | a call of a tool of the host | `{:ok, output}` or `{:error, reason}`, as `Codex.Tool` returns them |
  | `TokenRefresh` | new tokens, where the host logged in with its own | `access_token:`, `chatgpt_account_id:`, `chatgpt_plan_type:` |
  | `CurrentTime` | the time (experimental) | a `DateTime`, or seconds since 1970 |
  | `Attestation` | an attestation of the client | its text |
  | `Unknown` | what this version has no struct for | the members of the result, as map or keyword |

  A decision is `:allow`, `{:allow, options}`, `{:deny, reason}` or `:cancel`: see `Codex.Approvals`. For the approval of an MCP tool the options are `for_session: true` and
  `always: true`, for commands and files the others. Facts of CLI 0.169.
  """

  alias Codex.AppServer.Message

  # {struct, method, {field, name on the wire, type, doc}…}
  @kinds [
    {:CommandApproval, "item/commandExecution/requestApproval",
     [
       {:command, "command", quote(do: String.t() | nil), "as the shell gets it"},
       {:cwd, "cwd", quote(do: String.t() | nil), "where"},
       {:reason, "reason", quote(do: String.t() | nil), "why it is asked for"},
       {:actions, "commandActions", quote(do: [map()] | nil),
        "what the command does, as far as the server can tell"},
       {:proposed_execpolicy_amendment, "proposedExecpolicyAmendment",
        quote(do: [String.t()] | nil),
        "what a decision `{:allow, execpolicy_amendment: words}` could have"},
       {:network, "networkApprovalContext", quote(do: map() | nil),
        "which host it wants to reach"}
     ]},
    {:FileChangeApproval, "item/fileChange/requestApproval",
     [
       {:reason, "reason", quote(do: String.t() | nil), "why it is asked for"},
       {:grant_root, "grantRoot", quote(do: String.t() | nil),
        "the directory that may be written to from then on"}
     ]},
    {:PermissionsApproval, "item/permissions/requestApproval",
     [
       {:permissions, "permissions", quote(do: map() | nil), "which"},
       {:cwd, "cwd", quote(do: String.t() | nil), "where"},
       {:reason, "reason", quote(do: String.t() | nil), "why"}
     ]},
    {:UserInput, "item/tool/requestUserInput",
     [
       {:questions, "questions",
        quote(
          do: [
            %{
              id: String.t(),
              header: String.t() | nil,
              question: String.t() | nil,
              options: [%{label: String.t(), description: String.t()}],
              other?: boolean(),
              secret?: boolean()
            }
          ]
        ),
        "maps with `id`, `header`, `question`, `options` (maps with `label` and `description`), `other?` (whether another answer is one, too) and `secret?`"},
       {:auto_resolution_ms, "autoResolutionMs", quote(do: pos_integer() | nil),
        "when the server goes on by itself, in ms"}
     ]},
    {:Elicitation, "mcpServer/elicitation/request",
     [
       {:server_name, "serverName", quote(do: String.t() | nil), "the MCP server"},
       {:mode, "mode", quote(do: String.t() | nil),
        "`\"form\"`, `\"url\"`, or others of the server"},
       {:message, "message", quote(do: String.t() | nil), "for the user"},
       {:schema, "requestedSchema", quote(do: map() | nil), "JSON schema of what is wanted"},
       {:url, "url", quote(do: String.t() | nil), "where the user is to go"},
       {:elicitation_id, "elicitationId", quote(do: String.t() | nil), "the server's own id"},
       {:meta, "_meta", quote(do: map() | nil), "what else there is"},
       {:tool, nil, quote(do: String.t() | nil),
        "the tool whose call is to be approved; nil where input is wanted"},
       {:arguments, nil, quote(do: term()), "its arguments"}
     ]},
    {:ToolCall, "item/tool/call",
     [
       {:tool, "tool", quote(do: String.t() | nil), "its name"},
       {:namespace, "namespace", quote(do: String.t() | nil), "that of the name"},
       {:call_id, "callId", quote(do: String.t() | nil), "the id of the call, and of its item"},
       {:arguments, "arguments", quote(do: term()), "what the model gave"}
     ]},
    {:TokenRefresh, "account/chatgptAuthTokens/refresh",
     [
       {:reason, "reason", quote(do: String.t() | nil), "`\"unauthorized\"`"},
       {:previous_account_id, "previousAccountId", quote(do: String.t() | nil),
        "whose tokens did not hold"}
     ]},
    {:CurrentTime, "currentTime/read", []},
    {:Attestation, "attestation/generate", []},
    {:Unknown, nil, []}
  ]

  for {name, method, fields} <- @kinds do
    module = Module.concat(__MODULE__, name)

    types =
      for({field, _, type, _} <- fields, do: {field, type}) ++
        [
          token: quote(do: String.t() | nil),
          id: quote(do: integer() | String.t() | nil),
          expires_at: quote(do: DateTime.t() | nil),
          method: quote(do: String.t()),
          params: quote(do: map()),
          thread_id: quote(do: String.t() | nil),
          turn_id: quote(do: String.t() | nil),
          item_id: quote(do: String.t() | nil)
        ]

    own = Enum.map_join(fields, "\n", fn {field, _, _, doc} -> "  * `#{field}` - #{doc}" end)
    what = if method, do: "`#{method}`", else: "What this version has no struct for"

    defmodule module do
      @moduledoc """
      #{what}. See `Codex.AppServer.Request`.

      #{own}
      """
      @enforce_keys [:method, :params]
      defstruct Keyword.keys(types)
      @type t :: unquote({:%, [], [{:__MODULE__, [], Elixir}, {:%{}, [], types}]})
    end
  end

  @modules for {name, _, _} <- @kinds, do: Module.concat(__MODULE__, name)
  @by_method (for {name, method, fields} <- @kinds, method != nil, into: %{} do
                wire = for {field, wire, _, _} <- fields, wire != nil, do: {field, wire}
                {method, {Module.concat(__MODULE__, name), wire}}
              end)

  @type t ::
          unquote(
            @modules
            |> Enum.map(&quote(do: unquote(&1).t()))
            |> Enum.reduce(fn type, types -> {:|, [], [type, types]} end)
          )

  @doc """
  The struct of a request.

      iex> request = Codex.AppServer.Request.new("item/tool/call", %{"tool" => "look_up", "arguments" => %{}, "threadId" => "t"})
      iex> {request.__struct__, request.tool, request.thread_id}
      {Codex.AppServer.Request.ToolCall, "look_up", "t"}
      iex> Codex.AppServer.Request.new("weather/read", %{}).__struct__
      Codex.AppServer.Request.Unknown
  """
  @spec new(String.t(), map()) :: t()
  def new(method, params) when is_map(params) and not is_struct(params) do
    {module, fields} = Map.get(@by_method, method, {__MODULE__.Unknown, []})
    own = for {field, wire} <- fields, do: {field, params[wire]}

    common = [
      method: method,
      params: params,
      thread_id: Message.thread_id(params),
      turn_id: Message.turn_id(params),
      item_id: params["itemId"]
    ]

    module |> struct(own ++ common) |> refine()
  end

  defp refine(%__MODULE__.UserInput{questions: questions} = request),
    do: %{
      request
      | questions: for(%{} = question <- List.wrap(questions), do: question(question))
    }

  defp refine(%__MODULE__.Elicitation{meta: %{"codex_approval_kind" => _} = meta} = request),
    do: %{request | tool: meta["tool_name"], arguments: meta["tool_params"]}

  defp refine(request), do: request

  defp question(question) do
    options =
      for %{"label" => label} = option <- List.wrap(question["options"]),
          do: %{label: label, description: option["description"] || ""}

    %{
      id: question["id"],
      header: question["header"],
      question: question["question"],
      options: options,
      other?: question["isOther"] == true,
      secret?: question["isSecret"] == true
    }
  end
end
