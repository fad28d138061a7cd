defmodule Codex.AppServer.Answer do
  @moduledoc false
  # What a user answers to a request of the server, as it goes over the wire. Pure.

  alias Codex.AppServer.ApprovalDecision
  alias Codex.Tool

  @type wire :: {:ok, map()} | {:error, map()}
  @type reason :: {:invalid_option, :answer, term(), String.t()}

  @decision "a decision: :allow, {:allow, options}, {:deny, reason} or :cancel; options: for_session, grant_root, execpolicy_amendment, always"
  @elicitation "{:accept, content}, :accept, :decline, :cancel, or " <> @decision
  @decisions ~w(item/commandExecution/requestApproval item/fileChange/requestApproval)

  @doc """
  The result or the error for the server.

      iex> alias Codex.AppServer.Answer
      iex> params = %{"questions" => [%{"id" => "color"}]}
      iex> Answer.wire("item/tool/requestUserInput", params, %{"color" => "red"})
      {:ok, {:ok, %{"answers" => %{"color" => %{"answers" => ["red"]}}}}}
      iex> Answer.wire("item/tool/requestUserInput", params, %{"colour" => "red"})
      {:error, {:invalid_option, :answer, "[redacted]", "answers by the ids of the questions: \\"color\\""}}
      iex> Answer.wire("mcpServer/elicitation/request", %{}, {:accept, %{"name" => "Joe"}})
      {:ok, {:ok, %{"action" => "accept", "content" => %{"name" => "Joe"}}}}
      iex> Answer.wire("currentTime/read", %{}, ~U[2026-01-01 00:00:00Z])
      {:ok, {:ok, %{"currentTimeAt" => 1767225600}}}
      iex> Answer.wire("item/fileChange/requestApproval", %{}, :perhaps)
      {:error,
       {:invalid_option, :answer, :perhaps,
        "a decision: :allow, {:allow, options}, {:deny, reason} or :cancel; options: for_session, grant_root, execpolicy_amendment, always"}}
  """
  @spec wire(String.t(), map(), term()) :: {:ok, wire()} | {:error, reason()}
  def wire(_method, _params, {:error, %{"code" => _, "message" => _}} = error), do: {:ok, error}

  def wire(method, params, answer) do
    with {:ok, result} <- result(method, params, answer), do: {:ok, {:ok, result}}
  end

  defp result(method, _params, decision) when method in @decisions do
    if decision?(decision),
      do: {:ok, %{"decision" => ApprovalDecision.from_hook(decision)}},
      else: invalid(decision, @decision)
  end

  defp result("item/permissions/requestApproval", params, decision) do
    if decision?(decision),
      do: {:ok, ApprovalDecision.permissions(decision, params)},
      else: invalid(decision, @decision)
  end

  # The approval of a tool of an MCP server comes as one, too.
  defp result("mcpServer/elicitation/request", _params, answer) do
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

  defp result("item/tool/requestUserInput", %{"questions" => questions}, answers)
       when is_map(answers) and not is_struct(answers) do
    ids = for %{"id" => id} when is_binary(id) <- List.wrap(questions), do: id

    Enum.reduce_while(answers, {:ok, %{"answers" => %{}}}, fn {id, answer}, {:ok, result} ->
      id = if is_atom(id), do: Atom.to_string(id), else: id

      cond do
        id not in ids ->
          known = Enum.map_join(ids, ", ", &inspect/1)
          {:halt, invalid("answers by the ids of the questions: " <> known)}

        not texts?(List.wrap(answer)) ->
          {:halt, invalid("a text or a list of texts for each question")}

        true ->
          {:cont, {:ok, put_in(result["answers"][id], %{"answers" => List.wrap(answer)})}}
      end
    end)
  end

  defp result("item/tool/requestUserInput", _params, _answer),
    do: invalid("a map of answers by the ids of the questions")

  defp result("item/tool/call", _params, answer) do
    case answer do
      {:ok, output} -> {:ok, Tool.content(output, true)}
      {:error, reason} -> {:ok, Tool.content(reason, false)}
      _ -> invalid("{:ok, output} or {:error, reason}")
    end
  end

  defp result("currentTime/read", _params, %DateTime{} = time),
    do: {:ok, %{"currentTimeAt" => DateTime.to_unix(time)}}

  defp result("currentTime/read", _params, seconds) when is_integer(seconds),
    do: {:ok, %{"currentTimeAt" => seconds}}

  defp result("currentTime/read", _params, _answer),
    do: invalid("a DateTime or seconds since 1970")

  defp result("attestation/generate", _params, token) when is_binary(token),
    do: {:ok, %{"token" => token}}

  defp result("attestation/generate", _params, _answer), do: invalid("a text")

  # Tokens, and what is not known: the members of the result, checked against the protocol.
  defp result(_method, _params, answer) do
    case Codex.Options.Cast.pairs(answer) do
      {:ok, pairs} -> {:ok, Map.new(pairs)}
      :error -> invalid("a map or keyword list of the result")
    end
  end

  defp allow(opts, answer) do
    if decision?({:allow, opts}),
      do: {:ok, persist(accept(%{}), opts)},
      else: invalid(answer, @elicitation)
  end

  defp decision?(decision) when decision in [:allow, :deny, :cancel], do: true
  defp decision?({:allow, opts}), do: ApprovalDecision.options?(opts)
  defp decision?({:deny, _reason}), do: true
  defp decision?(_other), do: false

  defp accept(content), do: %{"action" => "accept", "content" => content || %{}}

  # What the server offers to remember (0.169).
  defp persist(result, opts) do
    case Map.new(opts) do
      %{always: true} -> Map.put(result, "_meta", %{"persist" => "always"})
      %{for_session: true} -> Map.put(result, "_meta", %{"persist" => "session"})
      _ -> result
    end
  end

  defp texts?(texts),
    do: not List.improper?(texts) and Enum.all?(texts, &(is_binary(&1) and String.valid?(&1)))

  # A word is shown; what else somebody answered may be a secret.
  defp invalid(word, expected) when is_atom(word),
    do: {:error, {:invalid_option, :answer, word, expected}}

  # Names of options are none.
  defp invalid({:allow, opts}, expected) when is_list(opts) or is_map(opts) do
    odd = for {name, value} <- opts, not ApprovalDecision.options?([{name, value}]), do: name
    {:error, {:invalid_option, :answer, {:allow, odd}, expected}}
  rescue
    _no_pairs -> invalid(expected)
  end

  defp invalid(_answer, expected), do: invalid(expected)
  defp invalid(expected), do: {:error, {:invalid_option, :answer, "[redacted]", expected}}
end
