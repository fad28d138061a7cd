defmodule Codex.Protocol.Check do
  @moduledoc false
  # Options of a method, as a user writes them, to what goes over the wire; or the first thing that is wrong with them.
  #
  # Keys are snake_case or as on the wire, atoms or text; so are words. What is experimental is counted, not refused: only
  # the connection knows what it agreed on.

  alias Codex.Options.Keywords
  alias Codex.Protocol.{Type, Words}
  alias Codex.Suggest

  @typedoc "An option by its key, or the way to something inside it: keys, and indexes of lists from 0."
  @type where :: term() | [term()]
  @type reason ::
          {:unknown_option, where(), nearest :: atom() | nil}
          | {:missing_option, where()}
          | {:invalid_option, where(), value :: term(), expected :: String.t()}
          | {:invalid_options, value :: term()}

  @doc """
  A type as the checks want it. Objects know their fields by either spelling:
  `{:object, %{spelling => {wire, name, type, required?, experimental?}}, required fields, type of other keys or nil}`.
  """
  @spec prepare(Type.t()) :: term()
  def prepare({:fields, fields, rest}) do
    entries =
      for {wire, field} <- Enum.sort(fields) do
        name = Macro.underscore(wire)
        # From our own file, while this library is compiled.
        {wire, String.to_atom(name), prepare(field.type), field.required, field.experimental}
      end

    names =
      for {wire, name, _, _, _} = entry <- entries,
          spelling <- [Atom.to_string(name), wire],
          into: %{},
          do: {spelling, entry}

    {:object, names, Enum.filter(entries, &elem(&1, 3)), rest && prepare(rest)}
  end

  def prepare({tag, type}) when tag in [:list, :nullable], do: {tag, prepare(type)}
  def prepare({:one_of, types}), do: {:one_of, Enum.map(types, &prepare/1)}
  def prepare(plain), do: plain

  @doc """
  Checks a value against a prepared type. `types` are the prepared types by name. The third element are the experimental
  fields that were used, as on the wire, with dots.
  """
  @spec run(term(), term(), %{String.t() => term()}) ::
          {:ok, term(), [String.t()]} | {:error, reason()}
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
        missing -> {:error, {:missing_option, where(inside(at, elem(missing, 1)))}}
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

    case {field(names, spelling(key)), rest} do
      {{name, _, type, required, experimental}, _} ->
        if unset?(type, value, required) do
          members(pairs, names, rest, at, wire, uses)
        else
          with {:ok, value, more} <- cast(type, value, here) do
            more = Enum.map(more, &"#{name}.#{&1}")

            more = if experimental and used?(type, value), do: [name], else: more
            members(pairs, names, rest, at, Map.put(wire, name, value), uses ++ more)
          end
        end

      {nil, rest} ->
        with {:ok, name} <- other_name(key, names, rest, here),
             {:ok, value, _more} <- cast(rest, value, here),
             do: members(pairs, names, rest, at, Map.put(wire, name, value), uses)
    end
  end

  # Some names are snake_case on the wire; they may be written as the others are. A longer key is no name.
  defp field(names, key) when is_binary(key) and byte_size(key) <= 64,
    do: names[key] || names[Macro.underscore(key)]

  defp field(_names, _key), do: nil

  # As the server sees it: where there may be a null, everything else was meant (observed with 0.169).
  defp used?(_type, nil), do: false
  defp used?({:nullable, _}, _value), do: true
  defp used?(_type, value), do: value not in [false, [], %{}]

  # nil is null where the protocol has a null, and no option elsewhere.
  defp unset?({:nullable, _}, nil, _required), do: false
  defp unset?(:any, nil, required), do: not required
  defp unset?(_type, value, _required), do: value == nil

  defp other_name(key, names, nil, here) do
    known = for {_, entry} <- names, uniq: true, do: elem(entry, 1)
    {:error, {:unknown_option, where(here), nearest(key, known)}}
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
      text -> if String.valid?(text), do: Suggest.nearest(Macro.underscore(text), known)
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

  # The word alone, for an object that needs nothing but its tag.
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

  # The field that tells the objects apart: a word that each of them must have.
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
        {:error, {:missing_option, where(inside(at, name))}}

      {_, given} ->
        case Enum.filter(objects, fn {:object, names, _, _} ->
               {:word, word} = elem(names[wire], 2)
               word?(word, given)
             end) do
          [] ->
            words = for {:object, names, _, _} <- objects, do: elem(names[wire], 2)
            invalid({:one_of, Enum.uniq(words)}, given, inside(at, name))

          objects ->
            closest(objects, pairs, at)
        end
    end
  end

  # The first that fits; else what is wrong with the one that knows most of the keys.
  defp closest(objects, pairs, at) do
    with :none <- first(objects, pairs, at) do
      objects
      |> Enum.max_by(fn {:object, names, _, _} ->
        Enum.count(pairs, fn {key, _} -> is_map_key(names, spelling(key)) end)
      end)
      |> cast(pairs, at)
    end
  end

  # A longer one is no word of the protocol.
  @longest 64

  defp word?(word, value) when is_atom(value) and not is_boolean(value) and value != nil,
    do: word?(word, Atom.to_string(value))

  defp word?(word, word), do: true

  defp word?(word, value) when is_binary(value) and byte_size(value) <= @longest,
    do: plain(word) == plain(value)

  defp word?(_word, _value), do: false

  defp plain(word), do: word |> Macro.underscore() |> String.replace("-", "_")

  ## What is wrong

  defp inside({types, path}, key), do: {types, [key | path]}

  defp where({_types, [key]}), do: key
  defp where({_types, path}), do: Enum.reverse(path)

  @spec invalid(term(), term(), tuple()) :: {:error, reason()}
  defp invalid(_type, value, {_types, []}),
    do: {:error, {:invalid_options, Keywords.redacted(value)}}

  defp invalid(type, value, {types, path} = at) do
    expected = if is_binary(type), do: type, else: Words.expected(type, types)
    {:error, {:invalid_option, where(at), Words.hide(value, path), expected}}
  end
end
