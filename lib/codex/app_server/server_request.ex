defmodule Codex.AppServer.ServerRequest do
  @moduledoc false
  # The requests that an app-server sends: one row for each method, with its struct, the fields of
  # the struct, the form of its answers, the answer that declines it, and its approval event.

  alias Codex.AppServer.ServerRequest.Answer
  alias Codex.{JSON, OptionError, Protocol}

  @unanswered "nobody answered"

  # Members of a row:
  #
  #   * `answer:`  - how an answer of the host is encoded, see
  #     `Codex.AppServer.ServerRequest.Answer`
  #   * `decline:` - the result that declines the request. The CLI continues the turn after
  #     `decline` and `denied`; `cancel` and `abort` would end it. Requests without one are declined
  #     with an error
  #   * `fields:`  - field of the struct, member on the wire (nil: derived), type and doc
  @rows [
    %{
      struct: :CommandApproval,
      method: "item/commandExecution/requestApproval",
      answer: :decision,
      decline: %{"decision" => "decline"},
      fields: [
        {:command, "command", quote(do: String.t() | nil), "the command as the shell gets it"},
        {:cwd, "cwd", quote(do: String.t() | nil), "its working directory"},
        {:reason, "reason", quote(do: String.t() | nil), "why the agent wants to run it"},
        {:actions, "commandActions", quote(do: [map()] | nil),
         "actions in the command that the server recognised"},
        {:proposed_execpolicy_amendment, "proposedExecpolicyAmendment",
         quote(do: [String.t()] | nil),
         "the words for a decision `{:allow, execpolicy_amendment: words}`"},
        {:network, "networkApprovalContext", quote(do: map() | nil),
         "the host that the command wants to reach"}
      ]
    },
    %{
      struct: :FileChangeApproval,
      method: "item/fileChange/requestApproval",
      answer: :decision,
      decline: %{"decision" => "decline"},
      fields: [
        {:reason, "reason", quote(do: String.t() | nil), "why the agent wants to change files"},
        {:grant_root, "grantRoot", quote(do: String.t() | nil),
         "the directory that stays writable after an approval"}
      ]
    },
    %{
      struct: :PermissionsApproval,
      method: "item/permissions/requestApproval",
      answer: :permissions,
      decline: %{"permissions" => %{}, "scope" => "turn"},
      fields: [
        {:permissions, "permissions", quote(do: map() | nil), "the permissions asked for"},
        {:cwd, "cwd", quote(do: String.t() | nil), "the working directory"},
        {:reason, "reason", quote(do: String.t() | nil), "why the agent asks for them"}
      ]
    },
    %{
      struct: :UserInput,
      method: "item/tool/requestUserInput",
      answer: :user_input,
      decline: %{"answers" => %{}},
      fields: [
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
         "maps with `id`, `header`, `question`, `options` (maps with `label` and " <>
           "`description`), `other?` (other answers are allowed) and `secret?`"},
        {:auto_resolution_ms, "autoResolutionMs", quote(do: pos_integer() | nil),
         "when the server goes on without an answer, in ms"}
      ]
    },
    %{
      struct: :Elicitation,
      method: "mcpServer/elicitation/request",
      answer: :elicitation,
      decline: %{"action" => "decline"},
      fields: [
        {:server_name, "serverName", quote(do: String.t() | nil), "the MCP server"},
        {:mode, "mode", quote(do: String.t() | nil),
         "`\"form\"`, `\"url\"`, or another mode of the server"},
        {:message, "message", quote(do: String.t() | nil), "the text to show to the user"},
        {:schema, "requestedSchema", quote(do: map() | nil), "the JSON schema of the input"},
        {:url, "url", quote(do: String.t() | nil), "the URL to open"},
        {:elicitation_id, "elicitationId", quote(do: String.t() | nil),
         "the MCP server's own id"},
        {:meta, "_meta", quote(do: map() | nil), "further members"},
        {:tool, nil, quote(do: String.t() | nil),
         "the tool whose call needs approval; nil if input is wanted"},
        {:arguments, nil, quote(do: term()), "the arguments of that call"}
      ]
    },
    %{
      struct: :ToolCall,
      method: "item/tool/call",
      answer: :tool,
      decline: %{
        "contentItems" => [%{"type" => "inputText", "text" => @unanswered}],
        "success" => false
      },
      fields: [
        {:tool, "tool", quote(do: String.t() | nil), "the name of the tool"},
        {:namespace, "namespace", quote(do: String.t() | nil), "the namespace of that name"},
        {:call_id, "callId", quote(do: String.t() | nil), "the id of the call, and of its item"},
        {:arguments, "arguments", quote(do: term()), "the arguments that the model gave"}
      ]
    },
    %{
      struct: :TokenRefresh,
      method: "account/chatgptAuthTokens/refresh",
      answer: :members,
      fields: [
        {:reason, "reason", quote(do: String.t() | nil), "`\"unauthorized\"`"},
        {:previous_account_id, "previousAccountId", quote(do: String.t() | nil),
         "the account whose tokens were refused"}
      ]
    },
    %{struct: :CurrentTime, method: "currentTime/read", answer: :time, fields: []},
    %{struct: :Attestation, method: "attestation/generate", answer: :attestation, fields: []},
    # Requests of the protocol before threads. They have no struct.
    %{
      struct: :Unknown,
      method: "execCommandApproval",
      answer: :members,
      decline: %{"decision" => %{"denied" => %{"rejection" => @unanswered}}},
      fields: []
    },
    %{
      struct: :Unknown,
      method: "applyPatchApproval",
      answer: :members,
      decline: %{"decision" => %{"denied" => %{"rejection" => @unanswered}}},
      fields: []
    },
    %{struct: :Unknown, method: nil, answer: :members, fields: []}
  ]

  @by_method Map.new(@rows, &{&1.method, Map.drop(&1, [:fields])})
  @unknown Map.fetch!(@by_method, nil)

  # Methods without a result that declines them: tokens, attestations, the time, unknown methods.
  @declined %{"code" => -32601, "message" => @unanswered}

  @doc "Returns the rows of the table. The last one stands for unknown methods."
  @spec rows() :: [map()]
  def rows, do: @rows

  @doc """
  Returns the answer that declines a request, so that the turn goes on without it.

      iex> Codex.AppServer.ServerRequest.decline("item/fileChange/requestApproval")
      {:ok, %{"decision" => "decline"}}
      iex> Codex.AppServer.ServerRequest.decline("currentTime/read")
      {:error, %{"code" => -32601, "message" => "nobody answered"}}
  """
  @spec decline(String.t()) :: {:ok, map()} | {:error, map()}
  def decline(method) do
    case @by_method do
      %{^method => %{decline: result}} -> {:ok, result}
      _ -> {:error, @declined}
    end
  end

  @typedoc "As on the wire, or in the words of `Codex.AppServer.answer/2`."
  @type answer :: {:ok, map() | keyword()} | {:error, map()} | {:answer, term()}

  @doc """
  Encodes an answer for the wire. An invalid answer is an error here: the server would fail the item
  of the request without a word to the host.

      iex> method = "item/fileChange/requestApproval"
      iex> Codex.AppServer.ServerRequest.encode(method, %{}, {:ok, decision: :accept_for_session})
      {:ok, {:ok, %{"decision" => "acceptForSession"}}}
      iex> {:error, error} = Codex.AppServer.ServerRequest.encode(method, %{}, {:ok, %{}})
      iex> {error.reason, error.key}
      {:missing, :decision}
      iex> Codex.AppServer.ServerRequest.encode(method, %{}, {:answer, {:deny, "no"}})
      {:ok, {:ok, %{"decision" => "decline"}}}
      iex> error = %{"code" => -32000, "message" => "busy"}
      iex> Codex.AppServer.ServerRequest.encode(method, %{}, {:error, error})
      {:ok, {:error, %{"code" => -32000, "message" => "busy"}}}
  """
  @spec encode(String.t(), map(), answer()) ::
          {:ok, {:ok | :error, term()}} | {:error, Protocol.reason()}
  def encode(method, params, {:answer, answer}) do
    with {:ok, wire} <- wire(method, params, answer) do
      # Answers may be secrets.
      with {:error, error} <- encode(method, params, wire),
           do: {:error, OptionError.redact(error)}
    end
  end

  def encode(method, _params, {:ok, result}) do
    case Protocol.method(method) do
      {:ok, %{result: type}} when type != nil ->
        with {:ok, wire} <- Protocol.check(type, result), do: {:ok, {:ok, wire}}

      # The method is newer than the protocol file: any JSON is allowed.
      _unknown ->
        json(:ok, result)
    end
  end

  def encode(_method, _params, {:error, %{"code" => code, "message" => message} = error})
      when is_integer(code) and is_binary(message),
      do: json(:error, error)

  def encode(_method, _params, {:error, error}) do
    expected = "an error of JSON-RPC: a map with \"code\" (an integer) and \"message\" (a string)"
    {:error, OptionError.argument(:error, error, expected)}
  end

  defp wire(_method, _params, {:error, %{"code" => _, "message" => _}} = error), do: {:ok, error}

  defp wire(method, params, answer) do
    %{answer: form} = Map.get(@by_method, method, @unknown)
    with {:ok, result} <- Answer.result(form, params, answer), do: {:ok, {:ok, result}}
  end

  defp json(tag, value) do
    case JSON.encode(value) do
      {:ok, _} ->
        {:ok, {tag, value}}

      {:error, _} ->
        {:error, OptionError.argument(:result, value, "a value that JSON has a form for")}
    end
  end
end
