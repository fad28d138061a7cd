defmodule Codex.Options.Table do
  @moduledoc false
  # Every option of a run, once. `Codex.Options`, `Codex.Thread.Options`, the options of a turn, their checks, their
  # documentation and the arguments of the CLI are folds over the rows of `Codex.Options.Rows`.

  @rows Codex.Options.Rows.all()

  alias Codex.Options.{Cast, Unknown, Words}

  @type scope :: :global | :thread | :turn
  @type reason ::
          Unknown.reason()
          | {:invalid_map | :invalid_list, atom(), term()}
          | {atom(), term()}
          | :invalid_codex_path
          | :invalid_base_url
          | :conflicting_auto_flags

  @maps for {name, scopes, type, doc, opts} <- @rows,
            do: %{name: name, scopes: scopes, type: type, doc: doc, opts: opts}

  def rows, do: @maps

  for scope <- [:global, :thread, :turn] do
    rows =
      for row <- @maps, scope in row.scopes do
        {turn_also, opts} = Keyword.pop(row.opts, :turn_also, [])
        also = (opts[:also] || []) ++ if(scope == :turn, do: turn_also, else: [])
        %{row | opts: if(also == [], do: opts, else: Keyword.put(opts, :also, also))}
      end

    names =
      for row <- rows,
          name <- [row.name | row.opts[:also] || []],
          into: %{},
          do: {Atom.to_string(name), row}

    def rows(unquote(scope)), do: unquote(Macro.escape(rows))
    defp names(unquote(scope)), do: unquote(Macro.escape(names))
  end

  @doc "Fields and defaults of a struct of this scope."
  def defaults(scope), do: for(row <- rows(scope), do: {row.name, row.opts[:default]})

  @doc "How a struct of a scope is inspected: what is set, without secrets."
  def inspect(%module{} = struct, scope, opts) do
    shown =
      for row <- rows(scope),
          value <- [Map.fetch!(struct, row.name)],
          value != row.opts[:default] do
        {row.name, shown(row, value)}
      end

    Inspect.Algebra.concat([
      "##{Kernel.inspect(module)}<",
      Inspect.Algebra.to_doc(shown, opts),
      ">"
    ])
  end

  # Of a policy, the values of variables are hidden.
  defp shown(%{name: :shell_environment_policy}, %{} = policy) do
    for {key, value} <- policy, into: %{} do
      {key, if(to_string(key) == "set" and is_map(value), do: redact(value), else: value)}
    end
  end

  # What the host keeps may be anything.
  defp shown(%{name: name}, value) when name in [:metadata, :labels], do: redact(value)
  defp shown(row, value), do: if(row.opts[:secret], do: redact(value), else: value)

  # Names may be seen.
  defp redact(%{} = env), do: Map.new(env, fn {name, _} -> {name, "[redacted]"} end)

  defp redact(list) when is_list(list),
    do: Enum.map(list, &redact_override/1)

  defp redact(_value), do: "[redacted]"

  defp redact_override({path, _value}), do: Enum.join(path, ".") <> "=[redacted]"
  defp redact_override(raw), do: hd(String.split(raw, "=")) <> "=[redacted]"

  @doc "The documentation of a scope as a Markdown list."
  def docs(scope) do
    Enum.map_join(rows(scope), "\n", fn row ->
      default =
        if row.opts[:default] in [nil, [], %{}],
          do: "",
          else: ", default `#{inspect(row.opts[:default])}`"

      also =
        if row.opts[:also],
          do: " (also #{Enum.map_join(row.opts[:also], ", ", &"`:#{&1}`")})",
          else: ""

      "  * `:#{row.name}`#{also} - #{Words.type(row.type)}#{default}: #{row.doc}"
    end)
  end

  @doc "Every option and its reach as a Markdown table."
  def reach do
    rows =
      for row <- rows() do
        [
          "`#{row.name}`",
          Enum.map_join(
            row.scopes,
            ", ",
            &%{global: "client", thread: "thread", turn: "turn"}[&1]
          ),
          Words.type(row.type),
          exec_doc(row.opts[:exec]),
          app_doc(row.opts[:app], row.opts[:exec]),
          row.doc
        ]
      end

    header = ["option", "where", "type", "`codex exec`", "app-server", "what it is"]
    lines = [header, List.duplicate("---", 6) | rows]

    Enum.map_join(
      lines,
      "\n",
      &("| " <> Enum.map_join(&1, " | ", fn cell -> String.replace(cell, "|", "\\|") end) <> " |")
    )
  end

  defp both_doc(:host), do: "in the SDK"
  defp both_doc(:refused), do: "an error"
  defp both_doc({:always, value}), do: "always `#{value}`"
  defp both_doc(:input), do: "with the prompt"

  defp app_doc(param, _exec) when is_binary(param), do: "`#{param}`"
  defp app_doc(:config, exec), do: exec_doc(exec) |> String.replace("`-c ", "`config` `")
  defp app_doc(:connection, _exec), do: "that of the connection"
  defp app_doc(:overrides, _exec), do: "`config`"
  defp app_doc(:bundle, _exec), do: "`sandbox`, `approvalPolicy`"
  defp app_doc(how, _exec) when how in [:enable, :disable], do: "`config` `features.…=…`"
  defp app_doc(:web_search_enabled, _exec), do: "`config` `web_search=…`"
  defp app_doc(:mcp_servers, _exec), do: "`config` `mcp_servers.…=…`"
  defp app_doc(:model_providers, _exec), do: "`config` `model_providers.…=…`"
  defp app_doc(how, _exec), do: both_doc(how)

  defp exec_doc({:flag, flag}), do: "`#{flag} …`"
  defp exec_doc({:each, flag}), do: "`#{flag} …` each"
  defp exec_doc({kind, flag}) when kind in [:switch, :dangerous], do: "`#{flag}`"
  defp exec_doc({:config, key}), do: "`-c #{key}=…`"
  defp exec_doc({:table, key}), do: "`-c #{key}.…=…`"
  defp exec_doc({:provider, key}), do: "`-c model_providers.<id>.#{key}=…`"
  defp exec_doc({:env, names}), do: "environment: #{Enum.map_join(names, ", ", &"`#{&1}`")}"
  defp exec_doc(:overrides), do: "`-c …=…`"

  defp exec_doc(:isolation),
    do: "`--ignore-user-config`, `--ignore-rules`, `-c project_doc_max_bytes=0`"

  defp exec_doc(:base_url), do: "`-c openai_base_url=…`"
  defp exec_doc(:base_instructions), do: "`-c instructions=…`, `-c model_instructions_file=…`"
  defp exec_doc(:sandbox), do: "`--sandbox …`"
  defp exec_doc(:sandbox_policy), do: "`--sandbox …`, `-c sandbox_workspace_write.…=…`"
  defp exec_doc(:approval), do: "`-c approval_policy=…`"
  defp exec_doc(:full_auto), do: "`--sandbox workspace-write`, `-c approval_policy=…`"
  defp exec_doc(:web_search_enabled), do: "`-c web_search=…`"
  defp exec_doc(:resume_all), do: "`resume --last --all`"

  defp exec_doc(:mcp_servers), do: "`-c mcp_servers.…=…`, a file, environment"
  defp exec_doc(:model_providers), do: "`-c model_providers.…=…`, environment"

  defp exec_doc(how), do: both_doc(how)

  @doc """
  Checks the options of one scope, given as map (atom or string keys), keyword list or nil. The result has only what
  was set.
  """
  @spec check(scope(), term()) :: {:ok, map()} | {:error, reason()}
  def check(scope, attrs) do
    names = names(scope)

    with {:ok, attrs} <- pairs(attrs) do
      attrs
      |> Enum.flat_map(&spread/1)
      |> Enum.reduce_while({:ok, %{}}, fn {key, value}, {:ok, checked} ->
        case check_one(names, key, value) do
          :unset -> {:cont, {:ok, checked}}
          {:ok, name, value} -> {:cont, {:ok, Map.put(checked, name, value)}}
          {:error, reason} -> {:halt, {:error, reason}}
        end
      end)
    end
    |> check_conflicts()
  end

  defp pairs(nil), do: {:ok, []}

  defp pairs(attrs) do
    with :error <- Cast.pairs(attrs), do: {:error, {:invalid_options, first_odd(attrs)}}
  end

  # `history: %{persistence: _, max_bytes: _}` is two options.
  defp spread({key, %{} = history}) when key in [:history, "history"] do
    for {name, value} <- history do
      case to_string(name) do
        "persistence" -> {:history_persistence, value}
        max when max in ["max_bytes", "maxBytes"] -> {:history_max_bytes, value}
        _ -> {name, value}
      end
    end
  end

  defp spread(pair), do: [pair]

  @doc false
  defdelegate first_odd(list), to: Cast

  defp check_one(names, key, value) when is_atom(key),
    do: check_one(names, Atom.to_string(key), value, key)

  defp check_one(names, key, value) when is_binary(key), do: check_one(names, key, value, key)
  defp check_one(names, key, _value), do: unknown(key, names)

  defp check_one(names, name, value, key) do
    case names do
      %{^name => row} -> typed(row, value)
      _ -> unknown(key, names)
    end
  end

  defp unknown(key, names) do
    known =
      for {_, row} <- names, name <- [row.name | row.opts[:also] || []], uniq: true, do: name

    {:error, Unknown.reason(key, known)}
  end

  # A variable that is not set must not become a run with another login.
  defp typed(%{name: :api_key}, nil), do: {:error, {:invalid_api_key, :empty}}
  defp typed(_row, nil), do: :unset
  defp typed(%{name: :model}, ""), do: :unset
  defp typed(%{name: :codex_path_override}, ""), do: {:error, :invalid_codex_path}

  defp typed(%{name: :api_key} = row, value) when is_binary(value) do
    if String.valid?(value) and String.trim(value) == "",
      do: {:error, {:invalid_api_key, :empty}},
      else: checked(row, value)
  end

  # Former form: a tuple that also says what the network may do.
  defp typed(%{name: :sandbox} = row, {:external_sandbox, _}), do: checked(row, :external_sandbox)
  defp typed(row, value), do: checked(row, value)

  defp checked(row, value) do
    case Cast.cast(row.type, value) do
      {:ok, value} -> {:ok, row.name, value}
      :error -> {:error, invalid(row, value)}
      {:error, reason} -> {:error, nested(row, reason, value)}
    end
  end

  # Options inside of an option.
  defp nested(_row, {tag, {:unknown_option, key, _nearest}}, _value) do
    rows = if tag == :invalid_retry_opts, do: Codex.Retry.Options, else: Codex.RateLimit.Options
    {tag, Unknown.reason(key, Enum.map(rows.rows(), &elem(&1, 0)))}
  end

  defp nested(%{name: :config}, {:invalid_config_overrides, :not_an_override}, value)
       when not is_list(value),
       do: {:invalid_map, :config, "[redacted]"}

  defp nested(_row, reason, _value), do: reason

  defp invalid(%{name: :base_url}, _value), do: :invalid_base_url
  defp invalid(%{type: :map, name: name}, value), do: {:invalid_map, name, value}
  defp invalid(%{type: {:list, _}, name: name}, value), do: {:invalid_list, name, value}

  defp invalid(%{opts: opts, name: name}, value),
    do: {:"invalid_#{opts[:error] || name}", if(opts[:secret], do: "[redacted]", else: value)}

  defp check_conflicts({:ok, %{full_auto: true, dangerously_bypass_approvals_and_sandbox: true}}),
    do: {:error, :conflicting_auto_flags}

  defp check_conflicts(result), do: result
end
