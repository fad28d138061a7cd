defmodule Codex.AppServer.ServerRequest.Answer do
  @moduledoc false
  # Encodes answers of the host as results of the server's requests. Pure.

  alias Codex.{Approvals, OptionError, Text, ToolOutput}
  alias Codex.Options.Type

  @typedoc "The forms of answers, as rows of `Codex.AppServer.ServerRequest` name them."
  @type form ::
          :decision
          | :permissions
          | :elicitation
          | :user_input
          | :tool
          | :time
          | :attestation
          | :members
  @type reason :: OptionError.t()

  @decision "a decision: :allow, {:allow, options}, {:deny, reason} or :cancel; options: " <>
              "for_session, grant_root, execpolicy_amendment, always"
  @elicitation "{:accept, content}, :accept, :decline, :cancel, or " <> @decision

  @doc """
  Returns the result of an answer.

      iex> alias Codex.AppServer.ServerRequest.Answer
      iex> params = %{"questions" => [%{"id" => "color"}]}
      iex> Answer.result(:user_input, params, %{"color" => "red"})
      {:ok, %{"answers" => %{"color" => %{"answers" => ["red"]}}}}
      iex> {:error, error} = Answer.result(:user_input, params, %{"colour" => "red"})
      iex> error.expected
      "answers by the ids of the questions: \\"color\\""
      iex> Answer.result(:elicitation, %{}, {:accept, %{"name" => "Joe"}})
      {:ok, %{"action" => "accept", "content" => %{"name" => "Joe"}}}
      iex> Answer.result(:time, %{}, ~U[2026-01-01 00:00:00Z])
      {:ok, %{"currentTimeAt" => 1767225600}}
      iex> decisions = [:allow, {:allow, for_session: true}, {:deny, :cancel}, {:deny, "no"}]
      iex> for decision <- decisions do
      ...>   {:ok, result} = Answer.result(:decision, %{}, decision)
      ...>   result["decision"]
      ...> end
      ["accept", "acceptForSession", "cancel", "decline"]
      iex> {:error, %{value: :perhaps}} = Answer.result(:decision, %{}, :perhaps)
      iex> amendment = {:allow, execpolicy_amendment: ["mix", "test"]}
      iex> {:ok, %{"decision" => decision}} = Answer.result(:decision, %{}, amendment)
      iex> decision
      %{"acceptWithExecpolicyAmendment" => %{"execpolicy_amendment" => ["mix", "test"]}}
  """
  @spec result(form(), map(), term()) :: {:ok, map()} | {:error, reason()}
  def result(:decision, _params, answer) do
    if decision?(answer),
      do: {:ok, %{"decision" => decision(answer)}},
      else: invalid(answer, @decision)
  end

  def result(:permissions, params, answer) do
    if decision?(answer),
      do: {:ok, permissions(answer, params)},
      else: invalid(answer, @decision)
  end

  # Approvals of MCP tools are elicitations, too.
  def result(:elicitation, _params, answer) do
    case answer do
      {:accept, content} when is_map(content) or content == nil -> {:ok, accept(content)}
      accept when accept in [:accept, :allow] -> {:ok, accept(%{})}
      {:allow, opts} -> allow(opts, answer)
      cancel when cancel in [:cancel, {:deny, :cancel}] -> {:ok, %{"action" => "cancel"}}
      :decline -> {:ok, %{"action" => "decline"}}
      {:deny, _reason} -> {:ok, %{"action" => "decline"}}
      _ -> invalid(answer, @elicitation)
    end
  end

  def result(:user_input, %{"questions" => questions}, answers)
      when is_map(answers) and not is_struct(answers) do
    ids = for %{"id" => id} when is_binary(id) <- List.wrap(questions), do: id

    Enum.reduce_while(answers, {:ok, %{"answers" => %{}}}, fn {id, answer}, {:ok, result} ->
      id = if is_atom(id), do: Atom.to_string(id), else: id

      cond do
        id not in ids ->
          known = Enum.map_join(ids, ", ", &inspect/1)
          {:halt, invalid("answers by the ids of the questions: " <> known)}

        not strings?(List.wrap(answer)) ->
          {:halt, invalid("a string or a list of strings for each question")}

        true ->
          {:cont, {:ok, put_in(result["answers"][id], %{"answers" => List.wrap(answer)})}}
      end
    end)
  end

  def result(:user_input, _params, _answer),
    do: invalid("a map of answers by the ids of the questions")

  def result(:tool, _params, {:ok, output}) do
    case ToolOutput.content(output) do
      {:ok, items} -> {:ok, %{"contentItems" => Enum.map(items, &item/1), "success" => true}}
      {:error, _reason} -> invalid("{:ok, output}, with an output as `Codex.Tool` describes it")
    end
  end

  # Only a text is for the model.
  def result(:tool, _params, {:error, reason}) do
    text = if is_binary(reason), do: Text.utf8(reason), else: "the tool failed"
    {:ok, %{"contentItems" => [item(%{"text" => text})], "success" => false}}
  end

  def result(:tool, _params, _answer), do: invalid("{:ok, output} or {:error, reason}")

  def result(:time, _params, %DateTime{} = time),
    do: {:ok, %{"currentTimeAt" => DateTime.to_unix(time)}}

  def result(:time, _params, seconds) when is_integer(seconds),
    do: {:ok, %{"currentTimeAt" => seconds}}

  def result(:time, _params, _answer), do: invalid("a DateTime or seconds since 1970")

  def result(:attestation, _params, token) when is_binary(token), do: {:ok, %{"token" => token}}
  def result(:attestation, _params, _answer), do: invalid("a string")

  # The protocol checks the members.
  def result(:members, _params, answer) do
    case Type.pairs(answer) do
      {:ok, pairs} -> {:ok, Map.new(pairs)}
      :error -> invalid("a map or keyword list of the result")
    end
  end

  defp item(%{"text" => text}), do: %{"type" => "inputText", "text" => text}
  defp item(%{"image_url" => url}), do: %{"type" => "inputImage", "imageUrl" => url}

  # --- Decisions --------------------------------------------------------------------------------

  defp decision?(decision) when decision in [:allow, :deny, :cancel], do: true
  defp decision?({:allow, opts}), do: Approvals.options?(opts)
  defp decision?({:deny, _reason}), do: true
  defp decision?(_other), do: false

  defp decision(:allow), do: "accept"

  defp decision({:allow, opts}) do
    case Map.new(opts) do
      %{execpolicy_amendment: [_ | _] = words} ->
        %{"acceptWithExecpolicyAmendment" => %{"execpolicy_amendment" => words}}

      %{for_session: true} ->
        "acceptForSession"

      %{grant_root: root} when root not in [nil, false] ->
        "acceptForSession"

      _ ->
        "accept"
    end
  end

  defp decision(cancel) when cancel in [:cancel, {:deny, :cancel}, {:deny, "cancel"}],
    do: "cancel"

  defp decision(_denied), do: "decline"

  # Grants all permissions asked for, or none of them.
  defp permissions(:allow, params), do: granted(params, "turn")

  defp permissions({:allow, opts}, params),
    do: granted(params, if(Map.new(opts)[:for_session], do: "session", else: "turn"))

  defp permissions(_denied, _params), do: %{"permissions" => %{}, "scope" => "turn"}

  @kinds ["fileSystem", "network"]

  defp granted(params, scope) do
    permissions =
      case params["permissions"] do
        %{} = asked -> Map.take(asked, @kinds)
        _none -> %{}
      end

    %{"permissions" => permissions, "scope" => scope}
  end

  defp allow(opts, answer) do
    if decision?({:allow, opts}),
      do: {:ok, persist(accept(%{}), opts)},
      else: invalid(answer, @elicitation)
  end

  defp accept(content), do: %{"action" => "accept", "content" => content || %{}}

  # The server offers to remember an approval.
  defp persist(result, opts) do
    case Map.new(opts) do
      %{always: true} -> Map.put(result, "_meta", %{"persist" => "always"})
      %{for_session: true} -> Map.put(result, "_meta", %{"persist" => "session"})
      _ -> result
    end
  end

  # --- Errors -----------------------------------------------------------------------------------

  defp strings?(list),
    do: not List.improper?(list) and Enum.all?(list, &(is_binary(&1) and String.valid?(&1)))

  # Atoms and names of options are shown; other answers may be secrets.
  defp invalid(atom, expected) when is_atom(atom),
    do: {:error, OptionError.argument(:answer, atom, expected)}

  defp invalid({:allow, opts}, expected) when is_list(opts) or is_map(opts) do
    names = for {name, value} <- opts, not Approvals.options?([{name, value}]), do: name
    {:error, OptionError.argument(:answer, {:allow, names}, expected)}
  rescue
    _no_pairs -> invalid(expected)
  end

  defp invalid(_answer, expected), do: invalid(expected)
  defp invalid(expected), do: {:error, OptionError.argument(:answer, "[redacted]", expected)}
end
