defmodule Codex.MCP.Handlers do
  @moduledoc false
  # The handlers of a client by method, and the answers that they give to the server.

  alias Codex.Approvals.Crash

  require Logger

  @methods %{
    "elicitation/create" => :elicitation,
    "roots/list" => :roots,
    "sampling/createMessage" => :sampling
  }
  @error %{"code" => -32_603, "message" => "the client could not answer"}
  @refused %{"code" => -1, "message" => "the user declined the request"}
  @unknown %{"code" => -32_601, "message" => "method not found"}

  @type t :: %{elicitation: term(), roots: term(), sampling: term()}

  @doc "Collects the handlers of options: functions, and the callbacks of a module."
  @spec new(map()) :: t()
  def new(options) do
    module = options[:handler]

    has? = fn name, arity ->
      module != nil and Code.ensure_loaded?(module) and function_exported?(module, name, arity)
    end

    %{
      elicitation: options[:elicitation] || if(has?.(:elicit, 2), do: &module.elicit/2),
      roots: options[:roots] || if(has?.(:roots, 1), do: &module.roots/1),
      sampling: options[:sampling] || if(has?.(:sample, 2), do: &module.sample/2)
    }
  end

  @doc "Returns the capabilities to declare."
  @spec capabilities(t()) :: map()
  def capabilities(handlers) do
    all = [
      {"elicitation", handlers.elicitation, %{"form" => %{}, "url" => %{}}},
      {"roots", handlers.roots, %{"listChanged" => true}},
      {"sampling", handlers.sampling, %{}}
    ]

    for {name, handler, value} <- all, handler != nil, into: %{}, do: {name, value}
  end

  @doc "Returns whether a method has a handler."
  @spec handles?(t(), String.t()) :: boolean()
  def handles?(handlers, method), do: handlers[@methods[method]] != nil

  @doc "Returns the answer that declines a request."
  @spec decline(t(), String.t()) :: {:ok, map()} | {:error, map()}
  def decline(_handlers, "elicitation/create"), do: {:ok, %{"action" => "decline"}}
  def decline(%{sampling: nil}, "sampling/createMessage"), do: {:error, @unknown}
  def decline(_handlers, "sampling/createMessage"), do: {:error, @refused}
  def decline(%{roots: nil}, "roots/list"), do: {:error, @unknown}
  def decline(_handlers, "roots/list"), do: {:error, @error}
  def decline(_handlers, _method), do: {:error, @unknown}

  @doc "Runs the handler of a request, in the process of that request."
  @spec run(t(), String.t(), map(), map()) :: {:ok, map()} | {:error, map()}
  def run(handlers, method, params, context) do
    kind = @methods[method]

    case answer(kind, attempt(handlers[kind], kind, params, context), params) do
      :failed ->
        decline(handlers, method)

      :invalid ->
        Logger.warning("the MCP handler of #{method} returned an invalid answer; declined")
        decline(handlers, method)

      answer ->
        answer
    end
  end

  defp attempt(handler, kind, params, context) do
    call(handler, kind, params, context)
  catch
    class, reason ->
      Crash.log("the MCP handler of #{kind}", class, reason, __STACKTRACE__)
      :failed
  end

  defp call(list, :roots, _params, _context) when is_list(list), do: list
  defp call(fun, :roots, _params, _context) when is_function(fun, 0), do: fun.()
  defp call(fun, :roots, _params, context), do: fun.(context)
  defp call(fun, _kind, params, _context) when is_function(fun, 1), do: fun.(params)
  defp call(fun, _kind, params, context), do: fun.(params, context)

  defp answer(:elicitation, action, _params) when action in [:decline, :cancel],
    do: {:ok, %{"action" => Atom.to_string(action)}}

  defp answer(:elicitation, {:accept, %{}}, %{"mode" => "url"}),
    do: {:ok, %{"action" => "accept"}}

  defp answer(:elicitation, {:accept, %{} = content}, params) do
    content = for {key, value} <- content, into: %{}, do: {to_string(key), value}
    {:ok, %{"action" => "accept", "content" => Map.merge(defaults(params), content)}}
  end

  defp answer(:roots, roots, _params) when is_list(roots), do: {:ok, %{"roots" => roots}}
  defp answer(:sampling, {:ok, %{} = result}, _params), do: {:ok, result}

  defp answer(:sampling, {:error, reason}, _params) do
    text = if is_binary(reason), do: reason, else: @refused["message"]
    {:error, %{@refused | "message" => text}}
  end

  defp answer(_kind, :failed, _params), do: :failed
  defp answer(_kind, _other, _params), do: :invalid

  defp defaults(%{"requestedSchema" => %{"properties" => %{} = properties}}) do
    for {name, %{"default" => value}} <- properties, into: %{}, do: {name, value}
  end

  defp defaults(_params), do: %{}
end
