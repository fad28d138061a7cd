defmodule Codex.Options.Words do
  @moduledoc false
  # Sentences about options: what a type allows, and what is wrong with an option that was given.

  @rows Map.new(Codex.Options.Rows.all(), fn {name, _, _, _, _} = row -> {name, row} end)

  # The tags of errors, with the option that each is about.
  @invalid Map.new(@rows, fn {name, {_, _, _, _, facts}} ->
             {:"invalid_#{facts[:error] || name}", name}
           end)

  @granular "[granular: [sandbox_approval: boolean, rules: boolean, mcp_elicitations: boolean, " <>
              "skill_approval: boolean, request_permissions: boolean]], of which the first three " <>
              "are required"

  @doc "A type as the documentation calls it."
  @spec type(term()) :: String.t()
  def type({:one_of, values}), do: "one of #{Enum.map_join(values, ", ", &"`#{inspect(&1)}`")}"
  def type({:list, _}), do: "list"
  def type(type) when type in [:positive, :milliseconds, :bytes], do: "positive integer"
  def type(:count), do: "0 or a positive integer"
  def type(:timeout), do: "positive integer or `:infinity`"
  def type(type) when type in [:word, :effort], do: "atom or string"
  def type(:atoms), do: "list of atoms"

  def type({:tables, _key}), do: type(:env)

  def type(type) when type in [:env, :flags, :shell_environment_policy],
    do: "map or keyword"

  def type(type) when type in [:opts, :retry_opts, :rate_limit_opts], do: "map or keyword"
  def type(:retry), do: "boolean or `:resume`"
  def type(:tools), do: "list of modules"
  def type(:policy), do: "module, function or `Codex.Approvals.StaticPolicy`"
  def type(:request_handler), do: "function or module"
  def type(:on_event), do: "function"
  def type(:collaboration_mode), do: "`:plan`, `:default` or map"
  def type(:transport), do: "`:exec` or `{:app_server, conn}`"
  def type(:sandbox_policy), do: "map, keyword, or the type alone"

  def type(:ask_for_approval),
    do: "`:untrusted`, `:on_failure`, `:on_request`, `:never` or `[granular: keyword]`"

  def type(:overrides), do: "map or list"
  def type(:text), do: "string"
  def type(type), do: Atom.to_string(type)

  # What a value of a type must be, as a noun.
  defp expected(:ask_for_approval),
    do: ":untrusted, :on_failure, :on_request, :never or #{@granular}"

  defp expected(:sandbox_policy),
    do:
      "a map or keyword with type (read_only, workspace_write, danger_full_access or " <>
        "external_sandbox), writable_roots (a list of paths), network_access, " <>
        "exclude_tmpdir_env_var and exclude_slash_tmp (booleans)"

  defp expected(:shell_environment_policy),
    do: "a map or keyword with inherit, ignore_default_excludes, exclude, include_only and set"

  defp expected(:milliseconds), do: "a positive integer in milliseconds"
  defp expected(:timeout), do: "a positive integer in milliseconds or :infinity"
  defp expected(type) when type in [:string, :text], do: "a string that is not empty"
  defp expected(:on_event), do: "a function of arity 1"

  defp expected({:list, {:one_of, values}}),
    do: "a list of #{Enum.map_join(values, ", ", &inspect/1)}"

  defp expected({:list, :string}), do: "a list of strings"
  defp expected({:list, :image}), do: "a list of paths, or of maps with a :path"
  defp expected(:flags), do: "a map or keyword of names and booleans"
  defp expected({:tables, _key}), do: "a map or keyword of tables by name"
  defp expected(:env), do: "a map or keyword of variables and their values"

  defp expected(type) do
    text = type |> type() |> String.replace("`", "")

    case text do
      <<first, _::binary>> when first in [?:, ?0] -> text
      "one of" <> _ -> text
      <<first, _::binary>> when first in [?a, ?e, ?i, ?o, ?u] -> "an " <> text
      _ -> "a " <> text
    end
  end

  @shell %{
    invalid_shell_environment_inherit: {"inherit", "one of :core, :all, :none"},
    invalid_shell_environment_ignore_default_excludes: {"ignore_default_excludes", "a boolean"},
    invalid_shell_environment_list: {"exclude and include_only", "lists of strings"},
    invalid_shell_environment_set: {"set", "a map or keyword of variables and their values"}
  }

  @nested %{invalid_retry_opts: "Codex.Retry", invalid_rate_limit_opts: "Codex.RateLimit"}

  @places %{
    client:
      {"a client", "the first argument of Codex.start_thread/2 or Codex.AppServer.connect/2"},
    thread: {"a thread", "the second argument of Codex.start_thread/2"},
    turn: {"a turn", "the last argument of Codex.Thread.run/3"},
    connection: {"a connection", "the second argument of Codex.AppServer.connect/2"},
    remote: {"a remote connection", "the second argument of Codex.AppServer.connect_remote/2"},
    subscription: {"a subscription", "the second argument of Codex.AppServer.subscribe/2"},
    retry: {"retries", "the option retry_opts"},
    rate_limit: {"rate limits", "the option rate_limit_opts"}
  }

  @doc """
  A sentence about a reason that is about options, or nil.

      iex> alias Codex.Options.Words
      iex> Words.reason({:misplaced_option, :sandbox, [:thread]})
      "sandbox is an option of a thread: give it to the second argument of Codex.start_thread/2"
      iex> Words.reason({:invalid_retry, :again})
      "the option retry must be a boolean or :resume, got: :again"
      iex> Words.reason({:invalid_luck, 1})
      nil
  """
  @spec reason(term()) :: String.t() | nil
  def reason({:misplaced_option, key, [place]}) when is_map_key(@places, place) do
    {whose, where} = @places[place]
    "#{key(key)} is an option of #{whose}: give it to #{where}"
  end

  def reason({:misplaced_option, key, places}) do
    texts =
      for place <- List.wrap(places),
          {whose, where} <- [@places[place]],
          do: "#{whose} (#{where})"

    "#{key(key)} is an option of #{Enum.join(texts, ", or of ")}"
  end

  def reason({tag, path})
      when tag in [:invalid_mcp_servers, :invalid_model_providers] and path != "[redacted]",
      do: "#{path} cannot be set like this: a value, or a name in it, is of the wrong kind"

  def reason({:unsupported_option, :developer_instructions, :ignore_user_config}),
    do:
      "developer_instructions beyond 127 KiB stand in a profile, which the CLI does not read " <>
        "without the user's configuration (ignore_user_config, isolation)"

  def reason({:unsupported_option, :mcp_servers, path}),
    do:
      "#{path} would have to stand in the arguments of the CLI, where every user of the machine " <>
        "could read it: put it into config.toml"

  def reason({:unsupported_option, name, :resume}),
    do: "the option #{name} has no effect on a thread that is resumed" <> hint(name)

  def reason({:unsupported_option, :local_provider, :not_oss}),
    do: "the option local_provider has no effect without oss: true"

  def reason({:unsupported_option, :resume_all, :not_last}),
    do: "the option resume_all has no effect but with Codex.resume_thread(:last, …)"

  def reason({:unsupported_option, name, value}),
    do: "the option #{name} cannot be #{shown(value)} on this transport"

  def reason({:unsupported_option, name})
      when name in [:agent, :run_config, :backoff, :max_turns],
      do: "the option #{name} is for a loop over turns, and a call runs one turn: leave it out"

  def reason({:unsupported_option, :on_event}),
    do: "the option on_event is for calls that wait for the turn: read the events of the stream"

  def reason({:unsupported_option, name}),
    do: "the option #{key(name)} is not supported #{where(@rows[name])}" <> hint(name)

  def reason({:dangerous, name}), do: "the option #{name} needs dangerous: true beside it"

  def reason(:conflicting_auto_flags),
    do: "the options full_auto and dangerously_bypass_approvals_and_sandbox exclude each other"

  def reason(:invalid_base_url), do: "the option base_url must be a string that is not empty"

  def reason(:invalid_codex_path),
    do: "the option codex_path_override (also codex_path) must be a string that is not empty"

  def reason({:invalid_api_key, :empty}),
    do:
      "the option api_key is nil or empty: is the variable set that it comes from? Leave the " <>
        "option out to use the login of the home"

  # Values of the right type that do not exist, or cannot be used.
  def reason({:invalid_working_directory, path}) when is_binary(path) and path != "",
    do: "there is no folder #{shown(path)} to work in"

  def reason({:invalid_profile, name}) when is_binary(name) and name != "",
    do: "the file of the profile #{shown(name)} cannot be read, or is no TOML"

  def reason({:invalid_output_schema, {:not_encodable, value, path}}),
    do: "the option output_schema: #{shown(value)} at #{Enum.join(path, ".")} has no form in JSON"

  def reason({:invalid_output_schema, {:unreadable, path, words}}),
    do: "the file #{shown(path)} of the output schema cannot be read: #{words}"

  def reason({:invalid_access_token, :empty}),
    do: "the access token is nil or empty: is the variable set that it comes from?"

  # The former name, under which two options of `Codex.Exec.Options` and threads fail.
  def reason({:invalid_timeout, value}),
    do: "the option timeout_ms or approval_timeout_ms must be #{expected(:timeout)}" <> got(value)

  def reason({:invalid_tools, text}) when is_binary(text), do: "the option tools: #{text}"

  def reason({:invalid_config_overrides, :not_an_override}),
    do:
      "the options config and config_overrides must be a map, a keyword list, or a list of " <>
        "{key, value} or \"key=value\""

  def reason({:invalid_config_overrides, key}),
    do:
      "the configuration key #{inspect(key)} cannot be written, or its value has no form in TOML"

  def reason({tag, {:unknown_option, _, _} = inner})
      when tag in [:invalid_retry_opts, :invalid_rate_limit_opts],
      do: "the option #{name(tag)}: #{unknown(inner)}"

  def reason({tag, {:misplaced_option, _, _} = inner})
      when tag in [:invalid_retry_opts, :invalid_rate_limit_opts],
      do: "the option #{name(tag)}: #{reason(inner)}"

  def reason({tag, {option, value}}) when tag in [:invalid_retry_opts, :invalid_rate_limit_opts],
    do: "the option #{name(tag)}: #{option} cannot be #{shown(value)}: see #{@nested[tag]}"

  def reason({tag, value}) when is_map_key(@shell, tag) do
    {member, expected} = @shell[tag]
    "the option shell_environment_policy: #{member} must be #{expected}" <> got(value)
  end

  def reason({:invalid_map, name, value}), do: "the option #{name} must be a map" <> got(value)

  def reason({:invalid_list, name, value}) do
    type = with {_, _, type, _, _} <- @rows[name], do: type
    "the option #{name} must be #{expected(type || {:list, :any})}" <> got(value)
  end

  def reason({tag, value}) when is_atom(tag) do
    with %{^tag => name} <- @invalid, %{^name => {_, _, type, _, facts}} <- @rows do
      also = Enum.join((facts[:also] || []) ++ (facts[:turn_also] || []), ", ")
      also = if also == "", do: "", else: " (also #{also})"
      "the option #{name}#{also} must be #{expected(type)}" <> got(value)
    else
      _ -> nil
    end
  end

  def reason(_other), do: nil

  defp unknown({:unknown_option, key, nil}), do: "there is no option #{inspect(key)}"

  defp unknown({:unknown_option, key, nearest}),
    do: "there is no option #{inspect(key)}; did you mean #{inspect(nearest)}?"

  defp key(key) when is_atom(key), do: Atom.to_string(key)
  defp key(key) when is_binary(key) and byte_size(key) <= 64, do: Codex.Text.line(key)
  defp key(key), do: shown(key)

  defp name(tag), do: tag |> Atom.to_string() |> String.replace_prefix("invalid_", "")

  defp hint(name) do
    with {_, _, _, _, facts} <- @rows[name], hint when is_binary(hint) <- facts[:hint] do
      ": " <> hint
    else
      _ -> ""
    end
  end

  # Which transport refuses an option whatever its value.
  defp where({_, _, _, _, facts}) do
    case {refused?(facts[:exec]), refused?(facts[:app])} do
      {true, false} -> "by codex exec"
      {false, true} -> "over an app-server"
      {true, true} -> "by this version of the CLI"
      {false, false} -> "here"
    end
  end

  defp where(nil), do: "here"

  defp refused?(:refused), do: true
  defp refused?({:always, _}), do: true
  defp refused?(_how), do: false

  defp got(value), do: ", got: #{shown(value)}"
  defp shown("[redacted]"), do: "[redacted]"
  defp shown(value), do: inspect(value, limit: 10, printable_limit: 200)
end
