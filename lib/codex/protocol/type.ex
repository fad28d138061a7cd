defmodule Codex.Protocol.Type do
  @moduledoc false
  # The types of the app-server protocol: as text in `priv/protocol`, as terms everywhere else.
  #
  #     string integer count number boolean null any    count: an integer from 0; any: whatever JSON can say
  #     'word'                                          this text and no other
  #     Name                                            another type of the file
  #     [T]                                             a list
  #     T?                                              T or null
  #     A|B                                             one of them
  #     {a!:T,b:T,~c:T,*:T}                             an object: ! must be there, ~ is experimental, * any other key

  @type t ::
          :string
          | :integer
          | :count
          | :number
          | :boolean
          | :null
          | :any
          | {:word, String.t()}
          | {:ref, String.t()}
          | {:list, t()}
          | {:nullable, t()}
          | {:one_of, [t()]}
          | {:fields, %{String.t() => field()}, rest :: t() | nil}
  @type field :: %{type: t(), required: boolean(), experimental: boolean()}

  @plain ~w(string integer count number boolean null any)a
  @words Map.new(@plain, &{Atom.to_string(&1), &1})

  @doc """
  Reads a type.

      iex> Codex.Protocol.Type.parse!("[Name]?|'a'")
      {:one_of, [{:nullable, {:list, {:ref, "Name"}}}, {:word, "a"}]}
      iex> Codex.Protocol.Type.parse!("{a")
      ** (ArgumentError) expected ":", got the end, in the type {a
  """
  @spec parse!(String.t()) :: t()
  def parse!(text) do
    case text |> tokens() |> union() do
      {type, []} -> type
      {_type, [token | _]} -> fail("the end", token)
    end
  catch
    {__MODULE__, wanted, got} ->
      raise ArgumentError, "expected #{wanted}, got #{got}, in the type #{text}"
  end

  defp tokens(text) do
    ~r/'[^']*'|[\w$.\-]+|\S/ |> Regex.scan(text) |> Enum.map(&hd/1)
  end

  defp union(tokens) do
    {type, rest} = one(tokens)
    union([type], rest)
  end

  defp union(types, ["|" | rest]) do
    {type, rest} = one(rest)
    union([type | types], rest)
  end

  defp union([type], rest), do: {type, rest}
  defp union(types, rest), do: {{:one_of, Enum.reverse(types)}, rest}

  defp one(tokens) do
    case primary(tokens) do
      {type, ["?" | rest]} -> {{:nullable, type}, rest}
      found -> found
    end
  end

  defp primary(["[" | rest]) do
    {type, rest} = union(rest)
    {{:list, type}, expect(rest, "]")}
  end

  defp primary(["(" | rest]) do
    {type, rest} = union(rest)
    {type, expect(rest, ")")}
  end

  defp primary(["{", "}" | rest]), do: {{:fields, %{}, nil}, rest}
  defp primary(["{" | rest]), do: fields(rest, %{}, nil)

  defp primary([token | rest]) do
    case {@words, token} do
      {%{^token => type}, _} -> {type, rest}
      {_, "'" <> word} -> {{:word, String.trim_trailing(word, "'")}, rest}
      {_, <<char, _::binary>>} when char in ?A..?Z -> {{:ref, token}, rest}
      _ -> fail("a type", token)
    end
  end

  defp primary([]), do: fail("a type", nil)

  defp fields(tokens, fields, other) do
    {experimental, tokens} = optional(tokens, "~")
    {name, tokens} = name(tokens)
    {required, tokens} = optional(tokens, "!")
    {type, tokens} = tokens |> expect(":") |> union()
    field = %{type: type, required: required, experimental: experimental}

    {fields, other} =
      if name == "*", do: {fields, type}, else: {Map.put(fields, name, field), other}

    case tokens do
      ["," | tokens] -> fields(tokens, fields, other)
      tokens -> {{:fields, fields, other}, expect(tokens, "}")}
    end
  end

  defp optional([token | rest], token), do: {true, rest}
  defp optional(tokens, _token), do: {false, tokens}

  defp name([name | rest]), do: {name, rest}
  defp name([]), do: fail("a name", nil)

  defp expect([token | rest], token), do: rest
  defp expect(tokens, token), do: fail(inspect(token), List.first(tokens))

  @spec fail(String.t(), String.t() | nil) :: no_return()
  defp fail(wanted, got), do: throw({__MODULE__, wanted, (got && inspect(got)) || "the end"})

  @doc """
  Writes a type, the fields in the order of their names; inverse of `parse!/1`.

      iex> Codex.Protocol.Type.write({:nullable, {:one_of, [:string, {:list, :count}]}})
      "(string|[count])?"
  """
  @spec write(t()) :: String.t()
  def write(type) when type in @plain, do: Atom.to_string(type)
  def write({:word, word}), do: "'#{word}'"
  def write({:ref, name}), do: name
  def write({:list, type}), do: "[#{write(type)}]"
  def write({:nullable, {:one_of, _} = type}), do: "(#{write(type)})?"
  def write({:nullable, type}), do: write(type) <> "?"
  def write({:one_of, types}), do: Enum.map_join(types, "|", &write/1)

  def write({:fields, fields, other}) do
    fields = for {name, field} <- Enum.sort(fields), do: write_field(name, field)
    "{" <> Enum.join(fields ++ if(other, do: ["*:" <> write(other)], else: []), ",") <> "}"
  end

  @doc "A field as it stands in an object."
  def write_field(name, field) do
    [if(field.experimental, do: "~", else: ""), name, if(field.required, do: "!", else: "")]
    |> Enum.join()
    |> Kernel.<>(":" <> write(field.type))
  end
end
