defmodule Codex.Tools.Hosted do
  @moduledoc false
  # Helpers of the tools of this package: their options, callbacks, approvals, arguments and places.

  alias Codex.Error.Words
  alias Codex.FileSystem

  @doc "Whether arguments and context of a call are maps."
  defguard is_call(args, context)
           when is_map(args) and not is_struct(args) and is_map(context) and
                  not is_struct(context)

  @type denial :: {:approval_denied, term()} | {:invalid_approval_response, term()}

  @doc "Returns the options of a tool: the metadata of its context, as a map."
  @spec options(map()) :: map()
  def options(context), do: Map.new(Map.get(context, :metadata) || %{})

  @doc """
  Calls a function of the host with as many of arguments, context and options as it takes. A result
  that is neither `{:ok, _}` nor `{:error, _}` is an output.
  """
  @spec callback(atom(), map(), map()) :: {:ok, term()} | {:error, term()}
  def callback(key, args, context) do
    options = options(context)

    result =
      case options[key] do
        fun when is_function(fun, 0) -> {:result, fun.()}
        fun when is_function(fun, 1) -> {:result, fun.(args)}
        fun when is_function(fun, 2) -> {:result, fun.(args, context)}
        fun when is_function(fun, 3) -> {:result, fun.(args, context, options)}
        _missing -> :missing
      end

    case result do
      {:result, {tag, _} = result} when tag in [:ok, :error] -> result
      {:result, output} -> {:ok, output}
      :missing -> {:error, {:missing_callback, key}}
    end
  end

  @doc """
  Asks an approval about a subject: a function of subject; of subject and context; or of subject,
  context and options; or a module with this function of subject and context. Without an approval,
  and for an unknown answer, denies.
  """
  @spec approve(term(), atom(), term(), map()) :: :ok | {:error, denial()}
  def approve(approval, function, subject, context) do
    case review(approval, function, subject, context) do
      answer when answer in [:ok, :allow, true] -> :ok
      {:allow, _opts} -> :ok
      answer when answer in [:deny, false] -> {:error, {:approval_denied, :denied}}
      {:deny, reason} -> {:error, {:approval_denied, reason}}
      other -> {:error, {:invalid_approval_response, other}}
    end
  end

  defp review(nil, _function, _subject, _context), do: {:deny, :no_approval}
  defp review(fun, _name, subject, _context) when is_function(fun, 1), do: fun.(subject)

  defp review(fun, _name, subject, context) when is_function(fun, 2),
    do: fun.(subject, context)

  defp review(fun, _name, subject, context) when is_function(fun, 3),
    do: fun.(subject, context, options(context))

  defp review(module, function, subject, context) when is_atom(module),
    do: apply(module, function, [subject, context])

  defp review(other, _function, _subject, _context), do: other

  @doc "Returns the first of these arguments that is given, or nil."
  @spec argument(map(), [String.t()]) :: term()
  def argument(args, names), do: Enum.find_value(names, &args[&1])

  @doc "Returns a required text among the arguments."
  @spec text(map(), [String.t()], atom()) ::
          {:ok, String.t()} | {:error, {:missing_argument | :invalid_argument, atom()}}
  def text(args, names, key) do
    case argument(args, names) do
      nil -> {:error, {:missing_argument, key}}
      text when is_binary(text) -> {:ok, text}
      _other -> {:error, {:invalid_argument, key}}
    end
  end

  @doc "Returns an argument that a check allows, or the default if it is missing."
  @spec optional(map(), [String.t()], atom(), term(), (term() -> boolean())) ::
          {:ok, term()} | {:error, {:invalid_argument, atom()}}
  def optional(args, names, key, default, check) do
    case argument(args, names) do
      nil -> {:ok, default}
      value -> if check.(value), do: {:ok, value}, else: {:error, {:invalid_argument, key}}
    end
  end

  @doc "Returns the directory in which a tool works: its option, else that of the thread."
  @spec directory(map(), atom()) :: {:ok, Path.t()} | {:error, Codex.Reason.file()}
  def directory(context, option) do
    case options(context)[option] || working_directory(context) do
      nil -> FileSystem.cwd()
      path -> {:ok, FileSystem.expand(path)}
    end
  end

  defp working_directory(%{thread: %{thread_opts: %{working_directory: path}}})
       when is_binary(path),
       do: path

  defp working_directory(_context), do: nil

  @doc """
  Returns an existing path that the model names, without links. With the option `:base_path`, and
  for a call of a model, it must be in that directory.
  """
  @spec place(map(), Path.t()) ::
          {:ok, Path.t()} | {:error, :path_traversal | Codex.Reason.file()}
  def place(context, path) do
    with {:ok, base} <- directory(context, :base_path),
         {:ok, base} <- FileSystem.real(base),
         {:ok, real} <- FileSystem.real(Path.expand(path, base)) do
      free? = options(context)[:base_path] == nil and not is_map_key(context, :event)

      if free? or real == base or
           String.starts_with?(real, String.trim_trailing(base, "/") <> "/"),
         do: {:ok, real},
         else: {:error, :path_traversal}
    end
  end

  @doc "Returns the words for the model about a failure."
  @spec error_text(term()) :: String.t()
  def error_text({:approval_denied, _reason}), do: "the call was denied; nothing was done"
  def error_text({:invalid_approval_response, _}), do: error_text({:approval_denied, nil})
  def error_text(reason), do: Words.reason(reason) || "the tool failed"
end
