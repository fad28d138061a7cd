defmodule Codex.Options.Schema do
  @moduledoc false
  # The one check of options, for every function that takes some. A schema is a list of rows
  #
  #     {name, type, doc}
  #     {name, type, doc, facts}
  #
  # compiled into a struct, from which checks and documentation are made. The facts, which are
  # `opts` of a compiled row:
  #
  #   * `default:`  - the value if the option is not set; nil if left out
  #   * `also:`     - other names of the option
  #   * `secret:`   - true if the value can hold a secret: errors do not have it
  #   * `expected:` - the valid values in words, with backticks around code, which errors leave
  #     out; needed for types that `Codex.Options.Type` lacks
  #   * `required:` - true if the option must be set
  #   * `nil:`      - `:error` if nil is invalid; otherwise nil counts as not set
  #   * `shown:`    - the default in the documentation, if `default:` does not say it
  #
  # Other facts belong to the readers of the rows. A schema with types of its own passes a function
  # `cast.(type, value)`, which returns `{:ok, value}`, `:error`, `{:error, expected}`, or
  # `{:error, error}` with the `Codex.OptionError` of a place inside the value.

  alias Codex.{DidYouMean, OptionError}
  alias Codex.Options.{Places, Type}

  @enforce_keys [:rows, :names, :defaults, :required, :places, :duplicates]
  defstruct @enforce_keys

  @type row :: %{
          name: atom(),
          type: Type.t(),
          doc: String.t(),
          default: term(),
          opts: keyword()
        }
  @type t :: %__MODULE__{
          rows: [row()],
          names: %{(atom() | String.t()) => row()},
          defaults: map(),
          required: [row()],
          places: boolean(),
          duplicates: :first | :last
        }
  @type cast ::
          (Type.t(), term() ->
             {:ok, term()} | :error | {:error, String.t() | OptionError.t()})

  # A longer list of names does not help.
  @listed 12

  @doc """
  Compiles rows. Options: `:places`, true if a key of another list is named with that list;
  `:duplicates`, the one of two equal keys that counts (default `:last`).
  """
  @spec new([tuple()], keyword()) :: t()
  def new(rows, opts \\ []) do
    rows = Enum.map(rows, &row/1)

    %__MODULE__{
      rows: rows,
      names:
        for row <- rows,
            name <- [row.name | row.opts[:also] || []],
            key <- [name, Atom.to_string(name)],
            into: %{} do
          {key, row}
        end,
      defaults: Map.new(rows, &{&1.name, &1.default}),
      required: Enum.filter(rows, & &1.opts[:required]),
      places: opts[:places] == true,
      duplicates: opts[:duplicates] || :last
    }
  end

  defp row({name, type, doc}), do: row({name, type, doc, []})

  defp row({name, type, doc, opts}) do
    expected = opts[:expected] || Type.words(type) || raise "no words for the type of #{name}"
    opts = Keyword.put(opts, :expected, expected)
    %{name: name, type: type, doc: doc, default: opts[:default], opts: opts}
  end

  @doc """
  Checks options: a keyword list, a map, or a list of pairs, whose keys are atoms or strings.
  Returns all options as a map with the defaults.

      iex> alias Codex.Options.Schema
      iex> schema = Schema.new([{:timeout, :milliseconds, "the limit", default: 5_000}])
      iex> Schema.validate(schema, %{"timeout" => 1})
      {:ok, %{timeout: 1}}
      iex> {:error, error} = Schema.validate(schema, timout: 1)
      iex> Exception.message(error)
      "unknown option :timout; did you mean :timeout?"
  """
  @spec validate(t(), term(), cast() | nil) :: {:ok, map()} | {:error, OptionError.t()}
  def validate(schema, opts, cast \\ nil)
  def validate(%{required: []} = schema, [], _cast), do: {:ok, schema.defaults}

  def validate(schema, opts, cast) do
    with {:ok, set} <- set(schema, opts, cast), do: {:ok, Map.merge(schema.defaults, set)}
  end

  @doc "Returns the options as `validate/3` does. Raises the error."
  @spec validate!(t(), term(), cast() | nil) :: map()
  def validate!(schema, opts, cast \\ nil) do
    case validate(schema, opts, cast) do
      {:ok, opts} -> opts
      {:error, error} -> raise error
    end
  end

  @doc "Returns the pairs of options, unchecked."
  @spec pairs(term()) :: {:ok, [{term(), term()}]} | {:error, OptionError.t()}
  def pairs(opts) do
    with :error <- Type.pairs(opts), do: {:error, OptionError.not_options(opts)}
  end

  @doc "Returns the pairs of options, unchecked. Raises the error."
  @spec pairs!(term()) :: [{term(), term()}]
  def pairs!(opts) do
    case pairs(opts) do
      {:ok, pairs} -> pairs
      {:error, error} -> raise error
    end
  end

  @doc "Checks options as `validate/3` does, and returns only those that are set."
  @spec set(t(), term(), cast() | nil) :: {:ok, map()} | {:error, OptionError.t()}
  def set(schema, opts, cast \\ nil) do
    with {:ok, pairs} <- pairs(opts),
         {:ok, set} <- set(order(pairs, schema), schema, cast, %{}) do
      case Enum.find(schema.required, &(not is_map_key(set, &1.name))) do
        nil -> {:ok, set}
        row -> {:error, OptionError.new(:missing, [row.name], expected: expected(row))}
      end
    end
  end

  defp order(pairs, %{duplicates: :last}), do: pairs
  defp order(pairs, %{duplicates: :first}), do: Enum.reverse(pairs)

  defp set([], _schema, _cast, set), do: {:ok, set}

  defp set([{key, value} | pairs], %{names: names} = schema, cast, set) do
    case names do
      %{^key => row} ->
        case value(row, key, value, cast) do
          :unset -> set(pairs, schema, cast, set)
          {:ok, value} -> set(pairs, schema, cast, Map.put(set, row.name, value))
          {:error, error} -> {:error, error}
        end

      _ ->
        {:error, unknown(schema, key)}
    end
  end

  defp value(row, key, nil, _cast) do
    if row.opts[nil] == :error, do: invalid(row, key, nil, expected(row)), else: :unset
  end

  defp value(row, key, value, cast) do
    case cast(row.type, value, cast) do
      {:ok, value} -> {:ok, value}
      :error -> invalid(row, key, value, expected(row))
      {:error, expected} when is_binary(expected) -> invalid(row, key, value, expected)
      {:error, error} -> {:error, error |> OptionError.inside(name(row, key)) |> redact(row)}
    end
  end

  @doc "Returns the valid values of an option in words, as errors have them."
  @spec expected(row()) :: String.t()
  def expected(row), do: String.replace(row.opts[:expected], "`", "")

  defp cast(type, value, nil), do: Type.cast(type, value)

  defp cast(type, value, cast) do
    with :unknown <- Type.cast(type, value), do: cast.(type, value)
  end

  defp invalid(row, key, value, expected),
    do: {:error, name(row, key) |> OptionError.invalid(value, expected) |> redact(row)}

  defp redact(error, row), do: if(row.opts[:secret], do: OptionError.redact(error), else: error)

  # The key as it was given, but for a string: its name is known.
  defp name(_row, key) when is_atom(key), do: key

  defp name(row, key) do
    Enum.find([row.name | row.opts[:also] || []], &(Atom.to_string(&1) == key))
  end

  @doc "Returns the error of a key that a schema does not have."
  @spec unknown(t(), term()) :: OptionError.t()
  def unknown(%__MODULE__{} = schema, key) do
    known = for {name, _row} <- schema.names, is_atom(name), do: name

    with nil <- if(schema.places, do: Places.error(key)) do
      nearest = DidYouMean.nearest(key, known)
      expected = if length(known) <= @listed, do: "one of #{join(known)}"
      OptionError.new(:unknown, [key], nearest: nearest, expected: expected)
    end
  end

  defp join(names), do: names |> Enum.sort() |> Enum.map_join(", ", &inspect/1)

  @doc "Returns the options as a Markdown list: name, type, default and documentation."
  @spec docs(t()) :: String.t()
  def docs(%__MODULE__{rows: rows}) do
    Enum.map_join(rows, "\n", fn row ->
      also = Enum.map_join(row.opts[:also] || [], ", ", &"`#{inspect(&1)}`")
      also = if also == "", do: "", else: " (also #{also})"
      "  * `#{inspect(row.name)}`#{also} - #{row.opts[:expected]}#{default(row)}: #{row.doc}"
    end)
  end

  defp default(%{opts: opts, default: default}) do
    case opts[:shown] do
      nil when default in [nil, [], %{}] -> ""
      nil -> ", default `#{inspect(default)}`"
      shown -> ", default #{shown}"
    end
  end
end
