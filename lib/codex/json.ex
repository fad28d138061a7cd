defmodule Codex.JSON do
  @moduledoc """
  Reads and writes JSON on every version of Elixir, without a dependency. This package uses it
  itself.
  """

  # The encoder is in Elixir, because sent messages are small. The decoder is in Rust.

  @typedoc "A path into a term: map keys and list indexes (from 0), outermost first."
  @type path :: [String.t() | atom() | non_neg_integer()]

  @typedoc """
  The reason why a term is not JSON: `value` is the innermost invalid value and `path` leads to it.
  An invalid map key is reported as the value, with the path of its map.
  """
  @type encode_error :: {:not_encodable, value :: term(), path()}

  @doc """
  Encodes `term` as compact JSON.

  | Elixir | JSON |
  | --- | --- |
  | map with string or atom keys | object, in the map's own order |
  | `Codex.JSON.Object` | object, in the order of its members |
  | list | array |
  | `nil`, `true`, `false` | the same |
  | other atoms, UTF-8 binaries | string |
  | integer of any size, float | number; floats in the shortest form that reads back the same |

  Anything else is an error: other structs, tuples (and so keyword lists), binaries that are not
  UTF-8, pids, functions. `/` and characters above `0x7f` are not escaped. A map with both `:a` and
  `"a"` gives that key twice.

      iex> Codex.JSON.encode(%{"a" => [1, 2.5, nil, :b]})
      {:ok, ~S({"a":[1,2.5,null,"b"]})}

      iex> Codex.JSON.encode(%{a: [%{b: {1, 2}}]})
      {:error, {:not_encodable, {1, 2}, [:a, 0, :b]}}
  """
  @spec encode(term()) :: {:ok, binary()} | {:error, encode_error()}
  def encode(term) do
    {:ok, IO.iodata_to_binary(value(term, []))}
  catch
    :throw, {__MODULE__, value, reversed} ->
      {:error, {:not_encodable, value, Enum.reverse(reversed)}}
  end

  @doc """
  Encodes `term` like `encode/1`, but returns the binary and raises `ArgumentError` for an invalid
  term.

      iex> Codex.JSON.encode!(%{text: "a\\tb"})
      ~S({"text":"a\\tb"})

      iex> Codex.JSON.encode!(a: 1)
      ** (ArgumentError) cannot write {:a, 1} as JSON (at [0]): tuples have no JSON form; use a map
  """
  @spec encode!(term()) :: binary()
  def encode!(term) do
    case encode(term) do
      {:ok, json} ->
        json

      {:error, {:not_encodable, value, path}} ->
        raise ArgumentError,
              "cannot write #{inspect(value)} as JSON (at #{inspect(path)}): #{why(value)}"
    end
  end

  @typedoc """
  The error of a document, and the byte at which it occurs: the document ends too early (`:eof`), a
  byte is out of place (`:syntax`), something follows the value (`:trailing`), a string has a raw
  control character (`:control`) or an invalid escape (`:escape`), a number is malformed (`:number`)
  or beyond a 64-bit float or longer than 1024 digits (`:number_range`), there are more than 256
  levels (`:depth`), the document is not UTF-8 (`:utf8`), or has more values and keys than allowed
  (`:nodes`).
  """
  @type decode_error :: {
          :eof
          | :syntax
          | :trailing
          | :control
          | :escape
          | :number
          | :number_range
          | :depth
          | :utf8
          | :nodes,
          offset :: non_neg_integer()
        }

  # Longer documents are parsed on a dirty scheduler: 64 KiB of `{},` take over a millisecond.
  @long 32 * 1024

  # A limit in bytes does not bound memory: `{}` takes 3 bytes and over a hundred as a term, a short
  # key several hundred. Two million nodes take 270 MB at worst (`bench/nodes`). The densest
  # messages of the CLI have some twenty bytes a node, so 40 MB of them pass.
  @max_nodes 2_000_000

  @doc "Returns the default limit of values and keys in a document or message."
  @spec max_nodes() :: pos_integer()
  def max_nodes, do: @max_nodes

  @doc """
  Decodes one JSON text of at most `max_nodes` values and keys. Objects become maps with string keys
  (the last of two equal keys wins), `null` becomes `nil`.

      iex> Codex.JSON.decode(~S({"a": [1, 2.5, null]}))
      {:ok, %{"a" => [1, 2.5, nil]}}

      iex> Codex.JSON.decode("[1,]")
      {:error, {:syntax, 3}}
  """
  @spec decode(binary(), pos_integer()) :: {:ok, term()} | {:error, decode_error()}
  def decode(json, max_nodes \\ @max_nodes)

  def decode(json, max_nodes) when byte_size(json) > @long,
    do: Codex.Native.json_decode_long(json, max_nodes)

  def decode(json, max_nodes) when is_binary(json), do: Codex.Native.json_decode(json, max_nodes)

  defp value(nil, _path), do: "null"
  defp value(true, _path), do: "true"
  defp value(false, _path), do: "false"
  defp value(atom, path) when is_atom(atom), do: string(Atom.to_string(atom), path)
  defp value(text, path) when is_binary(text), do: string(text, path)
  defp value(n, _path) when is_integer(n), do: Integer.to_string(n)
  defp value(f, _path) when is_float(f), do: :erlang.float_to_binary(f, [:short])
  defp value([], _path), do: "[]"
  defp value(list, path) when is_list(list), do: [?[, elements(list, 0, list, path), ?]]
  defp value(%Codex.JSON.Object{members: members}, path), do: object(members, path)
  defp value(%_{} = struct, path), do: refuse(struct, path)
  defp value(map, path) when is_map(map), do: object(map, path)
  defp value(other, path), do: refuse(other, path)

  defp elements([last], index, _list, path), do: [value(last, [index | path])]

  defp elements([head | tail], index, list, path) when is_list(tail),
    do: [value(head, [index | path]), ?, | elements(tail, index + 1, list, path)]

  # [1 | 2] has no JSON form
  defp elements(_improper, _index, list, path), do: refuse(list, path)

  # A map, or a list of pairs.
  defp object(members, path) do
    members =
      for {key, value} <- members do
        [?,, key(key, path), ?:, value(value, [key | path])]
      end

    # the first member's comma becomes the brace
    case members do
      [] -> "{}"
      [[?, | first] | rest] -> [?{, first, rest, ?}]
    end
  end

  defp key(key, path) when is_binary(key), do: string(key, path)
  defp key(key, path) when is_atom(key), do: string(Atom.to_string(key), path)
  defp key(key, path), do: refuse(key, path)

  defp string(text, path), do: [?", escape(text, text, 0, 0, path), ?"]

  # `start` and `length` delimit the run of bytes in `whole` that can be copied as they are.
  defp escape(<<byte, rest::binary>>, whole, start, length, path)
       when byte in 0x20..0x7F and byte not in [?", ?\\],
       do: escape(rest, whole, start, length + 1, path)

  defp escape(<<byte, rest::binary>>, whole, start, length, path) when byte < 0x80 do
    run = binary_part(whole, start, length)
    [run, escaped(byte) | escape(rest, whole, start + length + 1, 0, path)]
  end

  defp escape(<<char::utf8, rest::binary>>, whole, start, length, path),
    do: escape(rest, whole, start, length + utf8_size(char), path)

  defp escape(<<>>, whole, start, length, _path), do: [binary_part(whole, start, length)]
  defp escape(_not_utf8, whole, _start, _length, path), do: refuse(whole, path)

  defp utf8_size(char) when char < 0x800, do: 2
  defp utf8_size(char) when char < 0x10000, do: 3
  defp utf8_size(_char), do: 4

  defp escaped(?"), do: ~S(\")
  defp escaped(?\\), do: ~S(\\)
  defp escaped(?\n), do: ~S(\n)
  defp escaped(?\r), do: ~S(\r)
  defp escaped(?\t), do: ~S(\t)
  defp escaped(byte) when byte < 0x10, do: ["\\u000", Integer.to_string(byte, 16)]
  defp escaped(byte), do: ["\\u00", Integer.to_string(byte, 16)]

  @spec refuse(term(), list()) :: no_return()
  defp refuse(value, path), do: throw({__MODULE__, value, path})

  defp why(%_{}), do: "structs have no JSON form; use a plain map"
  defp why(value) when is_tuple(value), do: "tuples have no JSON form; use a map"
  defp why(value) when is_binary(value), do: "it is not valid UTF-8"
  defp why(value) when is_number(value), do: "object keys are strings or atoms"
  defp why(value) when is_list(value), do: "it is an improper list"
  defp why(_value), do: "only maps, lists, strings, numbers, booleans and nil have a JSON form"
end
