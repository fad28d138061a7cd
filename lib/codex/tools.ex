defmodule Codex.Tools do
  @moduledoc """
  Registers host tools by name, and calls them in this VM.

      {:ok, handle} = Codex.Tools.register(MyApp.LookUp, name: "look_up", timeout_ms: 5_000)
      {:ok, result} = Codex.Tools.invoke("look_up", %{"number" => "17"}, %{})
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn}, tools: [handle])
      :ok = Codex.Tools.deregister(handle)

  A registration holds for the VM and ends with the application `:codex_sdk`, not with the process
  that made it. A thread needs none: its option `tools` takes modules, `{module, options}`,
  registered names and handles. `Codex.Tool` describes tools.

  ## Names

  The name is the option `:name`, else the name in the metadata, else the last part of the module's
  name, underscored. If no tool has the name, names of earlier versions of the CLI find their
  successors: `container.exec` and `local_shell` find `shell`, then `shell_command`; and
  `shell_command` finds `shell`.

  ## Calls

  `invoke/3` runs a tool in the calling process, without a time limit. The metadata may have two
  switches:

    * `:enabled?` - `false`, or a function of context and metadata, of the context, or without
      arguments, that returns `false`: the call fails with `{:tool_disabled, name}`
    * `:on_error` - a function of the reason; of reason and context; or of reason, context and
      context. Its `{:ok, output}` or `{:error, reason}` replaces a failure

  Calls of a model use the same switches, and are counted with those of `invoke/3`.
  """

  alias Codex.Tools.{Handle, Registry, Tables}

  @typedoc "A registered tool."
  @type tool :: %{name: String.t(), module: module(), metadata: Codex.Tool.metadata()}

  @typedoc """
  Why a module or an entry of the option `tools` is not accepted:

    * `:not_a_tool`, `:not_loaded`, `:no_invoke` - the entry is no module, the module does not
      exist, or has no `invoke/2`
    * `:not_registered` - no tool has this name, or the handle was deregistered
    * `{:invalid_name, name}`, `{:invalid_namespace, name}` - a name has 1 to 64 letters, digits,
      `_` and `-`
    * `{:reserved_name, name}`, `{:reserved_namespace, name}` - the CLI uses the name itself
    * `{:duplicate_name, name}` - two tools have the name
    * `:defer_without_namespace` - `defer: true` needs a `namespace`
    * `{:invalid_metadata, key, value}`, `{:unknown_metadata, key, nearest}` - an invalid value, or
      a key that looks like a misspelled one
    * `{:metadata_failed, exception}` - `metadata/0` raised this exception
  """
  @type refusal ::
          :not_a_tool
          | :not_loaded
          | :no_invoke
          | :not_registered
          | :defer_without_namespace
          | {:invalid_name, term()}
          | {:invalid_namespace, term()}
          | {:reserved_name, String.t()}
          | {:reserved_namespace, String.t()}
          | {:duplicate_name, String.t()}
          | {:invalid_metadata, atom(), term()}
          | {:unknown_metadata, term(), atom()}
          | {:metadata_failed, module()}

  @typedoc """
  Why a call failed. `:not_found`: no tool has the name. `{:tool_disabled, name}`: the switch
  `:enabled?` is off. `{:invalid_arguments, text}`: the schema does not allow the arguments; the
  text has the path of the wrong value. `{:tool_exception, module, exception}` and
  `{:tool_failure, module, {kind, value}}`: the tool raised, threw or exited.
  `{:invalid_tool_result, value}`: neither `{:ok, _}` nor `{:error, _}`.
  `{:error_handler_failed, exception}`: `:on_error` raised. Any other term is the tool's own reason.
  """
  @type reason ::
          :not_found
          | {:tool_disabled, String.t()}
          | {:invalid_arguments, String.t()}
          | {:tool_exception, module(), Exception.t()}
          | {:tool_failure, module(), {:throw | :exit | :error, term()}}
          | {:invalid_tool_result, term()}
          | {:error_handler_failed, Exception.t()}
          | term()

  @typedoc """
  The calls of a tool since the start, or since `reset_metrics/0`: their numbers, the time of the
  last call and of all calls in ms, and the reason of the last failure or nil.
  """
  @type metrics :: %{
          success: non_neg_integer(),
          failure: non_neg_integer(),
          last_latency_ms: non_neg_integer(),
          total_latency_ms: non_neg_integer(),
          last_error: term()
        }

  @doc """
  Registers a tool. The options are merged over its metadata: the tool finds them in
  `context.metadata`. `:name` is the name.

  Returns `{:ok, handle}`, `{:error, {:already_registered, name}}`,
  `{:error, {:invalid_tool, module, refusal}}`, or a `Codex.OptionError` if `opts` are no options.
  Raises if the application `:codex_sdk` is not started.
  """
  @spec register(module(), keyword() | map()) ::
          {:ok, Handle.t()}
          | {:error,
             {:already_registered, String.t()}
             | {:invalid_tool, module(), refusal()}
             | Codex.OptionError.t()}
  defdelegate register(module, opts \\ []), to: Registry

  @doc """
  Removes a registered tool. Returns `:ok`, also if it is registered no more. Raises
  `Codex.OptionError` for a term that is no handle.
  """
  @spec deregister(Handle.t()) :: :ok
  defdelegate deregister(handle), to: Registry

  @doc "Returns the tool of a name; `name` of the result is its registered name."
  @spec lookup(String.t()) :: {:ok, tool()} | {:error, :not_found}
  defdelegate lookup(name), to: Registry

  @doc """
  Calls a registered tool in the calling process.

  Arguments are a map; a keyword list, which becomes a map; a string with a JSON object; another
  string, which becomes `%{"input" => string}`; or nil for none. They are checked against the schema
  of the tool. `context` is a map; the tool gets it with `tool` and `metadata` added.

  Returns the result of the tool, or `{:error, reason}`.
  """
  @spec invoke(String.t(), map() | keyword() | String.t() | nil, map() | keyword()) ::
          {:ok, term()} | {:error, reason()}
  defdelegate invoke(name, args, context), to: Registry

  @doc """
  Returns the calls of all tools by name (`namespace.name` for a tool in a namespace): those of
  `invoke/3`, and those of models.
  """
  @spec metrics() :: %{String.t() => metrics()}
  defdelegate metrics(), to: Tables

  @doc "Forgets the calls of all tools."
  @spec reset_metrics() :: :ok
  defdelegate reset_metrics(), to: Tables

  @doc false
  # Forgets the registered tools, too.
  @spec reset!() :: :ok
  defdelegate reset!(), to: Registry
end
