defmodule Codex.Options.Cast do
  @moduledoc false
  # The types of options: a value as the SDK keeps it, `:error`, or an error of its own.

  alias Codex.Config.Key
  alias Codex.{Models, Options.Keywords, Options.Overrides, Options.Sandbox}

  @type result :: {:ok, term()} | :error | {:error, {atom(), term()}}

  @spec cast(term(), term()) :: result()
  def cast(type, value) when type in [:string, :text] and is_binary(value) and value != "" do
    if String.valid?(value) and not String.contains?(value, "\0"), do: {:ok, value}, else: :error
  end

  def cast(:boolean, value) when is_boolean(value), do: {:ok, value}

  def cast(:positive, value) when is_integer(value) and value in 1..0x7FFFFFFFFFFFFFFF,
    do: {:ok, value}

  def cast(:count, value) when is_integer(value) and value in 0..0x7FFFFFFFFFFFFFFF,
    do: {:ok, value}

  # The longest that the VM can wait: 49 days.
  def cast(:milliseconds, value) when is_integer(value) and value in 1..0xFFFFFFFF,
    do: {:ok, value}

  def cast(:bytes, value), do: cast(:positive, value)
  def cast(:timeout, :infinity), do: {:ok, :infinity}
  def cast(:timeout, value), do: cast(:milliseconds, value)
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

  def cast(:transport, {:app_server, {:via, module, _} = name}) when is_atom(module),
    do: {:ok, {:app_server, name}}

  # What is wrong with a tool, its module's author wants to know.
  def cast(:tools, value) do
    if is_list(value) and not List.improper?(value),
      do: with(:ok <- tools(value, []), do: {:ok, value}),
      else: {:error, {:invalid_tools, "tools are a list of modules"}}
  end

  # The words of `ask_for_approval`, which turns also take under this name, are no policy.
  def cast(:policy, module) when is_atom(module) and module not in [nil, true, false] do
    if match?({:module, _}, Code.ensure_loaded(module)) and
         function_exported?(module, :review_tool, 3),
       do: {:ok, module},
       else: :error
  end

  def cast(:policy, policy),
    do: if(Codex.Approvals.policy?(policy), do: {:ok, policy}, else: :error)

  def cast(:on_event, fun) when is_function(fun, 1), do: {:ok, fun}

  def cast(:request_handler, fun) when is_function(fun, 1) or is_function(fun, 2), do: {:ok, fun}

  def cast(:request_handler, module) when is_atom(module) and module not in [nil, true, false] do
    if match?({:module, _}, Code.ensure_loaded(module)) and
         function_exported?(module, :handle_request, 2),
       do: {:ok, module},
       else: :error
  end

  def cast(:collaboration_mode, mode) when mode in [:plan, :default, "plan", "default"],
    do: {:ok, mode}

  def cast(:collaboration_mode, %{} = mode), do: {:ok, mode}

  def cast(:map, %{} = value), do: {:ok, value}
  def cast(:any, value), do: {:ok, value}
  def cast(:opts, value), do: with({:ok, _pairs} <- pairs(value), do: {:ok, value})

  def cast(:retry, value) when value in [:resume, "resume"], do: {:ok, :resume}
  def cast(:retry, value), do: cast(:boolean, value)

  # The error says what of them it is.
  def cast(:retry_opts, value),
    do: nested(Codex.Retry.Options.check(value), value, :invalid_retry_opts)

  def cast(:rate_limit_opts, value),
    do: nested(Codex.RateLimit.Options.check(value), value, :invalid_rate_limit_opts)

  def cast(:atoms, [_ | _] = value) do
    if not List.improper?(value) and Enum.all?(value, &is_atom/1), do: {:ok, value}, else: :error
  end

  # A value keeps its type: an atom is sent as its name.
  def cast(:word, value) when is_atom(value) and value not in [nil, true, false],
    do: {:ok, value}

  def cast(:word, value) when is_binary(value), do: cast(:string, String.trim(value))

  # The CLI takes any word; those that are known are taken in any spelling.
  def cast(:effort, value) do
    with {:ok, word} <- cast(:word, value) do
      case Models.Effort.parse(word) do
        {:ok, effort} when is_atom(word) -> {:ok, effort}
        {:ok, effort} -> {:ok, Atom.to_string(effort)}
        :error -> {:ok, word}
      end
    end
  end

  def cast(:ask_for_approval, {:granular, kinds}), do: granular(kinds)

  def cast(:ask_for_approval, policy) when is_atom(policy) or is_binary(policy),
    do: cast({:one_of, [:untrusted, :on_failure, :on_request, :never]}, policy)

  def cast(:ask_for_approval, policy) do
    case pairs(policy) do
      {:ok, [{key, kinds}]} -> if to_name(key) == "granular", do: granular(kinds), else: :error
      _ -> :error
    end
  end

  def cast({:list, type}, values) when is_list(values), do: all(values, &cast(type, &1))
  def cast(:image, %{path: path}), do: cast(:string, path)
  def cast(:image, path), do: cast(:string, path)

  # The CLI's own spelling is taken too, in any case.
  def cast({:one_of, values}, value) when is_atom(value),
    do: if(value in values, do: {:ok, value}, else: :error)

  def cast({:one_of, values}, value) when is_binary(value) do
    word = value |> String.downcase() |> String.replace("-", "_")

    with nil <- Enum.find(values, &(Atom.to_string(&1) == word)),
         do: :error,
         else: (found -> {:ok, found})
  end

  def cast(:env, env), do: members(env, &variable/1)

  # The error names the override: its value, and the others, may be secrets.
  def cast(:overrides, value) do
    with {:error, which} <- Overrides.new(value), do: {:error, {:invalid_config_overrides, which}}
  end

  # Tables by name, with text as keys all the way down. The error names the path: what stands there
  # may be a secret. nil is not set.
  def cast({:tables, key}, tables) do
    with {:ok, pairs} <- pairs(tables) do
      pairs = Enum.reject(pairs, &(elem(&1, 1) == nil))

      case all(pairs, &table(key, &1)) do
        {:ok, pairs} -> {:ok, Map.new(pairs)}
        {:error, path} -> {:error, {invalid(key), Key.format(path)}}
      end
    end
  end

  def cast(:flags, flags), do: members(flags, &flag/1)

  def cast(:sandbox_policy, type) when is_binary(type) or (is_atom(type) and type != nil),
    do: cast(:sandbox_policy, type: type)

  def cast(:sandbox_policy, policy), do: members(policy, &sandbox_member/1)

  def cast(:shell_environment_policy, policy),
    do: members(policy, fn {key, value} -> shell_member(to_name(key), value) end)

  def cast(_type, _value), do: :error

  defp tools([], _names), do: :ok

  defp tools([module | rest], names) do
    case Codex.Tool.new(module) do
      {:ok, %{name: name}} ->
        if name in names,
          do: {:error, {:invalid_tools, "two tools have the name #{name}"}},
          else: tools(rest, [name | names])

      {:error, text} ->
        {:error, {:invalid_tools, text}}
    end
  end

  defp nested({:ok, _checked}, value, _name), do: {:ok, value}
  defp nested({:error, reason}, _value, name), do: {:error, {name, reason}}

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
    with {:ok, kind} <- Map.fetch(@kinds, to_name(key)), do: {:ok, {kind, value}}
  end

  defp kind(_other), do: :error

  # A map or list of pairs, each cast by itself, as a map.
  defp members(value, cast) do
    with {:ok, pairs} <- pairs(value), {:ok, pairs} <- all(pairs, cast), do: {:ok, Map.new(pairs)}
  end

  @doc "A map or list of pairs as a list of pairs."
  def pairs(%{} = map) when not is_struct(map), do: {:ok, Map.to_list(map)}

  def pairs(list) when is_list(list) do
    if not List.improper?(list) and Enum.all?(list, &match?({_, _}, &1)),
      do: {:ok, list},
      else: :error
  end

  def pairs(_other), do: :error

  @doc "What keeps a list from being options; without the others, which may hold secrets."
  def first_odd([{_, _} | rest]), do: first_odd(rest)
  def first_odd([odd | _]), do: Keywords.redacted(odd)
  def first_odd(tail), do: Keywords.redacted(tail)

  defp to_name(key) when is_binary(key), do: key
  defp to_name(key) when is_atom(key) and key != nil, do: Atom.to_string(key)
  defp to_name(_key), do: nil

  defp variable({name, value})
       when is_nil(value) or is_binary(value) or is_atom(value) or is_number(value) do
    name = to_name(name)
    value = if value != nil, do: to_string(value)

    if name in [nil, ""] or String.contains?(name, ["=", "\0"]) or
         (value && String.contains?(value, "\0")),
       do: :error,
       else: {:ok, {name, value}}
  end

  defp variable(_other), do: :error

  defp invalid("mcp_servers"), do: :invalid_mcp_servers
  defp invalid("model_providers"), do: :invalid_model_providers

  defp table(key, {id, members}) do
    with id when is_binary(id) and id != "" <- to_name(id),
         {:ok, table} <- Overrides.at([key, id], members, :drop),
         {:table, members} <- table,
         :ok <- texts([key, id], members) do
      {:ok, {id, plain(table)}}
    else
      {:error, path} -> {:error, path}
      none when none in [nil, ""] -> {:error, [key]}
      _no_table -> {:error, [key, to_name(id)]}
    end
  end

  # Tables of texts. The CLI refuses other values, and prints them. It leaves out headers that it
  # cannot send.
  @texts ~w(env http_headers env_http_headers query_params)

  defp texts(path, members) do
    Enum.find_value(members, :ok, fn
      {name, {:table, members}} when name in @texts ->
        Enum.find_value(members, fn {key, value} ->
          cond do
            # The name may hold a secret: it is not shown.
            name == "http_headers" and not Overrides.header_name?(key) -> {:error, path ++ [name]}
            not text?(name, value) -> {:error, path ++ [name, key]}
            true -> nil
          end
        end)

      {"experimental_bearer_token" = name, token} ->
        unless Overrides.header_value?(token), do: {:error, path ++ [name]}

      {name, _other} when name in @texts ->
        {:error, path ++ [name]}

      _other ->
        nil
    end)
  end

  defp text?("http_headers", value), do: Overrides.header_value?(value)
  defp text?(_table, value), do: is_binary(value) and not String.contains?(value, "\0")

  # Back to maps: what is to be hidden is looked for by name.
  defp plain({:table, members}),
    do: Map.new(members, fn {name, value} -> {name, plain(value)} end)

  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(value), do: value

  defp flag({name, value}) when is_boolean(value) do
    case to_name(name) do
      name when name in [nil, ""] -> :error
      name -> {:ok, {name, value}}
    end
  end

  defp flag(_other), do: :error

  defp sandbox_member({key, value}) do
    name = key |> to_name() |> Kernel.||("") |> Macro.underscore()

    case {name, value} do
      {"type", type} when is_binary(type) or is_atom(type) ->
        mode = Sandbox.mode(type)
        if mode in Sandbox.modes(), do: {:ok, {:type, mode}}, else: :error

      {"writable_roots", roots} when is_list(roots) ->
        with {:ok, roots} <- all(roots, &cast(:string, &1)),
             do: {:ok, {:writable_roots, Enum.map(roots, &Path.expand/1)}}

      {"network_access", value} when value in [true, :enabled, "enabled"] ->
        {:ok, {:network_access, true}}

      {"network_access", value} when value in [false, :restricted, "restricted"] ->
        {:ok, {:network_access, false}}

      {name, value}
      when name in ["exclude_tmpdir_env_var", "exclude_slash_tmp"] and is_boolean(value) ->
        {:ok, {String.to_existing_atom(name), value}}

      _ ->
        :error
    end
  end

  defp shell_member("inherit", value) do
    with :error <- cast({:one_of, [:core, :all, :none]}, value),
         do: {:error, {:invalid_shell_environment_inherit, value}},
         else: ({:ok, v} -> {:ok, {"inherit", Atom.to_string(v)}})
  end

  defp shell_member("ignore_default_excludes", value) when is_boolean(value),
    do: {:ok, {"ignore_default_excludes", value}}

  defp shell_member("ignore_default_excludes", value),
    do: {:error, {:invalid_shell_environment_ignore_default_excludes, value}}

  defp shell_member(name, value) when name in ["exclude", "include_only"] do
    with true <- is_list(value),
         {:ok, list} <- all(value, &cast(:string, &1)),
         do: {:ok, {name, list}},
         else: (_ -> {:error, {:invalid_shell_environment_list, value}})
  end

  # Values of variables may be secrets.
  defp shell_member("set", value) do
    case cast(:env, value) do
      {:ok, env} ->
        if Enum.any?(env, &match?({_, nil}, &1)),
          do: {:error, {:invalid_shell_environment_set, "[redacted]"}},
          else: {:ok, {"set", env}}

      :error ->
        {:error, {:invalid_shell_environment_set, "[redacted]"}}
    end
  end

  defp shell_member(_name, _value), do: :error

  @doc "Casts each value of a list; the first that cannot be is the result."
  def all(values, cast), do: if(List.improper?(values), do: :error, else: each(values, cast, []))

  defp each([], _cast, done), do: {:ok, Enum.reverse(done)}

  defp each([value | rest], cast, done) do
    with {:ok, value} <- cast.(value), do: each(rest, cast, [value | done])
  end
end
