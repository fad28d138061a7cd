defmodule Codex.AppServer.ThreadParams do
  @moduledoc false
  # Sends each option of a thread and a turn to an app-server: as parameter of `thread/start` and
  # its like, as parameter of `turn/start`, or in the `config` of the thread. Pure; one pass over
  # the table of options.

  alias Codex.{AppServer, Native, Protocol}
  alias Codex.AppServer.Calls
  alias Codex.Options.{Merge, Overrides, Sandbox, Table}
  alias Codex.Tools.Toolset

  import Merge, only: [override: 2]

  @modes ~w(read-only workspace-write danger-full-access)

  # Options of these kinds are the configuration of a thread, which no turn can change.
  @configuring [:config, :overrides, :enable, :disable]

  defstruct [:settings, params: %{}, config: [], hooks: nil]

  @typedoc """
  Settings, their parameters by name, their overrides of the configuration, and a function that
  returns the overrides of hooks for all others.
  """
  @type t :: %__MODULE__{
          settings: map(),
          params: map(),
          config: [Overrides.t()],
          hooks: ([Overrides.t()] -> [Overrides.t()]) | nil
        }

  @typedoc "Parameters as on the wire, and the names of experimental ones."
  @type params :: {map(), [String.t()]}

  @type reason ::
          Codex.Reason.option() | Codex.Reason.output_schema() | AppServer.reason()

  @doc "Returns how these settings are sent; `turn_opts` are the options of the turn alone."
  @spec new(map(), map()) :: {:ok, t()} | {:error, reason()}
  def new(settings, turn_opts) do
    with :ok <- no_env(turn_opts),
         {:ok, settings} <- policies(settings, turn_opts),
         do: fold(settings)
  end

  @doc "Checks the options of a thread before its first turn."
  @spec check(Codex.Options.t(), Codex.Thread.Options.t()) :: :ok | {:error, reason()}
  def check(client, thread) do
    with {:ok, settings} <- Merge.settings(client, thread, %{}),
         {:ok, sent} <- new(settings, %{}),
         {:ok, _params} <- thread(sent, "thread/start"),
         {:ok, _params} <- turn(sent),
         do: :ok
  end

  @doc "Returns the parameters of `thread/start`, `thread/resume` or `thread/fork`, but for the id."
  @spec thread(t(), String.t()) :: {:ok, params()} | {:error, reason()}
  def thread(%{settings: settings} = sent, method) do
    {sandbox, as_config} = of_thread(settings)

    overrides =
      settings.below ++ sent.config ++ as_config ++ settings.config ++ settings.config_overrides

    overrides = if sent.hooks, do: overrides ++ sent.hooks.(overrides), else: overrides

    with {:ok, config} <- config(overrides) do
      params = Map.merge(sent.params, sandbox)
      params = if config == %{}, do: params, else: Map.put(params, "config", config)
      ids = if method == "thread/start", do: [], else: [thread_id: ""]
      params("thread/start", method, params, ids)
    end
  end

  @doc "Returns the parameters of `turn/start`, but for thread and input."
  @spec turn(t()) :: {:ok, params()} | {:error, reason()}
  def turn(%{settings: settings} = sent) do
    with {:ok, schema} <- schema(settings),
         params = if(schema, do: Map.put(sent.params, "outputSchema", schema), else: sent.params),
         args = [thread_id: "", input: ""],
         {:ok, {params, uses}} <-
           params("turn/start", "turn/start", sandbox_policy(params, settings), args),
         do: {:ok, {Map.drop(params, ["threadId", "input"]), uses}}
  end

  # A policy names its kind; one that does not is of the kind of the sandbox.
  defp sandbox_policy(%{"sandboxPolicy" => policy} = params, settings) do
    sandbox = if settings.sandbox == :default, do: :workspace_write, else: settings.sandbox
    kind = policy[:type] || Sandbox.mode(sandbox)
    %{params | "sandboxPolicy" => Map.put(policy, :type, kind)}
  end

  defp sandbox_policy(params, _settings), do: params

  # Parameters of `turn/start` that the methods of threads do not have: in the form that these take.
  # A review runs with these alone.
  defp of_thread(settings) do
    named = [
      {"model_reasoning_effort", settings.reasoning_effort},
      {"model_reasoning_summary", settings.model_reasoning_summary}
    ]

    named = for {key, value} <- named, value != nil, do: override([key], to_string(value))
    {type, details} = Map.pop(settings.sandbox_policy || %{}, :type)

    details =
      for {name, value} <- details,
          do: override(["sandbox_workspace_write", to_string(name)], value)

    sandbox = if type in @modes, do: %{"sandbox" => type}, else: %{}
    {sandbox, named ++ details}
  end

  @doc "Returns an option that a review cannot have in any way, or nil."
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
  Returns an option of a turn that only the start of a thread could send, or nil: a loaded thread
  keeps its configuration.
  """
  @spec not_of_loaded(map()) :: atom() | nil
  def not_of_loaded(turn) do
    configuring = for row <- Table.rows(:turn), row.opts[:app] in @configuring, do: row.name
    Enum.find(configuring, &(turn[&1] not in [nil, [], %{}]))
  end

  # The first option of a turn that decides how it runs.
  defp of_turn(turn) do
    reaching = for row <- Table.rows(:turn), row.opts[:app] != :host, do: row.name
    Enum.find(reaching, &(turn[&1] not in [nil, [], %{}]))
  end

  # The server runs already.
  defp no_env(%{env: env}) when env not in [nil, %{}], do: {:error, {:unsupported_option, :env}}
  defp no_env(_turn), do: :ok

  # Values that the server does not know, and the bypass, which is a sandbox and a policy.
  defp policies(%{ask_for_approval: :on_failure}, _turn),
    do: {:error, {:unsupported_option, :ask_for_approval, :on_failure}}

  defp policies(%{sandbox: :external_sandbox}, _turn),
    do: {:error, {:unsupported_option, :sandbox, :external_sandbox}}

  defp policies(%{dangerously_bypass_approvals_and_sandbox: true} = settings, turn) do
    settings = %{settings | sandbox: :danger_full_access, ask_for_approval: :never}

    if turn[:dangerously_bypass_approvals_and_sandbox],
      do: {:ok, %{settings | sandbox_policy: %{type: "danger-full-access"}}},
      else: {:ok, settings}
  end

  defp policies(settings, _turn), do: {:ok, settings}

  defp fold(settings) do
    Enum.reduce_while(Table.rows(), {:ok, %__MODULE__{settings: settings}}, fn row, {:ok, sent} ->
      value = settings[row.name]

      if value in [nil, row.opts[:default]],
        do: {:cont, {:ok, sent}},
        else: reach(row.opts[:app], value, row, settings, sent)
    end)
  end

  # The SDK itself has these, the connection, or the other functions of this module.
  defp reach(how, _value, _row, _settings, sent)
       when how in [:host, :connection, :input, :overrides, :bundle],
       do: {:cont, {:ok, sent}}

  defp reach({:always, value}, value, _row, _settings, sent), do: {:cont, {:ok, sent}}

  defp reach(how, _value, row, _settings, _sent)
       when how == :refused or elem(how, 0) == :always,
       do: {:halt, {:error, {:unsupported_option, row.name}}}

  # The connection sends it with each request.
  defp reach(:trace, _value, _row, _settings, sent), do: {:cont, {:ok, sent}}

  defp reach(param, value, row, settings, sent) when is_binary(param),
    do: {:cont, {:ok, put_in(sent.params[param], value(row.name, value, settings))}}

  defp reach(how, names, _row, _settings, sent) when how in [:enable, :disable],
    do: more(sent, for(name <- names, do: override(["features", name], how == :enable)))

  defp reach(how, value, row, settings, sent) do
    how = if how == :config, do: row.opts[:exec], else: how

    case Merge.overrides(how, value, row.name, settings) do
      {:ok, overrides} -> more(sent, overrides)
      error -> {:halt, error}
    end
  end

  defp more(sent, overrides), do: {:cont, {:ok, %{sent | config: sent.config ++ overrides}}}

  defp value(:tools, tools, _settings), do: Toolset.wire(tools)

  # The mode alone: its model is that of the thread, which is known when the turn starts
  # (`Codex.AppServer.TurnStart`).
  defp value(:collaboration_mode, mode, settings) when is_atom(mode) or is_binary(mode) do
    effort = settings.reasoning_effort && to_string(settings.reasoning_effort)
    own = %{"model" => settings.model || "", "reasoning_effort" => effort}
    %{"mode" => to_string(mode), "settings" => own}
  end

  defp value(_name, value, _settings), do: value

  # Overrides by dotted keys: the server splits them, and puts all of them above the configuration
  # of the connection. A table would replace the connection's.
  defp config([]), do: {:ok, %{}}

  defp config(overrides) do
    with {:ok, arguments} <- Overrides.arguments(overrides),
         {:ok, tree} <- Native.config_overrides(arguments) do
      {:ok, tree |> Native.config_term() |> leaves([]) |> Map.new()}
    else
      {:error, {_why, argument}} -> {:error, Overrides.invalid(key(argument))}
      {:error, name} -> {:error, Overrides.invalid(name)}
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

  # The strict form of `output` has an order.
  defp schema(%{output: nil, output_schema: nil}), do: {:ok, nil}
  defp schema(%{output: output, output_schema: schema}) when output != nil, do: {:ok, schema}

  defp schema(%{output_schema: schema}) do
    with {:ok, json} <- Codex.JSON.encode(schema), {:ok, schema} <- Codex.JSON.decode(json) do
      {:ok, schema}
    else
      {:error, reason} -> {:error, {:invalid_output_schema, reason}}
    end
  end

  ## As the protocol has them

  # Checked as a call of `like`, with the parameters that `method` has.
  defp params(like, method, params, args) do
    [row | _] = Calls.rows([like])
    params = Map.take(params, fields(method))

    with {:ok, params, _} <- Calls.params(row, Keyword.take(args, row.args), params),
         {:ok, wire, uses} <- Protocol.params(method, Map.merge(params || %{}, ids(args))),
         do: {:ok, {Map.delete(wire || %{}, "threadId"), uses}}
  end

  defp ids(args), do: for({:thread_id, id} <- args, into: %{}, do: {"threadId", id})

  defp fields(method) do
    {:ok, %{params: {:ref, type}}} = Protocol.method(method)
    {:object, fields, _required, _rest} = Map.fetch!(Protocol.types(), type)
    Map.keys(fields)
  end
end
