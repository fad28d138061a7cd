defmodule Codex.AppServer.Request do
  @moduledoc """
  Requests that the server sends, one struct for each kind.

  They reach a process that subscribed with `as: :structs` as `{:codex_request, conn, request}`, the
  `request_handler` of a thread, and, if they are approvals, its `approval_policy` as maps
  (`Codex.Approvals`). All of them have

    * `token` - a string to answer with, see `Codex.AppServer.answer/2`; it works from any process
      of any connected node until `expires_at`
    * `expires_at` - the `DateTime` when the request is declined (`:answer_timeout_ms` of the
      connection), or nil
    * `id` - the id for `Codex.AppServer.respond/3`
    * `method`, `params` - the request as the server sent it
    * `thread_id`, `turn_id`, `item_id` - the thread, turn and item of the request, or nil

  and fields of their own, nil if the server sent no value:

  * `CommandApproval` - May this command run? The answer is a decision.
  * `FileChangeApproval` - May these files change? The item that began before lists the changes. The
    answer is a decision.
  * `PermissionsApproval` - May the turn get more permissions? The answer is a decision.
  * `UserInput` - questions for the user (plan mode). The answer is a map of a string or a list of
    strings by the id of the question; `%{}` leaves them unanswered.
  * `Elicitation` - input for an MCP server, or the approval of a tool call of that server (then
    `tool` is set). The answer is `{:accept, content}`, `:accept`, `:decline` or `:cancel`; or a
    decision.
  * `ToolCall` - a call of a tool of the host. The answer is `{:ok, output}` or `{:error, reason}`,
    as `Codex.Tool` returns them.
  * `TokenRefresh` - new tokens, if the host logged in with its own. The answer is a keyword list of
    `access_token`, `chatgpt_account_id` and `chatgpt_plan_type`.
  * `CurrentTime` - the time (experimental). The answer is a `DateTime`, or seconds since 1970.
    Servers up to CLI 0.169 ask for it. Newer servers refuse to start a thread if
    `features.current_time_reminder.clock_source` is `"external"`: an error of the kind
    `:cli_unsupported`.
  * `Attestation` - an attestation of the client. The answer is its text.
  * `Unknown` - a method without a struct in this version. The answer has the members of the result,
    as map or keyword.

  A decision is `:allow`, `{:allow, options}`, `{:deny, reason}` or `:cancel`: see
  `Codex.Approvals`. Approvals of MCP tools take the options `for_session: true` and `always: true`,
  commands and files take the others.
  """

  alias Codex.AppServer.{Ids, ServerRequest}

  for %{struct: name, method: method, fields: fields} <- ServerRequest.rows(),
      name != :Unknown or method == nil do
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

    title =
      if method, do: "The request `#{method}`", else: "A request without a struct of its own"

    defmodule module do
      @moduledoc """
      #{title}. See `Codex.AppServer.Request`.

      #{own}
      """
      @enforce_keys [:method, :params]
      defstruct Keyword.keys(types)
      @typedoc "The request. Fields: see above."
      @type t :: unquote({:%, [], [{:__MODULE__, [], Elixir}, {:%{}, [], types}]})
    end
  end

  @modules for %{struct: name} <- ServerRequest.rows(),
               uniq: true,
               do: Module.concat(__MODULE__, name)
  @by_method (for %{method: method} = row <- ServerRequest.rows(), method != nil, into: %{} do
                wire = for {field, wire, _, _} <- row.fields, wire != nil, do: {field, wire}
                {method, {Module.concat(__MODULE__, row.struct), wire}}
              end)

  @typedoc "Any request of the server."
  @type t ::
          unquote(
            @modules
            |> Enum.map(&quote(do: unquote(&1).t()))
            |> Enum.reduce(fn type, types -> {:|, [], [type, types]} end)
          )

  @doc """
  Builds the struct of a request.

      iex> params = %{"tool" => "look_up", "arguments" => %{}, "threadId" => "t"}
      iex> request = Codex.AppServer.Request.new("item/tool/call", params)
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
      thread_id: Ids.thread_id(params),
      turn_id: Ids.turn_id(params),
      item_id: params["itemId"]
    ]

    module |> struct(own ++ common) |> refine()
  end

  defp refine(%__MODULE__.UserInput{questions: questions} = request) do
    questions = for %{} = question <- List.wrap(questions), do: question(question)
    %{request | questions: questions}
  end

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
