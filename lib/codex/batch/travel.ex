defmodule Codex.Batch.Travel do
  @moduledoc false
  # The options of a job on their way to another node. Secrets stay unless they are allowed to go.
  # Functions, and modules that stand for functions, stay, too: the other node gets functions that
  # call back (`Codex.Batch.Guest`). Options that only these functions read stay as well.

  alias Codex.Approvals
  alias Codex.Batch.{HostTool, Job}
  alias Codex.{Hooks, OptionError, Options, Thread, Tool}
  alias Codex.Options.{Table, Type}
  alias Codex.Thread.Start
  alias Codex.Tools.{Call, Definition, Toolset}

  @rows for row <- Table.rows(),
            name <- [row.name | row.opts[:also] || []],
            into: %{},
            do: {Atom.to_string(name), row.name}

  @secret for row <- Table.rows(), row.opts[:secret], do: row.name
  # The host's own: `at_home/3` puts them back.
  @stay [:metadata, :labels, :file_search]
  @mark :codex_function

  @typedoc "Functions by the numbers that stand for them."
  @type functions :: %{non_neg_integer() => function()}

  @typedoc "The part of a job that another node gets."
  @type cargo :: %{
          client: Options.t(),
          thread: [{term(), term()}],
          turn: [{term(), term()}]
        }

  @doc "Returns the names of the options that can hold a secret."
  @spec secrets() :: [atom()]
  def secrets, do: @secret -- @stay

  @doc "Returns the error of the first option that may not leave this node, or `:ok`."
  @spec check(Options.t(), [atom()]) :: :ok | {:error, OptionError.t()}
  def check(%Options{} = client, allowed) do
    pairs =
      for row <- Table.rows(:global),
          value = Map.fetch!(client, row.name),
          value != row.default,
          do: {row.name, value}

    check(pairs, :client, allowed)
  end

  @doc "Likewise, for options of a thread and a turn."
  @spec check([{term(), term()}], atom(), [atom()]) :: :ok | {:error, OptionError.t()}
  def check(pairs, place, allowed) do
    Enum.find_value(pairs, :ok, fn {key, value} ->
      name = @rows[Type.name(key)]

      cond do
        value == nil or name in @stay or name in allowed -> nil
        secret?(name, value) -> {:error, refused(place, name)}
        name == :transport -> transport(place, value)
        true -> nil
      end
    end)
  end

  defp secret?(:shell_environment_policy, policy) do
    case Type.pairs(policy) do
      {:ok, pairs} ->
        Enum.any?(pairs, fn {name, set} -> Type.name(name) == "set" and set != nil end)

      :error ->
        false
    end
  end

  defp secret?(name, _value), do: name in @secret

  defp refused(place, name) do
    expected =
      "left out: it can hold a secret, and other nodes have logins and configurations of " <>
        "their own; :send_secrets lists options that may be sent"

    OptionError.invalid([place, name], "[redacted]", expected)
  end

  # Each node has a process of this name.
  defp transport(place, {_kind, name}) when not is_atom(name) do
    shown = Type.kind(name)
    {:error, OptionError.invalid([place, :transport], shown, "named by an atom, on every node")}
  end

  defp transport(_place, _value), do: nil

  @doc "Returns what another node gets of a job, and the functions that stay."
  @spec pack(Job.t(), Options.t()) ::
          {:ok, cargo(), functions()}
          | {:error, OptionError.t() | {:invalid_tool, term(), Toolset.reason()}}
  def pack(job, client) do
    with {:ok, thread} <- Type.each(sent(job.thread), &prepare(&1, job, client)),
         {:ok, turn} <- Type.each(sent(job.turn), &prepare(&1, job, client)) do
      {{thread, turn}, functions} = take({thread, turn}, %{})
      {:ok, %{client: client, thread: thread, turn: turn}, functions}
    end
  end

  defp sent(pairs),
    do:
      for(
        {key, value} <- pairs,
        value != nil,
        @rows[Type.name(key)] not in @stay,
        do: {key, value}
      )

  defp prepare({key, value}, job, client) do
    case prepared(@rows[Type.name(key)], value, {job, client}) do
      {:ok, value} -> {:ok, {key, value}}
      error -> error
    end
  end

  defp prepared(name, module, _home)
       when name in [:approval_policy, :approval_hook] and is_atom(module) do
    {:ok, fn event, context, opts -> Approvals.decide(module, event, context, opts[:timeout]) end}
  end

  defp prepared(:request_handler, module, _home) when is_atom(module),
    do: {:ok, &module.handle_request/2}

  defp prepared(:hooks, hooks, _home) do
    with {:error, words} <- Hooks.functions(hooks),
         do: {:error, OptionError.invalid(:hooks, Type.kind(hooks), words)}
  end

  defp prepared(:tools, entries, home) do
    with {:ok, tools} <- Toolset.new(entries), do: {:ok, Enum.map(tools, &tool(&1, home))}
  end

  defp prepared(_name, value, _home), do: {:ok, value}

  # The other node knows the description of a tool; calls, with all of its options, come back.
  defp tool(%Definition{} = tool, {job, client}) do
    metadata = Map.take(tool.metadata, [:read_only])

    about = %{
      name: tool.name,
      description: tool.description,
      schema: tool.schema,
      timeout_ms: tool.timeout_ms,
      namespace: tool.namespace && {tool.namespace, tool.namespace_description || ""},
      defer: tool.defer,
      checks_arguments: true,
      remote: &call(tool, &1, &2, job, client)
    }

    {HostTool, Map.merge(metadata, about)}
  end

  defp call(tool, args, context, job, client) do
    thread = at_home(context.thread, job, client)
    own = %{thread: thread, context: thread.metadata[:tool_context] || %{}}

    with {:error, reason} when not is_binary(reason) <-
           Call.run(tool, args, Map.merge(context, own)) do
      if Tool.exports?(tool.module, :error_text, 1),
        do: {:error, tool.module.error_text(reason)},
        else: {:error, reason}
    end
  end

  @doc "Returns a thread of the other node with the options that this node has for it."
  @spec at_home(Thread.t(), Job.t(), Options.t()) :: Thread.t()
  def at_home(thread, job, client) do
    case Start.new(client, job.thread, thread_id: thread.thread_id) do
      {:ok, own} -> %{own | usage: thread.usage, rate_limits: thread.rate_limits}
      {:error, _reason} -> thread
    end
  end

  defp take(fun, functions) when is_function(fun) do
    {:arity, arity} = Function.info(fun, :arity)
    id = map_size(functions)
    {{@mark, id, arity}, Map.put(functions, id, fun)}
  end

  defp take([head | tail], functions) do
    {head, functions} = take(head, functions)
    {tail, functions} = take(tail, functions)
    {[head | tail], functions}
  end

  defp take(tuple, functions) when is_tuple(tuple) do
    {list, functions} = tuple |> Tuple.to_list() |> take(functions)
    {List.to_tuple(list), functions}
  end

  defp take(map, functions) when is_map(map) do
    {pairs, functions} = map |> :maps.to_list() |> take(functions)
    {:maps.from_list(pairs), functions}
  end

  defp take(term, functions), do: {term, functions}

  @doc "Returns what was packed. `call` calls a function of the other node, by its number."
  @spec unpack(term(), (non_neg_integer(), [term()] -> term())) :: term()
  def unpack({@mark, id, 0}, call), do: fn -> call.(id, []) end
  def unpack({@mark, id, 1}, call), do: fn a -> call.(id, [a]) end
  def unpack({@mark, id, 2}, call), do: fn a, b -> call.(id, [a, b]) end
  def unpack({@mark, id, 3}, call), do: fn a, b, c -> call.(id, [a, b, c]) end
  def unpack([head | tail], call), do: [unpack(head, call) | unpack(tail, call)]

  def unpack(tuple, call) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> unpack(call) |> List.to_tuple()

  def unpack(map, call) when is_map(map),
    do: map |> :maps.to_list() |> unpack(call) |> :maps.from_list()

  def unpack(term, _call), do: term
end
