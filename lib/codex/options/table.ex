defmodule Codex.Options.Table do
  @moduledoc false
  # Every option of a run, once. `Codex.Options`, `Codex.Thread.Options`, the options of a turn, their checks, their
  # documentation and the arguments of the CLI are folds over these rows.
  #
  # A row: name, where it may stand (`:global`, `:thread`, `:turn`; of a name that stands in several, the turn's value
  # wins over the thread's over the global one), type, documentation, and
  #
  #   * `default:` - instead of nil, which means: not set, the CLI decides
  #   * `also:`    - other names for the key
  #   * `exec:`    - how it reaches `codex exec`: `{:flag, "--x"}` with a value, `{:switch, "--x"}` when true,
  #     `{:each, "--x"}` once a value, `{:config, "a.b"}` as `--config a.b=<toml>`, `{:env, names}` in the environment,
  #     or the name of a function of `Codex.Exec.Args`
  #   * `secret:`  - never shown
  #   * `error:`   - the name in the error tuple instead of `invalid_<name>`

  @sandboxes [:default, :strict, :read_only, :workspace_write, :permissive, :danger_full_access]
  @approvals [:untrusted, :on_failure, :on_request, :never]
  @summaries [:auto, :concise, :detailed, :none]
  @levels [:low, :medium, :high]

  @rows [
    {:api_key, [:global], :string, "OpenAI API key; handed over in the environment",
     exec: {:env, ["CODEX_API_KEY", "OPENAI_API_KEY"]}, secret: true},
    {:base_url, [:global], :string,
     "base URL of the built-in provider; sent unless it is this default",
     default: "https://api.openai.com/v1", exec: :base_url},
    {:codex_path_override, [:global], :string,
     "the CLI; else `CODEX_PATH`, else `codex` on the PATH", also: [:codex_path]},
    {:codex_home, [:global], :string,
     "folder with config, login and sessions (`CODEX_HOME`); it must exist",
     exec: {:env, ["CODEX_HOME"]}},
    {:telemetry_prefix, [:global], :atoms, "first part of event names", default: [:codex]},
    {:profile, [:thread, :turn], :string, "name of a profile",
     also: [:config_profile], exec: {:flag, "--profile"}},
    {:oss, [:thread, :turn], :boolean, "use a local open-source provider",
     exec: {:switch, "--oss"}},
    {:local_provider, [:thread, :turn], :string, "`lmstudio` or `ollama`",
     also: [:oss_provider], exec: {:flag, "--local-provider"}},
    {:full_auto, [:thread, :turn], :boolean,
     "the CLI dropped `--full-auto`: sends `--sandbox workspace-write` and the approval policy `on-request`",
     exec: :full_auto},
    {:dangerously_bypass_approvals_and_sandbox, [:thread, :turn], :boolean,
     "run every command without asking and without sandbox",
     exec: {:switch, "--dangerously-bypass-approvals-and-sandbox"}},
    {:model, [:global, :thread], :string, "the model", exec: {:flag, "--model"}},
    {:color, [:thread, :turn], {:one_of, [:auto, :always, :never]},
     "colours in the CLI's own log", exec: {:flag, "--color"}},
    {:output_last_message, [:thread, :turn], :string, "file that gets the last message",
     exec: {:flag, "--output-last-message"}},
    {:sandbox, [:thread], {:one_of, @sandboxes},
     "what commands may write; `:default` sends nothing", default: :default, exec: :sandbox},
    {:working_directory, [:thread], :string, "where the agent works; relative to the VM's own",
     also: [:cd], exec: {:flag, "--cd"}},
    {:additional_directories, [:thread], {:list, :string}, "further folders that may be written",
     default: [], exec: {:each, "--add-dir"}},
    {:skip_git_repo_check, [:thread], :boolean, "run outside a Git repository",
     default: false, exec: {:switch, "--skip-git-repo-check"}},
    {:ephemeral, [:thread], :boolean, "write no session files; such a thread cannot be resumed",
     exec: {:switch, "--ephemeral"}},
    {:reasoning_effort, [:global, :thread], :word,
     "`:minimal`, `:low`, `:medium`, `:high`, … as the model has them",
     also: [:reasoning], exec: {:config, "model_reasoning_effort"}},
    {:model_reasoning_summary, [:global, :thread], {:one_of, @summaries},
     "how reasoning is summarised",
     also: [:reasoning_summary], exec: {:config, "model_reasoning_summary"}},
    {:model_verbosity, [:global, :thread], {:one_of, @levels}, "how much the model says",
     also: [:verbosity], exec: {:config, "model_verbosity"}},
    {:model_context_window, [:global, :thread], :positive, "tokens",
     also: [:context_window], exec: {:config, "model_context_window"}},
    {:model_provider, [:thread], :string, "id of a provider of the configuration",
     also: [:provider], exec: {:config, "model_provider"}},
    {:network_access_enabled, [:thread], :boolean,
     "network for commands in the workspace-write sandbox",
     exec: {:config, "sandbox_workspace_write.network_access"}},
    {:ask_for_approval, [:thread], {:one_of, @approvals},
     "when commands need approval; the CLI refuses `:untrusted` since 0.169", exec: :approval},
    {:attachments, [:thread], {:list, :image},
     "images that every turn gets: paths, or maps with a `:path`", default: [], error: :list},
    {:images, [:turn], {:list, :image}, "images for this turn: paths, or maps with a `:path`",
     error: :list},
    {:config_overrides, [:thread, :turn], :overrides,
     "any configuration, as map, keyword, `{key, value}` list or list of `\"key=value\"`; the turn's come last and win. Part of the arguments, which other users of the machine can see: no place for secrets",
     also: [:config_override], secret: true},
    {:output_schema, [:turn], :map, "JSON schema of the answer; the result has it decoded", []},
    {:env, [:global, :turn], :env, "variables for the CLI, as map or keyword; nil takes one away",
     secret: true},
    {:clear_env?, [:turn], :boolean,
     "start from an environment of HOME, USER, LOGNAME, PATH, LANG, LC_ALL, TMPDIR, CODEX_HOME and the XDG folders only",
     []},
    {:cancellation_token, [:turn], :string, "a name for `Codex.Exec.cancel/1`", []},
    {:timeout_ms, [:turn], :timeout,
     "how long the CLI may be silent, in ms; 3_600_000 where the call blocks, none where it streams",
     error: :timeout},
    {:stream_idle_timeout_ms, [:thread, :turn], :milliseconds,
     "the same where it streams, in ms; wins over `timeout_ms` there", []},
    {:exit_timeout_ms, [:turn], :milliseconds,
     "how long the CLI may take to exit after the end of the turn, in ms", default: 5_000},
    {:max_line_bytes, [:turn], :bytes, "what one line of the CLI's output may hold", []},
    {:metadata, [:thread], :map, "for the host; not sent", default: %{}},
    {:labels, [:thread], :map, "for the host; not sent", default: %{}},
    {:auto_run, [:thread], :boolean, "not used", default: false},
    {:transport, [:thread], {:one_of, [:exec]}, "`:exec`", default: :exec}
  ]

  alias Codex.Options.Overrides

  @type scope :: :global | :thread | :turn
  @type reason ::
          {:unknown_option, term(), atom() | nil}
          | {:invalid_map | :invalid_list, atom(), term()}
          | {atom(), term()}
          | :invalid_codex_path
          | :invalid_base_url
          | :conflicting_auto_flags

  @maps for {name, scopes, type, doc, opts} <- @rows,
            do: %{name: name, scopes: scopes, type: type, doc: doc, opts: opts}

  def rows, do: @maps

  for scope <- [:global, :thread, :turn] do
    rows = Enum.filter(@maps, &(scope in &1.scopes))

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
      for row <- rows(scope), value = Map.fetch!(struct, row.name), value != row.opts[:default] do
        {row.name, if(row.opts[:secret], do: redact(value), else: value)}
      end

    Inspect.Algebra.concat([
      "##{Kernel.inspect(module)}<",
      Inspect.Algebra.to_doc(shown, opts),
      ">"
    ])
  end

  # Names may be seen.
  defp redact(%{} = env), do: Map.new(env, fn {name, _} -> {name, "[redacted]"} end)

  defp redact(list) when is_list(list),
    do: Enum.map(list, &(hd(String.split(&1, "=")) <> "=[redacted]"))

  defp redact(_value), do: "[redacted]"

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

      "  * `:#{row.name}`#{also} - #{type_doc(row.type)}#{default}: #{row.doc}"
    end)
  end

  defp type_doc({:one_of, values}),
    do: "one of #{Enum.map_join(values, ", ", &"`#{inspect(&1)}`")}"

  defp type_doc({:list, _}), do: "list"
  defp type_doc(type) when type in [:positive, :milliseconds, :bytes], do: "positive integer"
  defp type_doc(:timeout), do: "positive integer or `:infinity`"
  defp type_doc(:word), do: "atom or string"
  defp type_doc(:atoms), do: "list of atoms"
  defp type_doc(:env), do: "map or keyword"
  defp type_doc(:overrides), do: "map or list"
  defp type_doc(type), do: Atom.to_string(type)

  @doc """
  Checks the options of one scope, given as map (atom or string keys), keyword list or nil. The result has only what
  was set.
  """
  @spec check(scope(), term()) :: {:ok, map()} | {:error, reason()}
  def check(scope, attrs) do
    names = names(scope)

    with {:ok, attrs} <- pairs(attrs) do
      Enum.reduce_while(attrs, {:ok, %{}}, fn {key, value}, {:ok, checked} ->
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
  defp pairs(%{} = map) when not is_struct(map), do: {:ok, Map.to_list(map)}

  defp pairs(list) when is_list(list) do
    if not List.improper?(list) and Enum.all?(list, &match?({_, _}, &1)),
      do: {:ok, list},
      else: {:error, {:invalid_options, first_odd(list)}}
  end

  defp pairs(other), do: {:error, {:invalid_options, other}}

  @doc "What keeps a list from being options; without the others, which may hold secrets."
  def first_odd([{_, _} | rest]), do: first_odd(rest)
  def first_odd([odd | _]), do: odd
  def first_odd(tail), do: tail

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
    known = for {_, row} <- names, uniq: true, do: row.name
    {:error, {:unknown_option, key, Codex.Suggest.nearest(key, known)}}
  end

  defp typed(_row, nil), do: :unset
  defp typed(%{name: :model}, ""), do: :unset
  defp typed(%{name: :codex_path_override}, ""), do: {:error, :invalid_codex_path}

  # The error names the override: its value, and the others, may be secrets.
  defp typed(%{type: :overrides, name: name}, value) do
    case Overrides.new(value) do
      {:ok, overrides} -> {:ok, name, overrides}
      {:error, which} -> {:error, {:invalid_config_overrides, which}}
    end
  end

  defp typed(%{name: :api_key} = row, value) when is_binary(value) do
    if String.valid?(value) and String.trim(value) == "", do: :unset, else: checked(row, value)
  end

  defp typed(row, value), do: checked(row, value)

  defp checked(row, value) do
    case cast(row.type, value) do
      {:ok, value} -> {:ok, row.name, value}
      :error -> {:error, invalid(row, value)}
    end
  end

  defp invalid(%{name: :base_url}, _value), do: :invalid_base_url
  defp invalid(%{type: :map, name: name}, value), do: {:invalid_map, name, value}
  defp invalid(%{type: {:list, _}, name: name}, value), do: {:invalid_list, name, value}

  defp invalid(%{opts: opts, name: name}, value),
    do: {:"invalid_#{opts[:error] || name}", if(opts[:secret], do: "[redacted]", else: value)}

  defp cast(:string, value) when is_binary(value) and value != "",
    do:
      if(String.valid?(value) and not String.contains?(value, "\0"),
        do: {:ok, value},
        else: :error
      )

  defp cast(:boolean, value) when is_boolean(value), do: {:ok, value}
  defp cast(:positive, value) when is_integer(value) and value > 0, do: {:ok, value}

  # The longest that the VM can wait: 49 days.
  defp cast(:milliseconds, value) when is_integer(value) and value in 1..0xFFFFFFFF,
    do: {:ok, value}

  defp cast(:bytes, value) when is_integer(value) and value in 1..0x7FFFFFFFFFFFFFFF,
    do: {:ok, value}

  defp cast(:timeout, :infinity), do: {:ok, :infinity}
  defp cast(:timeout, value), do: cast(:milliseconds, value)

  defp cast(:map, %{} = value), do: {:ok, value}

  defp cast(:atoms, [_ | _] = value),
    do: if(Enum.all?(value, &is_atom/1), do: {:ok, value}, else: :error)

  defp cast(:word, value) when is_atom(value) and not is_boolean(value),
    do: {:ok, Atom.to_string(value)}

  defp cast(:word, value), do: cast(:string, value)
  defp cast({:list, type}, values) when is_list(values), do: cast_all(values, &cast(type, &1))
  defp cast(:image, %{path: path}), do: cast(:string, path)
  defp cast(:image, path), do: cast(:string, path)

  # The CLI's own spelling is taken too, in any case.
  defp cast({:one_of, values}, value) when is_atom(value),
    do: if(value in values, do: {:ok, value}, else: :error)

  defp cast({:one_of, values}, value) when is_binary(value) do
    word = value |> String.downcase() |> String.replace("-", "_")

    with nil <- Enum.find(values, &(Atom.to_string(&1) == word)),
         do: :error,
         else: (found -> {:ok, found})
  end

  defp cast(:env, env) when is_map(env) or is_list(env) do
    with {:ok, pairs} <- pairs(env),
         {:ok, pairs} <- cast_all(pairs, &variable/1),
         do: {:ok, Map.new(pairs)},
         else: (_ -> :error)
  end

  defp cast(_type, _value), do: :error

  defp variable({name, value})
       when (is_atom(name) or is_binary(name)) and
              (is_nil(value) or is_binary(value) or is_atom(value) or is_number(value)) do
    name = to_string(name)
    value = if value != nil, do: to_string(value)

    if name == "" or String.contains?(name, ["=", "\0"]) or
         (value && String.contains?(value, "\0")),
       do: :error,
       else: {:ok, {name, value}}
  end

  defp variable(_other), do: :error

  defp cast_all(values, cast),
    do: if(List.improper?(values), do: :error, else: cast_each(values, cast))

  defp cast_each(values, cast) do
    Enum.reduce_while(values, {:ok, []}, fn value, {:ok, done} ->
      case cast.(value) do
        {:ok, value} -> {:cont, {:ok, [value | done]}}
        :error -> {:halt, :error}
      end
    end)
    |> case do
      {:ok, values} -> {:ok, Enum.reverse(values)}
      :error -> :error
    end
  end

  defp check_conflicts({:ok, %{full_auto: true, dangerously_bypass_approvals_and_sandbox: true}}),
    do: {:error, :conflicting_auto_flags}

  defp check_conflicts(result), do: result
end
