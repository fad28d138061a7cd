defmodule Codex.OptionError do
  @moduledoc """
  An invalid option of a call, or an invalid argument.

  Functions that return errors return `{:error, %Codex.OptionError{}}`; functions that raise raise
  it. Fields:

    * `reason` - the kind of mistake, see below
    * `key` - the option as the caller wrote it, or the name of the argument
    * `path` - the place of the mistake, from `key` inwards: `[:cwd]`, `[:input, 0, :text]`
    * `value` - the invalid value, or `"[redacted]"` if the option can hold a secret
    * `expected` - the valid values, in words
    * `nearest` - the known key that an unknown key is spelled most like, or nil

  A long text in `key`, `path` or `value` is cut.

  The reasons:

    * `:invalid` - the value is not allowed
    * `:unknown` - the call has no such option
    * `:misplaced` - another list of options has it; `expected` names that list
    * `:missing` - the option must be given
    * `:unsupported` - this version has no such option; `expected` names the replacement
    * `:not_options` - the options are neither a keyword list nor a map. `key` is nil, `path` empty
    * `:argument` - an argument is invalid, not an option

  Neither the message nor `inspect/1` shows the values of other options.

      iex> {:error, error} = Codex.Options.new(modle: "gpt-6")
      iex> {error.reason, error.key, error.nearest}
      {:unknown, :modle, :model}
      iex> Exception.message(error)
      "unknown option :modle; did you mean :model?"
      iex> {:error, error} = Codex.Options.new(model_context_window: 0)
      iex> Exception.message(error)
      "option :model_context_window must be a positive integer, got: 0"
  """

  alias Codex.Options.Type

  defexception [:reason, :key, :value, :expected, :nearest, path: []]

  @typedoc "The kind of the mistake. See above."
  @type reason ::
          :invalid | :unknown | :misplaced | :missing | :unsupported | :not_options | :argument

  @typedoc "An invalid option or argument. Fields: see above."
  @type t :: %__MODULE__{
          reason: reason(),
          key: term(),
          path: [term()],
          value: term(),
          expected: String.t() | nil,
          nearest: atom() | nil
        }

  @redacted "[redacted]"
  # Characters of a text that an error keeps, and of a value that a message shows.
  @most 200

  @doc false
  # An invalid value at a key, or at a path.
  @spec invalid(term(), term(), String.t()) :: t()
  def invalid(where, value, expected), do: new(:invalid, where, value: value, expected: expected)

  @doc false
  @spec argument(atom(), term(), String.t()) :: t()
  def argument(name, value, expected),
    do: new(:argument, name, value: value, expected: expected)

  @doc false
  # Raises the error of an argument. Of a value that can hold a secret, it has the kind.
  @spec wrong!(atom(), term(), String.t()) :: no_return()
  def wrong!(name, value, expected) do
    shown = if is_atom(value) or is_number(value), do: value, else: Type.kind(value)
    raise argument(name, shown, expected)
  end

  @doc false
  @spec new(reason(), term(), keyword()) :: t()
  def new(reason, where, fields) do
    path = Enum.map(if(is_list(where), do: where, else: [where]), &cut/1)
    fields = Keyword.update(fields, :value, nil, &cut/1)
    struct!(%__MODULE__{reason: reason, key: List.first(path), path: path}, fields)
  end

  @doc false
  # Of invalid options, the first element that is no pair is shown, if it cannot hold text.
  @spec not_options(term()) :: t()
  def not_options(value) do
    %__MODULE__{reason: :not_options, value: value |> odd() |> harmless()}
  end

  defp odd([{_, _} | rest]), do: odd(rest)
  defp odd([odd | _rest]), do: odd
  defp odd(other), do: other

  defp harmless(list) when is_list(list) do
    if not List.improper?(list) and Enum.all?(list, &(is_atom(&1) or is_number(&1))),
      do: list,
      else: @redacted
  end

  defp harmless(value) when is_atom(value) or is_number(value) or is_pid(value), do: value
  defp harmless(_value), do: @redacted

  @doc false
  # The error of an option inside another one.
  @spec inside(t(), term()) :: t()
  def inside(%__MODULE__{} = error, outer),
    do: %{error | key: outer, path: [outer | error.path]}

  @doc false
  @spec redact(t()) :: t()
  def redact(%__MODULE__{value: value} = error) when value in [nil, "", [], %{}], do: error
  def redact(%__MODULE__{} = error), do: %{error | value: @redacted}

  @impl true
  def message(%__MODULE__{reason: :unknown} = error) do
    hint =
      cond do
        error.nearest -> "; did you mean #{inspect(error.nearest)}?"
        error.expected -> "; expected #{error.expected}"
        true -> ""
      end

    "unknown option #{place(error)}#{hint}"
  end

  def message(%__MODULE__{reason: :misplaced} = error),
    do: "option #{place(error)} #{error.expected}"

  def message(%__MODULE__{reason: :missing} = error),
    do: "option #{place(error)} is missing; expected #{error.expected || "a value"}"

  def message(%__MODULE__{reason: :unsupported} = error),
    do: "option #{place(error)} is not supported: #{error.expected}"

  def message(%__MODULE__{reason: :not_options} = error) do
    subject = if error.path == [], do: "options", else: "option #{place(error)}"
    "#{subject} must be a keyword list or a map, got: #{show(error.value)}"
  end

  def message(%__MODULE__{reason: reason} = error) do
    noun = if reason == :argument, do: "argument", else: "option"
    "#{noun} #{place(error)} must be #{error.expected}, got: #{show(error.value)}"
  end

  defp place(%{path: [key]}), do: show(key)
  defp place(%{path: path}), do: show(path)

  defp show(@redacted), do: @redacted
  defp show(value), do: value |> inspect(limit: 10, printable_limit: @most) |> shorten(1_000)

  defp cut(text) when is_binary(text) do
    if String.valid?(text),
      do: shorten(text, @most),
      else: binary_part(text, 0, min(byte_size(text), @most))
  end

  defp cut(value), do: value

  defp shorten(text, most) do
    if String.length(text) > most, do: String.slice(text, 0, most) <> "…", else: text
  end

  defimpl Inspect do
    def inspect(error, _opts), do: "#Codex.OptionError<#{Exception.message(error)}>"
  end
end
