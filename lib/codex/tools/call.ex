defmodule Codex.Tools.Call do
  @moduledoc false
  # Runs one call of a host tool in the caller's process: for `Codex.Tools.invoke/3` (`run/3`), and
  # for a model over any transport (`answer/3`).

  alias Codex.Approvals.Crash
  alias Codex.{JSON, Telemetry, Tool, ToolOutput}
  alias Codex.Tool.Arguments
  alias Codex.Tools.{Definition, Tables}

  # The bytes of an output that the CLI passes to the model. It leaves out the middle of a longer
  # output.
  @most_bytes 48_000

  @doc "Runs a call and counts it. Returns the result of the tool, or the reason of the failure."
  @spec run(Definition.t(), term(), map()) :: {:ok, term()} | {:error, term()}
  def run(tool, args, context), do: run(tool, args, context, fn _kind, _reason, _trace -> :ok end)

  defp run(tool, args, context, crashed) do
    about = %{name: tool.name, metadata: tool.metadata}
    context = Map.merge(context, %{tool: about, metadata: tool.metadata})
    began = System.monotonic_time()

    result =
      with :ok <- enabled(tool, context),
           :ok <- allowed(tool, args),
           do: tool |> invoke(args, context, crashed) |> recovered(tool, context)

    Tables.count(Definition.full_name(tool), began, result)
    result
  end

  defp enabled(%{metadata: metadata} = tool, context) do
    enabled? =
      case metadata[:enabled?] do
        fun when is_function(fun, 0) -> fun.()
        fun when is_function(fun, 1) -> fun.(context)
        fun when is_function(fun, 2) -> fun.(context, metadata)
        value -> value
      end

    if enabled? in [false, :error] or match?({:error, _}, enabled?),
      do: {:error, {:tool_disabled, tool.name}},
      else: :ok
  rescue
    error -> {:error, {:tool_exception, tool.module, error}}
  end

  # A tool that knows other names of its arguments checks them itself.
  defp allowed(%{metadata: %{checks_arguments: true}}, args) when is_map(args), do: :ok

  defp allowed(tool, args) do
    with {:error, text} <- args |> with_string_keys() |> Arguments.check(tool.schema),
         do: {:error, {:invalid_arguments, text}}
  end

  # A caller in this VM may use atoms.
  defp with_string_keys(args) do
    with true <- is_map(args) and Enum.any?(args, fn {key, _value} -> is_atom(key) end),
         {:ok, json} <- JSON.encode(args),
         {:ok, args} <- JSON.decode(json),
         do: args,
         else: (_as_it_is -> args)
  end

  defp invoke(tool, args, context, crashed) do
    case tool.module.invoke(args, context) do
      {:ok, _output} = ok -> ok
      {:error, _reason} = error -> error
      other -> {:error, {:invalid_tool_result, other}}
    end
  rescue
    error ->
      crashed.(:error, error, __STACKTRACE__)
      {:error, {:tool_exception, tool.module, error}}
  catch
    kind, reason ->
      crashed.(kind, reason, __STACKTRACE__)
      {:error, {:tool_failure, tool.module, {kind, reason}}}
  end

  defp recovered({:error, reason}, %{metadata: %{on_error: handler}}, context)
       when handler != nil do
    case handle(handler, reason, context) do
      {:ok, _output} = ok -> ok
      {:error, _reason} = error -> error
      other -> {:error, {:invalid_tool_result, other}}
    end
  rescue
    error -> {:error, {:error_handler_failed, error}}
  end

  defp recovered(result, _tool, _context), do: result

  defp handle(fun, reason, _context) when is_function(fun, 1), do: fun.(reason)
  defp handle(fun, reason, context) when is_function(fun, 2), do: fun.(reason, context)
  defp handle(fun, reason, context) when is_function(fun, 3), do: fun.(reason, context, context)

  # --- For a model ------------------------------------------------------------------------------

  @doc """
  Runs a call for a model. Returns the output as content items (`Codex.ToolOutput.content/1`), or a
  sentence about the failure. A crash is logged.
  """
  @spec answer(Definition.t(), term(), map()) :: {:ok, [ToolOutput.item()]} | {:error, String.t()}
  def answer(tool, args, context) do
    crashed = &Crash.log("the tool #{tool.name}", &1, &2, &3)

    call = &run(tool, &1, &2, crashed)
    around = tool.around || fn args, context, call -> call.(args, context) end

    with {:ok, output} <- around.(args, context, call),
         {:ok, items} <- ToolOutput.content(output) do
      warn(tool, items, context)
      {:ok, items}
    else
      {:error, reason} -> {:error, words(tool, reason)}
    end
  catch
    kind, reason ->
      Crash.log("the tool #{tool.name}", kind, reason, __STACKTRACE__)
      {:error, "the tool #{tool.name} failed"}
  end

  # The exception's text may be irrelevant to the model, or a secret: it goes to the host's log.
  defp words(tool, {:tool_exception, _module, error}),
    do: "the tool #{tool.name} failed: #{inspect(error.__struct__)}"

  defp words(tool, {:tool_failure, _module, _reason}), do: "the tool #{tool.name} failed"
  defp words(tool, {:tool_disabled, _name}), do: "the tool #{tool.name} is disabled"
  defp words(tool, {:invalid_tool_result, _}), do: "the tool #{tool.name} returned no result"

  defp words(tool, {:invalid_arguments, text}),
    do: "invalid arguments for #{tool.name}: #{text}"

  defp words(tool, {:not_encodable, _term, _path}),
    do: "the tool #{tool.name} returned a term that JSON cannot express"

  defp words(tool, {:remote_image, _url}) do
    "the tool #{tool.name} returned an image by its URL; " <>
      "the model can only see images that are data URLs"
  end

  defp words(_tool, text) when is_binary(text), do: text

  defp words(tool, reason) do
    text = if Tool.exports?(tool.module, :error_text, 1), do: tool.module.error_text(reason)
    if is_binary(text), do: text, else: "the tool failed"
  end

  defp warn(tool, items, context) do
    bytes = for %{"text" => text} <- items, reduce: 0, do: (sum -> sum + byte_size(text))

    if bytes > @most_bytes do
      event = context[:event] || %{}

      Telemetry.execute(
        prefix(context) ++ [:tool, :output_cut],
        %{system_time: System.system_time(), bytes: bytes, limit: @most_bytes},
        %{
          originator: :sdk,
          tool: Definition.full_name(tool),
          call_id: Map.get(event, :call_id),
          thread_id: Map.get(event, :thread_id),
          turn_id: Map.get(event, :turn_id)
        }
      )
    end

    :ok
  end

  defp prefix(%{thread: %{codex_opts: %{telemetry_prefix: [_ | _] = prefix}}}), do: prefix
  defp prefix(_context), do: [:codex]
end
