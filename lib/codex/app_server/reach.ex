defmodule Codex.AppServer.Reach do
  @moduledoc false
  # How each option of a thread and of a turn reaches the app-server: as parameters of `thread/start` and `turn/start`, and as
  # `config` of the thread. Pure; one pass over the table.

  alias Codex.{AppServer, Native, Protocol, Tool}
  alias Codex.AppServer.{Calls, Params}
  alias Codex.Options.{Overrides, Table}

  @threads ~w(thread/start thread/resume thread/fork)
  @modes ~w(read-only workspace-write danger-full-access)

  # The CLI refuses to change these (0.169).
  @built_in ~w(openai ollama lmstudio amazon-bedrock)

  # Options of these kinds are the configuration of a thread, which no turn can change.
  @configuring [:config, :overrides, :enable, :disable]

  defstruct params: %{}, config: []

  @typedoc "Parameters of the thread's methods by name, and of `turn/start`, but for thread and input; experimental ones, by name."
  @type t :: %{
          threads: %{String.t() => map()},
          turn: map(),
          experimental: %{String.t() => [String.t()]}
        }

  @type reason ::
          Codex.Exec.Reach.reason()
          | {:invalid_config_overrides, String.t()}
          | {:invalid_output_schema, {:not_encodable, term(), list()}}
          | AppServer.reason()

  @doc "What these settings send (see `Codex.Exec.Reach.settings/3`); `turn` are those of the turn alone."
  @spec all(map(), map()) :: {:ok, t()} | {:error, reason()}
  def all(settings, turn) do
    with :ok <- no_env(turn),
         {:ok, settings} <- bundles(settings, turn),
         {:ok, sent} <- fold(settings),
         {sandbox, as_config} = of_thread(settings),
         told =
           settings.below ++
             sent.config ++ as_config ++ settings.config ++ settings.config_overrides,
         {:ok, config} <- config(told),
         {:ok, schema} <- schema(settings.output_schema),
         thread = Map.merge(sent.params, sandbox),
         thread = if(config == %{}, do: thread, else: Map.put(thread, "config", config)),
         {:ok, threads} <- threads(thread),
         {:ok, {turn, uses}} <- turn(sent.params, schema, settings) do
      uses =
        Map.put(Map.new(threads, fn {name, {_, uses}} -> {name, uses} end), "turn/start", uses)

      threads = Map.new(threads, fn {name, {params, _}} -> {name, params} end)
      {:ok, %{threads: threads, turn: turn, experimental: uses}}
    end
  end

  @doc """
  Checks the options of a thread before a turn is there: what no turn of this thread could send.
  """
  @spec check(Codex.Options.t(), Codex.Thread.Options.t()) :: :ok | {:error, reason()}
  def check(global, thread) do
    settings = Codex.Exec.Reach.settings(global, thread, %{})
    with {:ok, _reach} <- all(settings, %{}), do: :ok
  end

  # What `turn/start` takes by name and the methods of threads do not: as they take it. A review has nothing else to go by.
  defp of_thread(settings) do
    named = [
      {"model_reasoning_effort", settings.reasoning_effort},
      {"model_reasoning_summary", settings.model_reasoning_summary}
    ]

    named = for {key, value} <- named, value != nil, do: set([key], to_string(value))
    {type, details} = Map.pop(settings.sandbox_policy || %{}, :type)

    details =
      for {name, value} <- details, do: set(["sandbox_workspace_write", to_string(name)], value)

    sandbox = if type in @modes, do: %{"sandbox" => type}, else: %{}
    {sandbox, named ++ details}
  end

  @doc "What a review cannot be told in any way, by the name of its option, or nil."
  @spec not_of_review(map(), map()) :: atom() | nil
  def not_of_review(settings, turn) do
    cond do
      option = of_turn(turn) -> option
      settings.collaboration_mode != nil -> :collaboration_mode
      match?(%{type: "external-sandbox"}, settings.sandbox_policy) -> :sandbox_policy
      true -> nil
    end
  end

  @doc """
  The option of a turn that only the start of a thread could send, or nil: a loaded thread keeps
  its configuration.
  """
  @spec not_of_loaded(map()) :: atom() | nil
  def not_of_loaded(turn) do
    configuring = for row <- Table.rows(:turn), row.opts[:app] in @configuring, do: row.name
    Enum.find(configuring, &(turn[&1] not in [nil, [], %{}]))
  end

  # Of a turn, those that say how it runs.
  defp of_turn(turn) do
    reaching = for row <- Table.rows(:turn), row.opts[:app] != :host, do: row.name
    Enum.find(reaching, &(turn[&1] not in [nil, [], %{}]))
  end

  # The server runs already.
  defp no_env(%{env: env}) when env not in [nil, %{}], do: {:error, {:unsupported_option, :env}}
  defp no_env(_turn), do: :ok

  # Two options that stand for others, and words that the server does not know (0.169). An option
  # that was set by name wins over `full_auto`.
  defp bundles(%{ask_for_approval: :on_failure}, _turn),
    do: {:error, {:unsupported_option, :ask_for_approval, :on_failure}}

  defp bundles(%{sandbox: :external_sandbox}, _turn),
    do: {:error, {:unsupported_option, :sandbox, :external_sandbox}}

  defp bundles(%{dangerously_bypass_approvals_and_sandbox: true, full_auto: true}, _turn),
    do: {:error, :conflicting_auto_flags}

  defp bundles(%{dangerously_bypass_approvals_and_sandbox: true} = settings, turn) do
    settings = %{settings | sandbox: :danger_full_access, ask_for_approval: :never}

    cond do
      settings.dangerous != true ->
        {:error, {:dangerous, :dangerously_bypass_approvals_and_sandbox}}

      turn[:dangerously_bypass_approvals_and_sandbox] ->
        {:ok, %{settings | sandbox_policy: %{type: "danger-full-access"}}}

      true ->
        {:ok, settings}
    end
  end

  defp bundles(%{full_auto: true} = settings, turn) do
    default? = settings.sandbox == :default
    policy = settings.sandbox_policy || %{}

    # A thread that is loaded takes the sandbox from the policy of a turn only.
    policy =
      if turn[:full_auto] && default?,
        do: Map.put_new(policy, :type, "workspace-write"),
        else: settings.sandbox_policy

    {:ok,
     %{
       settings
       | sandbox: if(default?, do: :workspace_write, else: settings.sandbox),
         sandbox_policy: policy,
         ask_for_approval: settings.ask_for_approval || :on_request
     }}
  end

  defp bundles(settings, _turn), do: {:ok, settings}

  defp fold(settings) do
    Enum.reduce_while(Table.rows(), {:ok, %__MODULE__{}}, fn row, {:ok, sent} ->
      value = settings[row.name]

      if value in [nil, row.opts[:default]],
        do: {:cont, {:ok, sent}},
        else: reach(row.opts[:app], value, row, settings, sent)
    end)
  end

  # The SDK itself sees to these; `Codex.AppServer.Lane` to what the connection must have; the
  # other functions of this module to the rest.
  defp reach(how, _value, _row, _settings, sent)
       when how in [:host, :connection, :input, :overrides, :bundle],
       do: {:cont, {:ok, sent}}

  defp reach({:always, value}, value, _row, _settings, sent), do: {:cont, {:ok, sent}}

  defp reach(how, _value, row, _settings, _sent)
       when how == :refused or elem(how, 0) == :always,
       do: {:halt, {:error, {:unsupported_option, row.name}}}

  defp reach(param, value, row, settings, sent) when is_binary(param),
    do: {:cont, {:ok, put_in(sent.params[param], value(row.name, value, settings))}}

  defp reach(:config, value, row, settings, sent),
    do: member(row.opts[:exec], value, row.name, settings, sent)

  defp reach(how, value, _row, settings, sent), do: more(sent, named(how, value, settings))

  defp member({:config, key}, value, _name, _settings, sent),
    do: more(sent, [set(String.split(key, "."), value)])

  defp member({:table, key}, members, _name, _settings, sent),
    do: more(sent, for({name, value} <- members, do: set([key, to_string(name)], value)))

  defp member({:provider, key}, value, name, %{model_provider: id}, sent) do
    if id in [nil | @built_in],
      do: {:halt, {:error, {:unsupported_option, name}}},
      else: more(sent, [set(["model_providers", id, key], value)])
  end

  defp value(:tools, modules, _settings) do
    for module <- modules, {:ok, tool} = Tool.new(module), do: tool.spec
  end

  # The mode alone: the model is that of the thread, which is known when it runs (`Codex.AppServer.Run`).
  defp value(:collaboration_mode, mode, settings) when is_atom(mode) or is_binary(mode) do
    effort = settings.reasoning_effort && to_string(settings.reasoning_effort)
    own = %{"model" => settings.model || "", "reasoning_effort" => effort}
    %{"mode" => to_string(mode), "settings" => own}
  end

  defp value(_name, value, _settings), do: value

  defp more(sent, overrides), do: {:cont, {:ok, %{sent | config: sent.config ++ overrides}}}

  defp named(:web_search_enabled, on?, %{web_search_mode: nil}),
    do: [set(["web_search"], if(on?, do: "live", else: "disabled"))]

  defp named(:web_search_enabled, _value, _settings), do: []

  defp named(:enable, names, _settings), do: for(name <- names, do: set(["features", name], true))

  defp named(:disable, names, _settings),
    do: for(name <- names, do: set(["features", name], false))

  defp named(tables, value, _settings),
    do: for({id, table} <- value, do: set([Atom.to_string(tables), id], table))

  defp set(path, value) do
    {:ok, value} = Overrides.value(value)
    {path, value}
  end

  # What is told as for `--config`, by dotted keys: the server splits them, and puts all of it above
  # the configuration of the connection. A table would replace the connection's.
  defp config([]), do: {:ok, %{}}

  defp config(overrides) do
    with {:ok, arguments} <- Overrides.arguments(overrides),
         {:ok, tree} <- Native.config_overrides(arguments) do
      {:ok, tree |> Native.config_term() |> leaves([]) |> Map.new()}
    else
      {:error, {_why, argument}} -> {:error, {:invalid_config_overrides, key(argument)}}
      {:error, name} -> {:error, {:invalid_config_overrides, name}}
    end
  end

  # A name with a dot can only stand in a table.
  defp leaves(%{} = table, path) when table != %{} do
    if path == [] or Enum.all?(table, fn {name, _} -> Overrides.plain?(name) end),
      do: Enum.flat_map(table, fn {name, value} -> leaves(value, [name | path]) end),
      else: leaf(table, path)
  end

  defp leaves(value, path), do: leaf(value, path)

  defp leaf(_nothing, []), do: []
  defp leaf(value, path), do: [{path |> Enum.reverse() |> Enum.join("."), value}]

  # Without its value, which may be a secret.
  defp key(argument), do: argument |> String.split("=") |> hd()

  defp schema(nil), do: {:ok, nil}

  defp schema(schema) do
    with {:ok, json} <- Codex.JSON.encode(schema), {:ok, schema} <- Codex.JSON.decode(json) do
      {:ok, schema}
    else
      {:error, reason} -> {:error, {:invalid_output_schema, reason}}
    end
  end

  ## As the protocol has them

  defp threads(params) do
    Enum.reduce_while(@threads, {:ok, %{}}, fn method, {:ok, threads} ->
      args = if method == "thread/start", do: [], else: [thread_id: ""]

      case params("thread/start", method, params, args) do
        {:ok, params, uses} -> {:cont, {:ok, Map.put(threads, method, {params, uses})}}
        error -> {:halt, error}
      end
    end)
  end

  # A policy says its kind; one that does not is of the kind of the sandbox.
  defp turn(params, schema, settings) do
    params =
      case params do
        %{"sandboxPolicy" => policy} ->
          kind = if settings.sandbox == :default, do: :workspace_write, else: settings.sandbox
          kind = policy[:type] || Params.sandbox_mode(kind)
          %{params | "sandboxPolicy" => Map.put(policy, :type, kind)}

        _ ->
          params
      end

    params = if schema, do: Map.put(params, "outputSchema", schema), else: params
    args = [thread_id: "", input: ""]

    with {:ok, params, uses} <- params("turn/start", "turn/start", params, args),
         do: {:ok, {Map.drop(params, ["threadId", "input"]), uses}}
  end

  # Checked as a call of `like`, with what `method` has of it.
  defp params(like, method, params, args) do
    [row | _] = Calls.rows([like])
    params = Map.take(params, fields(method))

    with {:ok, params, _} <- Calls.params(row, Keyword.take(args, row.args), params),
         {:ok, wire, uses} <- Protocol.params(method, Map.merge(params || %{}, ids(args))),
         do: {:ok, Map.delete(wire || %{}, "threadId"), uses}
  end

  defp ids(args), do: for({:thread_id, id} <- args, into: %{}, do: {"threadId", id})

  defp fields(method) do
    {:ok, %{params: {:ref, type}}} = Protocol.method(method)
    {:object, fields, _required, _rest} = Map.fetch!(Protocol.types(), type)
    Map.keys(fields)
  end
end
