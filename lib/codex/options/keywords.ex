defmodule Codex.Options.Keywords do
  @moduledoc false
  # Checks keyword lists that a function takes. Other options of the same list may hold secrets, so
  # no message shows a value that can hold text.

  alias Codex.OptionError
  alias Codex.DidYouMean

  @doc """
  Checks that a value is a keyword list with known keys only, and fills in defaults. The first of two
  equal keys counts. Raises `ArgumentError`, which names the unknown key and the nearest known key.

      iex> Codex.Options.Keywords.validate!([timeout: 5], [:env, timeout: 1, strict: false])
      [timeout: 5, strict: false]

      iex> Codex.Options.Keywords.validate!([timout: 5], [:timeout])
      ** (Codex.OptionError) unknown option :timout; did you mean :timeout?

      iex> Codex.Options.Keywords.validate!("sk-example", [:timeout])
      ** (ArgumentError) expected options as a keyword list, got: a string
  """
  @spec validate!(term(), [atom() | {atom(), term()}]) :: keyword()
  def validate!(opts, known) do
    opts = list!(opts)
    names = for name <- known, do: if(is_tuple(name), do: elem(name, 0), else: name)

    with key when key != nil <- Enum.find(Keyword.keys(opts), &(&1 not in names)),
         do: raise(OptionError.new(:unknown, [key], nearest: DidYouMean.nearest(key, names)))

    defaults = for {_, _} = default <- known, do: default
    Enum.uniq_by(opts ++ defaults, &elem(&1, 0))
  end

  @doc "Returns a keyword list. Raises `ArgumentError` for anything else."
  @spec list!(term()) :: keyword()
  def list!(opts) do
    if Keyword.keyword?(opts),
      do: opts,
      else: raise(ArgumentError, "expected options as a keyword list, got: #{shown(opts)}")
  end

  @doc """
  Checks one value. Raises `ArgumentError`, which names the option and the expected value.

      iex> Codex.Options.Keywords.check!([strict: "no"], :strict, &is_boolean/1, "a boolean")
      ** (ArgumentError) expected :strict to be a boolean, got: a string
  """
  @spec check!(keyword() | map(), atom(), (term() -> boolean()), String.t()) :: :ok
  def check!(opts, name, valid?, expected) do
    value = opts[name]

    if valid?.(value),
      do: :ok,
      else:
        raise(ArgumentError, "expected #{inspect(name)} to be #{expected}, got: #{shown(value)}")
  end

  @doc "Whether a value is a list of strings."
  @spec strings?(term()) :: boolean()
  def strings?(list),
    do: is_list(list) and not List.improper?(list) and Enum.all?(list, &is_binary/1)

  @doc """
  A wrong value as a message may show it: atoms and numbers as they are, of anything else the type.

      iex> alias Codex.Options.Keywords
      iex> {Keywords.shown(:safe), Keywords.shown(1.5), Keywords.shown(%{}), Keywords.shown([1 | 2])}
      {":safe", "1.5", "a map", "an improper list"}
  """
  @spec shown(term()) :: String.t()
  def shown(value) when is_atom(value) or is_number(value), do: inspect(value)
  def shown(value) when is_binary(value), do: "a string"
  def shown(value) when is_bitstring(value), do: "a bitstring"
  def shown(%module{}), do: "a #{inspect(module)}"
  def shown(value) when is_map(value), do: "a map"
  def shown(value) when is_tuple(value), do: "a tuple"
  def shown(value) when is_function(value), do: "a function"
  def shown(value) when is_pid(value), do: "a pid"
  def shown([]), do: "[]"

  def shown(value) when is_list(value),
    do: if(List.improper?(value), do: "an improper list", else: "a list")

  def shown(_value), do: "a reference"

  @doc """
  A wrong value as an error may hold it: atoms, numbers, and lists of these stay.

      iex> alias Codex.Options.Keywords
      iex> {Keywords.redacted("sk-example"), Keywords.redacted([:cwd, 1])}
      {"[redacted]", [:cwd, 1]}
  """
  @spec redacted(term()) :: term()
  def redacted(value), do: if(harmless?(value), do: value, else: "[redacted]")

  defp harmless?(list) when is_list(list),
    do: not List.improper?(list) and Enum.all?(list, &(is_atom(&1) or is_number(&1)))

  defp harmless?(value), do: is_atom(value) or is_number(value) or is_pid(value)
end
