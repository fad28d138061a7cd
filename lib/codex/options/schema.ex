defmodule Codex.Options.Schema do
  @moduledoc false
  # Checks and documents lists of options. A row is name, type, default and documentation.

  alias Codex.Options.Keywords
  alias Codex.Suggest

  # The longest timeout of the VM: 49 days.
  @max_ms 0xFFFFFFFF

  @type row :: {atom(), atom() | {:fun, arity()}, term(), String.t()}
  @type reason :: {:unknown_option, term(), atom() | nil} | {atom(), term()} | term()

  @doc "Returns the longest possible wait in ms."
  def max_ms, do: @max_ms

  @doc "Returns the options as a Markdown list."
  @spec docs([row()]) :: String.t()
  def docs(rows) do
    Enum.map_join(rows, "\n", fn {name, type, default, doc} ->
      shown = if default == nil, do: "", else: ", default `#{inspect(default)}`"
      "  * `#{inspect(name)}` - #{expected(type)}#{shown}: #{doc}"
    end)
  end

  @doc """
  Returns all options as a map with the defaults. The error is `{:unknown_option, key, nearest}`
  or `{option, value}`, or `opts` itself unless that is a map or a keyword list. A value of nil
  counts as missing.
  """
  @spec check([row()], term()) :: {:ok, map()} | {:error, reason()}
  def check(rows, opts) do
    with {:ok, pairs} <- pairs(opts) do
      defaults = Map.new(rows, fn {name, _, default, _} -> {name, default} end)

      Enum.reduce_while(pairs, {:ok, defaults}, fn {key, value}, {:ok, checked} ->
        case one(rows, key, value) do
          :unset -> {:cont, {:ok, checked}}
          {:ok, name} -> {:cont, {:ok, Map.put(checked, name, value)}}
          {:error, reason} -> {:halt, {:error, reason}}
        end
      end)
    end
  end

  @doc "Returns the options as `check/2` does. Raises `ArgumentError`."
  @spec check!([row()], term()) :: map()
  def check!(rows, opts) do
    case check(rows, opts) do
      {:ok, checked} ->
        checked

      {:error, {:unknown_option, key, _nearest}} ->
        raise ArgumentError, Suggest.unknown_key(key, Enum.map(rows, &elem(&1, 0)))

      {:error, other} ->
        with {name, value} <- other, {_, type, _, _} <- List.keyfind(rows, name, 0) do
          raise ArgumentError,
                "expected option #{inspect(name)} to be #{expected(type)}, " <>
                  "got: #{Keywords.shown(value)}"
        end

        raise ArgumentError,
              "expected options as map or keyword list, got: #{Keywords.shown(other)}"
    end
  end

  defp pairs(%{} = opts) when not is_struct(opts), do: {:ok, Map.to_list(opts)}

  defp pairs(opts) do
    if is_list(opts) and not List.improper?(opts) and Enum.all?(opts, &match?({_, _}, &1)),
      do: {:ok, opts},
      else: {:error, opts}
  end

  defp one(rows, key, value) when is_atom(key) or is_binary(key) do
    word = to_string(key)

    case Enum.find(rows, fn {name, _, _, _} -> Atom.to_string(name) == word end) do
      nil -> unknown(rows, key)
      _row when value == nil -> :unset
      {name, type, _, _} -> if valid?(type, value), do: {:ok, name}, else: {:error, {name, value}}
    end
  end

  defp one(rows, key, _value), do: unknown(rows, key)

  defp unknown(rows, key) do
    {:error, {:unknown_option, key, Suggest.nearest(key, Enum.map(rows, &elem(&1, 0)))}}
  end

  defp valid?(:positive, n), do: is_integer(n) and n in 1..@max_ms
  defp valid?(:count, n), do: is_integer(n) and n in 0..@max_ms
  defp valid?(:timeout, :infinity), do: true
  defp valid?(:timeout, n), do: valid?(:count, n)
  defp valid?(:factor, n), do: is_number(n) and n >= 1 and n <= 1_000
  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?(:text, value), do: is_binary(value) and value != "" and String.valid?(value)
  defp valid?(:atoms, value), do: match?([_ | _], value) and Enum.all?(value, &is_atom/1)
  defp valid?({:fun, arity}, value), do: is_function(value, arity)

  defp valid?(:strategy, value),
    do: value in [:exponential, :linear, :constant] or is_function(value, 1)

  defp expected(:positive), do: "a positive integer"
  defp expected(:count), do: "0 or a positive integer"
  defp expected(:timeout), do: "0, a positive integer or `:infinity`"
  defp expected(:factor), do: "a number from 1 to 1000"
  defp expected(:boolean), do: "a boolean"
  defp expected(:text), do: "a non-empty string"
  defp expected(:atoms), do: "a list of atoms"
  defp expected({:fun, arity}), do: "a function of arity #{arity}"

  defp expected(:strategy),
    do: "`:exponential`, `:linear`, `:constant` or a function of arity 1"
end
