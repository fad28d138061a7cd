defmodule Codex.Options.Table do
  @moduledoc false
  # The options of a run: `Codex.Options`, `Codex.Thread.Options` and the options of a turn, from
  # the rows of `Codex.Options.Rows`. Checks, documentation and the arguments of the CLI are made
  # from them.

  alias Codex.CLI.Since
  alias Codex.{DidYouMean, OptionError}
  alias Codex.Options.{Cast, Rows, Schema, Type}

  @type scope :: :global | :thread | :turn

  @all Schema.new(Rows.all())
  @global Schema.new(Rows.of(:global), places: true)
  @thread Schema.new(Rows.of(:thread), places: true)
  @turn Schema.new(Rows.of(:turn), places: true)

  defp schema(:global), do: @global
  defp schema(:thread), do: @thread
  defp schema(:turn), do: @turn

  @doc "Returns the rows of all options, or of one scope; `opts` has the facts of a row."
  @spec rows() :: [Schema.row()]
  def rows, do: @all.rows

  @spec rows(scope()) :: [Schema.row()]
  def rows(scope), do: schema(scope).rows

  @doc "Returns the defaults of all options."
  @spec defaults() :: map()
  def defaults, do: @all.defaults

  @doc "Returns fields and defaults of the struct of a scope."
  @spec defaults(scope()) :: keyword()
  def defaults(scope), do: for(row <- rows(scope), do: {row.name, row.default})

  @doc "Returns the options of a scope as a Markdown list."
  @spec docs(scope()) :: String.t()
  def docs(scope), do: Schema.docs(schema(scope))

  @doc """
  Checks the options of one scope. Returns only those that are set. nil stands for no options.
  """
  @spec check(scope(), term()) :: {:ok, map()} | {:error, OptionError.t()}
  def check(_scope, nil), do: {:ok, %{}}

  def check(scope, attrs) do
    with {:ok, attrs} <- attrs(attrs),
         {:ok, set} <- Schema.set(schema(scope), attrs, &Cast.cast/2),
         do: one_bundle(set)
  end

  @doc """
  Checks the fields of a struct that differ from the defaults. Those that are kept in a form for
  Rust, overrides and tables, are left as they are.
  """
  @spec check_struct(scope(), struct) :: {:ok, struct} | {:error, OptionError.t()}
        when struct: Codex.Options.t() | Codex.Thread.Options.t()
  def check_struct(scope, struct) do
    attrs =
      for row <- rows(scope),
          row.type != :overrides and not match?({:tables, _}, row.type),
          value <- [Map.fetch!(struct, row.name)],
          value != row.default,
          do: {row.name, value}

    with {:ok, set} <- check(scope, attrs), do: {:ok, Map.merge(struct, set)}
  end

  defp attrs(attrs) when attrs in [[], %{}], do: {:ok, []}

  defp attrs(attrs) do
    with {:ok, pairs} <- Schema.pairs(attrs),
         {:ok, attrs} <- Type.each(pairs, &attr/1),
         do: {:ok, Enum.concat(attrs)}
  end

  # `history: %{persistence: _, max_bytes: _}` is two options.
  defp attr({key, history}) when key in [:history, "history"] and history != nil do
    case Type.pairs(history) do
      {:ok, members} ->
        Type.each(members, &history/1)

      :error ->
        expected = "a map or keyword with persistence and max_bytes"
        {:error, OptionError.invalid(:history, history, expected)}
    end
  end

  defp attr({key, nil}) when key in [:history, "history"], do: {:ok, []}
  defp attr({model, ""}) when model in [:model, "model"], do: {:ok, []}

  # Former form: a tuple that also says whether the network is allowed.
  defp attr({sandbox, {:external_sandbox, _}}) when sandbox in [:sandbox, "sandbox"],
    do: {:ok, [{sandbox, :external_sandbox}]}

  defp attr(pair), do: {:ok, [pair]}

  defp history({name, value}) do
    case Type.name(name) do
      "persistence" ->
        {:ok, {:history_persistence, value}}

      max when max in ["max_bytes", "maxBytes"] ->
        {:ok, {:history_max_bytes, value}}

      _other ->
        nearest = DidYouMean.nearest(name, [:persistence, :max_bytes])
        expected = "one of :max_bytes, :persistence"

        {:error,
         OptionError.new(:unknown, [:history, name], nearest: nearest, expected: expected)}
    end
  end

  defp one_bundle(%{full_auto: true, dangerously_bypass_approvals_and_sandbox: true}),
    do: {:error, conflict()}

  defp one_bundle(set), do: {:ok, set}

  @doc "Returns the error of `full_auto` beside `dangerously_bypass_approvals_and_sandbox`."
  @spec conflict() :: OptionError.t()
  def conflict do
    expected = "left out beside dangerously_bypass_approvals_and_sandbox: true"
    OptionError.invalid(:full_auto, true, expected)
  end

  @doc "Inspects the struct of a scope: the options that are set, without secrets."
  def inspect(%module{} = struct, scope, opts) do
    shown =
      for row <- rows(scope),
          value <- [Map.fetch!(struct, row.name)],
          value != row.default do
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

  # Options of a tool may be credentials.
  defp shown(%{name: :tools}, entries) when is_list(entries) do
    for entry <- entries do
      case entry do
        {module, opts} -> {module, for({name, _value} <- opts, do: {name, "[redacted]"})}
        _module_or_name -> entry
      end
    end
  end

  defp shown(%{name: :redact}, patterns), do: Enum.map(patterns, fn _ -> "[redacted]" end)
  defp shown(row, value), do: if(row.opts[:secret], do: redact(value), else: value)

  # Names may be seen.
  defp redact(%{} = env), do: Map.new(env, fn {name, _} -> {name, "[redacted]"} end)

  defp redact(list) when is_list(list),
    do: Enum.map(list, &redact_override/1)

  defp redact(_value), do: "[redacted]"

  defp redact_override({path, _value}), do: Enum.join(path, ".") <> "=[redacted]"
  defp redact_override(raw), do: hd(String.split(raw, "=")) <> "=[redacted]"

  @doc "Returns a text for every option: its lists, its type, its form for the CLI, its meaning."
  @spec reach() :: [String.t()]
  def reach do
    for row <- rows() do
      lists = Enum.map_join(row.opts[:scopes], ", ", &(%{global: "client"}[&1] || &1))
      exec = exec_doc(row.opts[:exec])
      app = app_doc(row.opts[:app], row.opts[:exec])

      "`#{row.name}` (#{lists}) - #{String.trim_trailing(row.doc, ".")}. " <>
        "Type: #{row.opts[:expected]}. `codex exec`: #{exec}; app-server: #{app}."
    end
  end

  defp both_doc(:host), do: "in the SDK"
  defp both_doc(:hooks), do: "`-c hooks.…=…`"
  defp both_doc(:refused), do: "an error"
  defp both_doc({:always, value}), do: "always `#{value}`"
  defp both_doc(:input), do: "with the prompt"

  defp app_doc(param, _exec) when is_binary(param), do: "`#{param}`"
  defp app_doc(:config, exec), do: exec_doc(exec) |> String.replace("`-c ", "`config` `")
  defp app_doc(:trace, _exec), do: "`trace` of each request"
  defp app_doc(:connection, _exec), do: "that of the connection"
  defp app_doc(:overrides, _exec), do: "`config`"
  defp app_doc(:bundle, _exec), do: "`sandbox`, `approvalPolicy`"
  defp app_doc(how, _exec) when how in [:enable, :disable], do: "`config` `features.…=…`"
  defp app_doc(:web_search_enabled, _exec), do: "`config` `web_search=…`"
  defp app_doc(:mcp_servers, _exec), do: "`config` `mcp_servers.…=…`"
  defp app_doc(:model_providers, _exec), do: "`config` `model_providers.…=…`"
  defp app_doc(how, _exec), do: both_doc(how)

  defp exec_doc({:flag, flag}), do: "`#{flag} …`" <> since(flag)
  defp exec_doc({:each, flag}), do: "`#{flag} …` each" <> since(flag)
  defp exec_doc({kind, flag}) when kind in [:switch, :dangerous], do: "`#{flag}`" <> since(flag)
  defp exec_doc({:config, key}), do: "`-c #{key}=…`"
  defp exec_doc({:table, key}), do: "`-c #{key}.…=…`"
  defp exec_doc({:provider, key}), do: "`-c model_providers.<id>.#{key}=…`"
  defp exec_doc({:env, names}), do: "environment: #{Enum.map_join(names, ", ", &"`#{&1}`")}"
  defp exec_doc(:trace), do: "environment: `TRACEPARENT`, `TRACESTATE`"
  defp exec_doc(:overrides), do: "`-c …=…`"
  defp exec_doc(:tools), do: "`-c mcp_servers.host.…=…`"

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

  defp since(flag),
    do: if(version = Since.first(flag), do: " (CLI #{version} or newer)", else: "")
end
