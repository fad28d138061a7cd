defmodule Codex.Protocol.Check do
  @moduledoc false
  # Checks the options of a method, and converts them to JSON values for the wire.
  #
  # Keys and words are in snake_case or as on the wire, atoms or strings. Experimental fields are
  # listed, not refused: only the connection knows whether it has the experimental API.

  alias Codex.{DidYouMean, OptionError}
  alias Codex.Protocol.Words

  @typedoc """
  A type of the protocol, as in `priv/protocol/app_server.exs`. `:count` is an integer from 0,
  `:any` any JSON value, `:other` the type of all other keys of an object.
  """
  @type type ::
          :string
          | :integer
          | :count
          | :number
          | :boolean
          | :null
          | :any
          | {:word, String.t()}
          | {:value, number()}
          | {:ref, String.t()}
          | {:list, type()}
          | {:nullable, type()}
          | {:one_of, [type()]}
          | {:fields, [{field_kind(), {String.t(), type()}} | {:other, type()}]}
  @type field_kind :: :required | :optional | :experimental_required | :experimental

  @doc """
  Prepares a type for the checks. Objects find their fields by either spelling:

      {:object, %{spelling => {wire, name, type, required?, experimental?}}, required, other}

  `required` lists the required fields; `other` is the type of other keys, or nil.
  """
  @spec prepare(type()) :: term()
  def prepare({:fields, fields}) do
    {other, fields} = Keyword.split(fields, [:other])

    entries =
      for {kind, {wire, type}} <- fields do
        # The names come from our own file, while this library is compiled.
        name = wire |> Macro.underscore() |> String.to_atom()
        required = kind in [:required, :experimental_required]
        {wire, name, prepare(type), required, kind in [:experimental, :experimental_required]}
      end

    names =
      for {wire, name, _, _, _} = entry <- entries,
          spelling <- [Atom.to_string(name), wire],
          into: %{},
          do: {spelling, entry}

    {:object, names, Enum.filter(entries, &elem(&1, 3)), other[:other] && prepare(other[:other])}
  end

  def prepare({tag, type}) when tag in [:list, :nullable], do: {tag, prepare(type)}
  def prepare({:one_of, types}), do: {:one_of, Enum.map(types, &prepare/1)}
  def prepare(plain), do: plain

  @doc """
  Checks a value against a prepared type. `types` are the prepared types by name. The third element
  lists the paths of the experimental fields that were used, in the names of the wire, with dots.
  """
  @spec run(term(), term(), %{String.t() => term()}) ::
          {:ok, term(), [String.t()]} | {:error, OptionError.t()}
  def run(type, value, types) do
    with {:ok, wire, uses} <- cast(type, value, {types, []}), do: {:ok, wire, Enum.uniq(uses)}
  end

  defp cast({:ref, name}, value, {types, _} = at), do: cast(Map.fetch!(types, name), value, at)
  defp cast({:nullable, _type}, nil, _at), do: {:ok, nil, []}
  defp cast({:nullable, type}, value, at), do: cast(type, value, at)
  defp cast(:boolean, value, _at) when is_boolean(value), do: {:ok, value, []}
  defp cast(:integer, value, _at) when is_integer(value), do: {:ok, value, []}
  defp cast(:count, value, _at) when is_integer(value) and value >= 0, do: {:ok, value, []}
  defp cast(:number, value, _at) when is_number(value), do: {:ok, value, []}
  defp cast(:null, nil, _at), do: {:ok, nil, []}

  defp cast(:string, value, at) when is_binary(value) do
    if String.valid?(value), do: {:ok, value, []}, else: invalid(:string, value, at)
  end

  defp cast(:string, value, _at) when is_atom(value) and not is_boolean(value) and value != nil,
    do: {:ok, Atom.to_string(value), []}

  defp cast({:word, word} = type, value, at) do
    if word?(word, value), do: {:ok, word, []}, else: invalid(type, value, at)
  end

  defp cast({:value, number}, number, _at), do: {:ok, number, []}

  defp cast({:list, type}, values, at) when is_list(values) do
    if List.improper?(values),
      do: invalid({:list, type}, values, at),
      else: elements(values, 0, type, at, [], [])
  end

  defp cast({:one_of, types}, value, at), do: one_of(types, value, at)
  defp cast({:object, _, _, _} = object, value, at), do: object(object, value, at)

  defp cast(:any, value, {_, path} = at) do
    case Codex.JSON.encode(value) do
      {:ok, _json} ->
        {:ok, value, []}

      {:error, {:not_encodable, odd, inner}} ->
        invalid(
          "a value that JSON has a form for",
          odd,
          put_elem(at, 1, Enum.reverse(inner, path))
        )
    end
  end

  defp cast(type, value, at), do: invalid(type, value, at)

  defp elements([], _index, _type, _at, done, uses), do: {:ok, Enum.reverse(done), uses}

  defp elements([value | rest], index, type, at, done, uses) do
    with {:ok, wire, more} <- cast(type, value, inside(at, index)),
         do: elements(rest, index + 1, type, at, [wire | done], uses ++ more)
  end

  ## Objects

  defp object({:object, names, required, rest} = object, value, at) do
    with {:ok, pairs} <- pairs(value, object, at),
         {:ok, wire, uses} <- members(pairs, names, rest, at, %{}, []) do
      case Enum.find(required, &(not is_map_key(wire, elem(&1, 0)))) do
        nil -> {:ok, wire, uses}
        missing -> missing(elem(missing, 1), at)
      end
    end
  end

  defp pairs(%{} = map, _object, _at) when not is_struct(map), do: {:ok, Map.to_list(map)}

  defp pairs(list, object, at) when is_list(list) do
    if not List.improper?(list) and Enum.all?(list, &match?({_, _}, &1)),
      do: {:ok, list},
      else: invalid(object, list, at)
  end

  defp pairs(other, object, at), do: invalid(object, other, at)

  defp members([], _names, _rest, _at, wire, uses), do: {:ok, wire, uses}

  defp members([{key, value} | pairs], names, rest, at, wire, uses) do
    here = inside(at, key)

    member =
      case field(names, spelling(key)) do
        nil -> other_member(key, value, names, rest, here)
        field -> member(field, value, here)
      end

    case member do
      {:ok, name, value, more} ->
        members(pairs, names, rest, at, Map.put(wire, name, value), uses ++ more)

      :unset ->
        members(pairs, names, rest, at, wire, uses)

      {:error, error} ->
        {:error, error}
    end
  end

  defp member({name, _, type, required, experimental}, value, here) do
    if unset?(type, value, required) do
      :unset
    else
      with {:ok, value, uses} <- cast(type, value, here),
           do: {:ok, name, value, uses(name, type, value, experimental, uses)}
    end
  end

  defp uses(name, type, value, experimental, inner) do
    if experimental and used?(type, value),
      do: [name],
      else: Enum.map(inner, &"#{name}.#{&1}")
  end

  defp other_member(key, value, names, rest, here) do
    with {:ok, name} <- other_name(key, names, rest, here),
         {:ok, value, _uses} <- cast(rest, value, here),
         do: {:ok, name, value, []}
  end

  # Names that are snake_case on the wire may be written in camelCase, too. Longer keys are no
  # names.
  defp field(names, key) when is_binary(key) and byte_size(key) <= 64,
    do: names[key] || names[Macro.underscore(key)]

  defp field(_names, _key), do: nil

  # The rule of the server: a value of a nullable field is always used.
  defp used?(_type, nil), do: false
  defp used?({:nullable, _}, _value), do: true
  defp used?(_type, value), do: value not in [false, [], %{}]

  # nil is null if the type is nullable; otherwise the option counts as missing.
  defp unset?({:nullable, _}, nil, _required), do: false
  defp unset?(:any, nil, required), do: not required
  defp unset?(_type, value, _required), do: value == nil

  defp other_name(key, names, nil, here) do
    known = for {_, entry} <- names, uniq: true, do: elem(entry, 1)
    {:error, OptionError.new(:unknown, path(here), nearest: nearest(key, known))}
  end

  defp other_name(key, _names, _rest, here) do
    case spelling(key) do
      nil -> invalid("a key that is text", key, here)
      name -> if String.valid?(name), do: {:ok, name}, else: invalid(:string, key, here)
    end
  end

  defp nearest(key, known) when is_atom(key) or is_binary(key) do
    case spelling(key) do
      nil -> nil
      text -> if String.valid?(text), do: DidYouMean.nearest(Macro.underscore(text), known)
    end
  end

  defp nearest(_key, _known), do: nil

  defp spelling(key) when is_binary(key), do: key
  defp spelling(key) when is_atom(key) and key != nil, do: Atom.to_string(key)
  defp spelling(_key), do: nil

  ## Unions

  defp one_of(types, value, {names, _} = at) do
    members = Enum.flat_map(types, &flatten(&1, names))
    objects = Enum.filter(members, &match?({:object, _, _, _}, &1))

    with :none <- first(members -- objects, value, at),
         :none <- short(objects, value),
         :none <- tagged(objects, value, at),
         do: invalid({:one_of, types}, value, at)
  end

  defp flatten({:ref, name}, types), do: flatten(Map.fetch!(types, name), types)
  defp flatten({:one_of, members}, types), do: Enum.flat_map(members, &flatten(&1, types))
  defp flatten({:nullable, type}, types), do: [:null | flatten(type, types)]
  defp flatten(type, _types), do: [type]

  defp first(members, value, at) do
    Enum.find_value(members, :none, fn member ->
      with {:error, _} <- cast(member, value, at), do: nil
    end)
  end

  # A word may stand for an object whose only required field is its tag.
  defp short(objects, word) when is_atom(word) or is_binary(word) do
    Enum.find_value(objects, :none, fn
      {:object, _, [{tag, _, {:word, known}, _, _}], _} ->
        if word?(known, word), do: {:ok, %{tag => known}, []}

      _ ->
        nil
    end)
  end

  defp short(_objects, _value), do: :none

  defp tagged([], _value, _at), do: :none

  defp tagged([object | _] = objects, value, at) do
    case pairs(value, object, at) do
      {:ok, pairs} -> tagged(objects, pairs, tag(objects), at)
      {:error, _} -> :none
    end
  end

  # The tag is the field that distinguishes the objects: each requires it, and its type is a word.
  defp tag(objects) do
    objects
    |> Enum.map(fn {:object, _, required, _} ->
      for {wire, name, {:word, _}, _, _} <- required, do: {wire, name}
    end)
    |> Enum.reduce(fn tags, common -> Enum.filter(common, &(&1 in tags)) end)
    |> List.first()
  end

  defp tagged(objects, pairs, nil, at), do: closest(objects, pairs, at)

  defp tagged(objects, pairs, {wire, name}, at) do
    case List.keyfind(for({key, value} <- pairs, do: {spelling(key), value}), wire, 0) ||
           Enum.find_value(pairs, fn {key, value} -> key == name && {wire, value} end) do
      nil ->
        missing(name, at)

      {_, given} ->
        case Enum.filter(objects, &word?(elem(tag_word(&1, wire), 1), given)) do
          [] ->
            words = Enum.map(objects, &tag_word(&1, wire))
            invalid({:one_of, Enum.uniq(words)}, given, inside(at, name))

          objects ->
            closest(objects, pairs, at)
        end
    end
  end

  defp tag_word({:object, names, _, _}, wire), do: elem(names[wire], 2)

  # The first that fits; else what is wrong with the one that knows most of the keys.
  defp closest(objects, pairs, at) do
    with :none <- first(objects, pairs, at) do
      objects
      |> Enum.max_by(&known(&1, pairs))
      |> cast(pairs, at)
    end
  end

  defp known({:object, names, _, _}, pairs),
    do: Enum.count(pairs, fn {key, _} -> is_map_key(names, spelling(key)) end)

  # No word of the protocol is longer.
  @longest 64

  defp word?(word, value) when is_atom(value) and not is_boolean(value) and value != nil,
    do: word?(word, Atom.to_string(value))

  defp word?(word, word), do: true

  defp word?(word, value) when is_binary(value) and byte_size(value) <= @longest,
    do: plain(word) == plain(value)

  defp word?(_word, _value), do: false

  defp plain(word), do: word |> Macro.underscore() |> String.replace("-", "_")

  ## Errors

  defp inside({types, path}, key), do: {types, [key | path]}

  defp path({_types, path}), do: Enum.reverse(path)

  defp missing(name, at), do: {:error, OptionError.new(:missing, path(inside(at, name)), [])}

  @spec invalid(term(), term(), tuple()) :: {:error, OptionError.t()}
  defp invalid(_type, value, {_types, []}),
    do: {:error, OptionError.not_options(value)}

  defp invalid(type, value, {types, path} = at) do
    expected = if is_binary(type), do: type, else: Words.expected(type, types)
    {:error, OptionError.invalid(path(at), Words.hide(value, path), expected)}
  end
end
