defmodule Codex.Options.Cast do
  @moduledoc false
  # The types that only options of a run have, beside those of `Codex.Options.Type`.

  alias Codex.OptionError
  alias Codex.Options.{Effort, Overrides, Sandbox, Schema, Type}
  alias Codex.SessionStore.Settings
  alias Codex.Telemetry.Trace

  @shell Schema.new([
           {:inherit, {:one_of, [:core, :all, :none]}, "the variables that commands inherit"},
           {:ignore_default_excludes, :boolean, "whether names like KEY and TOKEN are inherited"},
           {:exclude, {:list, :string}, "patterns of names that are not inherited", secret: true},
           {:include_only, {:list, :string}, "patterns of the only names that are inherited",
            secret: true},
           {:set, :variables, "further variables",
            secret: true, expected: "a map or keyword of variables and their values, not nil"}
         ])

  @of_tables "names and values that the CLI takes"

  import Codex.Options.Type, only: [each: 2, name: 1, pairs: 1]

  @type result :: {:ok, term()} | :error | {:error, String.t() | OptionError.t()}

  @doc "Returns the value as the SDK keeps it, or an error."
  @spec cast(Type.t(), term()) :: result()
  def cast(:transport, exec) when exec in [:exec, "exec"], do: {:ok, :exec}
  def cast(:transport, {:app_server, conn}) when is_pid(conn), do: {:ok, {:app_server, conn}}

  # A name, as `GenServer.call/2` takes it.
  def cast(:transport, {:app_server, name})
      when is_atom(name) and name not in [nil, true, false],
      do: {:ok, {:app_server, name}}

  def cast(:transport, {:app_server, {:global, _} = name}), do: {:ok, {:app_server, name}}

  def cast(:transport, {:app_server, {name, node} = server})
      when is_atom(name) and name not in [nil, :ok, :error] and is_atom(node),
      do: {:ok, {:app_server, server}}

  def cast(:transport, {:app_server, {:via, module, _} = name}),
    do: if(exports?(module, :whereis_name, 1), do: {:ok, {:app_server, name}}, else: :error)

  def cast(:transport, {:pool, pool}) do
    with {:ok, {:app_server, pool}} <- cast(:transport, {:app_server, pool}),
         do: {:ok, {:pool, pool}}
  end

  # A variable that is set to spaces must not become another login.
  def cast(:key, value) do
    with {:ok, key} <- Type.cast(:string, value),
         do: if(String.trim(key) == "", do: :error, else: {:ok, key})
  end

  def cast(:tools, value) do
    # `Codex.Options.Merge` checks the tools, because registered names may change until then.
    if is_list(value) and not List.improper?(value), do: {:ok, value}, else: :error
  end

  def cast(:hooks, value), do: Codex.Hooks.functions(value)
  def cast(:until, value), do: Codex.Hooks.Until.cast(value)
  def cast(:budget, value), do: Codex.Hooks.Budget.cast(value)
  def cast(:tee, value), do: Codex.Options.Tee.cast(value)
  def cast(:session_store, value), do: Settings.check(value)
  def cast(:redact, value), do: Codex.Redaction.cast(value)

  # The words of `ask_for_approval`, which turns also take under this name, are no policy.
  def cast(:policy, module) when is_atom(module),
    do: if(exports?(module, :review_tool, 3), do: {:ok, module}, else: :error)

  def cast(:policy, policy),
    do: if(Codex.Approvals.policy?(policy), do: {:ok, policy}, else: :error)

  def cast(:request_handler, fun) when is_function(fun, 1) or is_function(fun, 2), do: {:ok, fun}

  def cast(:request_handler, module),
    do: if(exports?(module, :handle_request, 2), do: {:ok, module}, else: :error)

  def cast(:collaboration_mode, mode) when mode in [:plan, :default, "plan", "default"],
    do: {:ok, mode}

  def cast(:collaboration_mode, mode) when is_map(mode) and not is_struct(mode), do: {:ok, mode}

  def cast(:opts, value), do: with({:ok, _pairs} <- pairs(value), do: {:ok, value})

  def cast(:output, value) do
    if (is_map(value) and not is_struct(value)) or Codex.Schema.source?(value),
      do: {:ok, value},
      else: :error
  end

  def cast(:retry, value) when value in [:resume, "resume"], do: {:ok, :resume}
  def cast(:retry, value), do: Type.cast(:boolean, value)

  def cast(:trace, false), do: {:ok, false}
  def cast(:trace, value), do: Trace.cast(value)

  def cast(:retry_opts, value), do: options(Codex.Retry.Options.check(value), value)
  def cast(:rate_limit_opts, value), do: options(Codex.RateLimit.Options.check(value), value)

  # A value keeps its type: an atom is sent as its name.
  def cast(:word, value) when is_atom(value) and value not in [nil, true, false],
    do: {:ok, value}

  def cast(:word, value) when is_binary(value), do: Type.cast(:string, String.trim(value))

  # The CLI takes any word; those that are known are taken in any spelling.
  def cast(:effort, value) do
    with {:ok, word} <- cast(:word, value) do
      case Effort.parse(word) do
        {:ok, effort} when is_atom(word) -> {:ok, effort}
        {:ok, effort} -> {:ok, Atom.to_string(effort)}
        :error -> {:ok, word}
      end
    end
  end

  def cast(:ask_for_approval, {:granular, kinds}), do: granular(kinds)

  def cast(:ask_for_approval, policy) when is_atom(policy) or is_binary(policy),
    do: Type.cast({:one_of, [:untrusted, :on_failure, :on_request, :never]}, policy)

  def cast(:ask_for_approval, policy) do
    case pairs(policy) do
      {:ok, [{key, kinds}]} -> if name(key) == "granular", do: granular(kinds), else: :error
      _ -> :error
    end
  end

  def cast({:list, :image}, images), do: images(images)

  # The error names the override: its value, and the others, may be secrets.
  def cast(:overrides, value) do
    case Overrides.new(value) do
      {:ok, overrides} ->
        {:ok, overrides}

      {:error, :not_an_override} ->
        :error

      {:error, key} ->
        {:error, OptionError.invalid([key], "[redacted]", "a value that TOML has a form for")}
    end
  end

  # Tables by name, with text as keys all the way down. The error names the path: the value there
  # may be a secret. nil is not set.
  def cast({:tables, key}, tables) do
    with {:ok, pairs} <- pairs(tables) do
      pairs = Enum.reject(pairs, &(elem(&1, 1) == nil))

      case each(pairs, &table(key, &1)) do
        {:ok, pairs} -> {:ok, Map.new(pairs)}
        {:error, [_key | path]} -> table_error(Overrides.visible(path))
      end
    end
  end

  def cast(:flags, flags), do: members(flags, &flag/1)

  def cast(:sandbox_policy, type) when is_binary(type) or (is_atom(type) and type != nil),
    do: cast(:sandbox_policy, type: type)

  def cast(:sandbox_policy, policy), do: members(policy, &sandbox_member/1)

  def cast(:shell_environment_policy, policy) do
    case Schema.set(@shell, policy, &cast/2) do
      {:ok, policy} -> {:ok, Map.new(policy, &shell_member/1)}
      {:error, %{reason: :not_options}} -> :error
      {:error, error} -> {:error, error}
    end
  end

  def cast(:variables, value) do
    with {:ok, env} <- Type.cast(:env, value),
         do: if(Enum.any?(env, &match?({_, nil}, &1)), do: :error, else: {:ok, env})
  end

  def cast(_type, _value), do: :error

  defp exports?(module, name, arity) do
    is_atom(module) and match?({:module, _}, Code.ensure_loaded(module)) and
      function_exported?(module, name, arity)
  end

  # The options stay as they are: the plan of a turn checks and completes them.
  defp options({:ok, _checked}, value), do: {:ok, value}
  defp options({:error, %{reason: :not_options}}, _value), do: :error
  defp options({:error, error}, _value), do: {:error, error}

  defp images(images) do
    if is_list(images) and not List.improper?(images), do: each(images, &image/1), else: :error
  end

  defp image(%{path: path}), do: Type.cast(:path, path)
  defp image(path), do: Type.cast(:path, path)

  @kinds %{
    "sandbox_approval" => :sandbox_approval,
    "rules" => :rules,
    "mcp_elicitations" => :mcp_elicitations,
    "skill_approval" => :skill_approval,
    "request_permissions" => :request_permissions
  }

  defp granular(kinds) do
    with {:ok, kinds} <- members(kinds, &kind/1),
         true <-
           Enum.all?([:sandbox_approval, :rules, :mcp_elicitations], &is_map_key(kinds, &1)),
         do: {:ok, %{granular: kinds}},
         else: (_ -> :error)
  end

  defp kind({key, value}) when is_boolean(value) do
    with {:ok, kind} <- Map.fetch(@kinds, name(key)), do: {:ok, {kind, value}}
  end

  defp kind(_other), do: :error

  # A map or list of pairs, each cast by itself, as a map.
  defp members(value, cast) do
    with {:ok, pairs} <- pairs(value),
         {:ok, pairs} <- each(pairs, cast),
         do: {:ok, Map.new(pairs)}
  end

  defp table_error([]), do: :error
  defp table_error(path), do: {:error, OptionError.invalid(path, "[redacted]", @of_tables)}

  defp table(key, {id, members}) do
    with id when is_binary(id) and id != "" <- name(id),
         {:ok, table} <- Overrides.at([key, id], members, :drop),
         {:table, members} <- table,
         :ok <- texts([key, id], members) do
      {:ok, {id, plain(table)}}
    else
      {:error, path} -> {:error, path}
      none when none in [nil, ""] -> {:error, [key]}
      _no_table -> {:error, [key, name(id)]}
    end
  end

  # Tables of texts. The CLI refuses other values, and prints them. It leaves out headers that it
  # cannot send.
  @texts ~w(env http_headers env_http_headers query_params)

  defp texts(path, members) do
    Enum.find_value(members, :ok, fn
      {name, {:table, members}} when name in @texts ->
        Enum.find_value(members, &text_error(path, name, &1))

      {"experimental_bearer_token" = name, token} ->
        unless Overrides.header_value?(token), do: {:error, path ++ [name]}

      {name, _other} when name in @texts ->
        {:error, path ++ [name]}

      _other ->
        nil
    end)
  end

  defp text_error(path, table, {name, value}) do
    cond do
      # The name may hold a secret: it is not shown.
      table == "http_headers" and not Overrides.header_name?(name) -> {:error, path ++ [table]}
      not text?(table, value) -> {:error, path ++ [table, name]}
      true -> nil
    end
  end

  defp text?("http_headers", value), do: Overrides.header_value?(value)
  defp text?(_table, value), do: is_binary(value) and not String.contains?(value, "\0")

  # Back to maps: secrets are found by their names.
  defp plain({:table, members}),
    do: Map.new(members, fn {name, value} -> {name, plain(value)} end)

  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(value), do: value

  defp shell_member({:inherit, word}), do: {"inherit", Atom.to_string(word)}
  defp shell_member({name, value}), do: {Atom.to_string(name), value}

  defp flag({name, value}) when is_boolean(value) do
    case name(name) do
      name when name in [nil, ""] -> :error
      name -> {:ok, {name, value}}
    end
  end

  defp flag(_other), do: :error

  defp sandbox_member({key, value}) do
    key |> name() |> Kernel.||("") |> Macro.underscore() |> sandbox_member(value)
  end

  defp sandbox_member("type", type) when is_binary(type) or is_atom(type) do
    mode = Sandbox.mode(type)
    if mode in Sandbox.modes(), do: {:ok, {:type, mode}}, else: :error
  end

  defp sandbox_member("writable_roots", roots) when is_list(roots) do
    with {:ok, roots} <- Type.cast({:list, :path}, roots),
         do: {:ok, {:writable_roots, Enum.map(roots, &Path.expand/1)}}
  end

  defp sandbox_member("network_access", value) when value in [true, :enabled, "enabled"],
    do: {:ok, {:network_access, true}}

  defp sandbox_member("network_access", value) when value in [false, :restricted, "restricted"],
    do: {:ok, {:network_access, false}}

  defp sandbox_member(name, value)
       when name in ["exclude_tmpdir_env_var", "exclude_slash_tmp"] and is_boolean(value),
       do: {:ok, {String.to_existing_atom(name), value}}

  defp sandbox_member(_name, _value), do: :error
end
