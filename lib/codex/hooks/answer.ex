defmodule Codex.Hooks.Answer do
  @moduledoc false
  # The answers of hooks: checks those of the host's functions, merges several, and writes the
  # answer of a call in the form of the CLI. Pure.

  alias Codex.Hooks.Table
  alias Codex.Options.Type
  alias Codex.Text

  @typedoc "The answer of one function."
  @type t ::
          :allow
          | :ask
          | {:deny | :context | :replace_output | :continue, String.t()}
          | {:rewrite, map()}

  @typedoc "The answers of several functions of one call."
  @type merged :: %{
          deny: String.t() | nil,
          ask?: boolean(),
          input: map() | nil,
          output: String.t() | nil,
          context: [String.t()],
          continue: [String.t()]
        }

  @none %{deny: nil, ask?: false, input: nil, output: nil, context: [], continue: []}

  # These run a text: without it the CLI refuses them with words of its own.
  @of_command ["Bash", "apply_patch"]
  @unsaid "refused by the application"
  @empty "[no output]"

  @doc "Returns how an answer is written."
  @spec shape(Table.answer()) :: String.t()
  def shape(kind) when kind in [:allow, :ask], do: "`#{inspect(kind)}`"
  def shape(:rewrite), do: "`{:rewrite, input}`"
  def shape(kind) when kind in [:context, :replace_output], do: "`{#{inspect(kind)}, text}`"
  def shape(kind), do: "`{#{inspect(kind)}, reason}`"

  @spec none() :: merged()
  def none, do: @none

  @doc """
  Checks the answer of a function. The error says what the event takes.

      iex> Codex.Hooks.Answer.check(%{tool_name: "Bash"}, :pre_tool_use, {:rewrite, "ls"})
      {:ok, {:rewrite, %{"command" => "ls"}}}
      iex> Codex.Hooks.Answer.check(%{}, :stop, {:deny, "no"})
      {:error, "expected `:allow` or `{:continue, reason}`, got: a tuple of 2 elements with :deny"}
  """
  @spec check(map(), Table.name(), term()) :: {:ok, t()} | {:error, String.t()}
  def check(event, name, answer) do
    takes = Table.row(name).answers

    case cast(answer, event, :ask in takes) do
      {:ok, cast} -> if kind(cast) in takes, do: {:ok, cast}, else: wrong(takes, answer)
      :error -> wrong(takes, answer)
    end
  end

  # Of an approval, the answer of a function that only observes must not be an approval.
  defp cast(:ok, _event, false), do: {:ok, :allow}
  defp cast(answer, _event, _asks?) when answer in [:allow, :ask], do: {:ok, answer}

  defp cast({:rewrite, text}, %{tool_name: name}, _asks?)
       when is_binary(text) and name in @of_command,
       do: cast({:rewrite, %{"command" => text}}, %{tool_name: name}, false)

  defp cast({:rewrite, %{} = input}, event, _asks?) when not is_struct(input) do
    input = Map.new(input, fn {key, value} -> {to_string(key), value} end)
    command? = is_binary(input["command"]) or event.tool_name not in @of_command

    with true <- command?, {:ok, json} <- Codex.JSON.encode(input) do
      Codex.JSON.decode(json) |> then(fn {:ok, input} -> {:ok, {:rewrite, input}} end)
    else
      _ -> :error
    end
  end

  defp cast({kind, text}, _event, _asks?)
       when kind in [:deny, :context, :replace_output, :continue] and is_binary(text),
       do: {:ok, {kind, Text.utf8(text)}}

  # As policies of approvals have them.
  defp cast({:deny, reason}, _event, _asks?) when is_atom(reason) and reason != nil,
    do: {:ok, {:deny, Atom.to_string(reason)}}

  defp cast(_other, _event, _asks?), do: :error

  defp kind({kind, _value}), do: kind
  defp kind(kind), do: kind

  defp wrong(takes, answer) do
    {others, [last]} = takes |> Enum.map(&shape/1) |> Enum.split(-1)
    expected = if others == [], do: last, else: Enum.join(others, ", ") <> " or " <> last
    {:error, "expected #{expected}, got: #{got(answer)}"}
  end

  # Without values, which may be a user's words.
  defp got(answer) when is_tuple(answer) and tuple_size(answer) > 0 and is_atom(elem(answer, 0)),
    do: "a tuple of #{tuple_size(answer)} elements with #{inspect(elem(answer, 0))}"

  defp got(answer), do: Type.kind(answer)

  @doc "Adds the answer of one function to those before."
  @spec merge(merged(), t()) :: merged()
  def merge(merged, :allow), do: merged
  def merge(merged, :ask), do: %{merged | ask?: true}
  def merge(merged, {:deny, reason}), do: %{merged | deny: reason(reason)}
  def merge(merged, {:rewrite, input}), do: %{merged | input: input}
  def merge(merged, {:replace_output, text}), do: %{merged | output: text}
  def merge(merged, {:context, text}), do: %{merged | context: merged.context ++ [text]}

  def merge(merged, {:continue, reason}),
    do: %{merged | continue: merged.continue ++ [reason(reason)]}

  # The CLI goes on without a reason.
  defp reason(text), do: if(String.trim(text) == "", do: @unsaid, else: text)

  @doc """
  Returns the answer for the CLI: the text of a tool's result.

      iex> answer = Codex.Hooks.Answer.merge(Codex.Hooks.Answer.none(), {:continue, "go on"})
      iex> Codex.Hooks.Answer.encode(:stop, answer)
      ~S({"decision":"block","reason":"go on"})
  """
  @spec encode(Table.name(), merged()) :: String.t()
  def encode(name, merged), do: name |> members(merged) |> Codex.JSON.encode!()

  defp members(:session_start, %{deny: reason}) when reason != nil,
    do: %{"continue" => false, "stopReason" => reason}

  defp members(:user_prompt_submit, %{deny: reason}) when reason != nil, do: block(reason)

  defp members(:pre_tool_use, %{deny: reason} = merged) when reason != nil do
    deny = %{"permissionDecision" => "deny", "permissionDecisionReason" => reason}
    specific("PreToolUse", Map.merge(deny, context(merged)))
  end

  defp members(:pre_tool_use, %{input: %{} = input} = merged) do
    allow = %{"permissionDecision" => "allow", "updatedInput" => input}
    specific("PreToolUse", Map.merge(allow, context(merged)))
  end

  defp members(:permission_request, %{deny: reason}) when reason != nil,
    do: decision(%{"behavior" => "deny", "message" => reason})

  defp members(:permission_request, %{ask?: true}), do: %{}
  defp members(:permission_request, _merged), do: decision(%{"behavior" => "allow"})

  defp members(:post_tool_use, %{output: output} = merged) when output != nil do
    output = if String.trim(output) == "", do: @empty, else: output
    Map.merge(block(output), members(:post_tool_use, %{merged | output: nil}))
  end

  defp members(name, %{continue: [_ | _] = reasons}) when name in [:stop, :subagent_stop],
    do: reasons |> Enum.join("\n\n") |> block()

  defp members(name, %{context: [_ | _]} = merged),
    do: specific(Table.row(name).wire, context(merged))

  defp members(_name, _merged), do: %{}

  defp context(%{context: []}), do: %{}
  defp context(%{context: texts}), do: %{"additionalContext" => Enum.join(texts, "\n\n")}

  defp block(reason), do: %{"decision" => "block", "reason" => reason}
  defp decision(decision), do: specific("PermissionRequest", %{"decision" => decision})

  defp specific(wire, members),
    do: %{"hookSpecificOutput" => Map.put(members, "hookEventName", wire)}
end
