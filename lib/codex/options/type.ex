defmodule Codex.Options.Type do
  @moduledoc false
  # The types of options that any list of options may use: the check of a value, and its words in
  # documentation and errors. A schema with further types passes a function for them.

  @max_i64 0x7FFFFFFFFFFFFFFF
  # The longest wait of the VM: 49 days.
  @max_ms 0xFFFFFFFF

  @type t :: atom() | tuple()
  @type result :: {:ok, term()} | :error

  @doc "Returns the longest possible wait in ms."
  @spec max_ms() :: pos_integer()
  def max_ms, do: @max_ms

  @doc """
  Returns the value as the SDK keeps it, `:error` for an invalid value, or `:unknown` if the type is
  not one of these.

      iex> alias Codex.Options.Type
      iex> {Type.cast(:positive, 0), Type.cast({:one_of, [:read_only]}, "Read-Only")}
      {:error, {:ok, :read_only}}
  """
  @spec cast(t(), term()) :: result() | :unknown
  def cast(:any, value), do: {:ok, value}
  def cast(:boolean, value), do: valid(is_boolean(value), value)
  def cast(:text, value), do: valid(is_binary(value) and String.valid?(value), value)
  def cast(type, value) when type in [:string, :path], do: valid(string?(value), value)
  # Any bytes: the functions that use the path report an invalid or missing file.
  def cast(:os_path, value), do: valid(is_binary(value), value)

  def cast(:pid, value), do: valid(is_pid(value), value)
  def cast(:map, value), do: valid(is_map(value) and not is_struct(value), value)
  def cast(:module, value), do: valid(is_atom(value) and value not in [nil, true, false], value)
  def cast(:positive, value), do: cast({:integer, 1, @max_i64}, value)
  def cast(:bytes, value), do: cast({:integer, 1, @max_i64}, value)
  def cast(:count, value), do: cast({:integer, 0, @max_i64}, value)
  def cast(:milliseconds, value), do: cast({:integer, 1, @max_ms}, value)
  def cast(:wait, value), do: cast({:integer, 0, @max_ms}, value)
  def cast(:timeout, :infinity), do: {:ok, :infinity}
  def cast(:timeout, value), do: cast(:milliseconds, value)
  def cast({:fun, arity}, value), do: valid(is_function(value, arity), value)
  def cast(:atoms, value), do: valid(list?(value, &is_atom/1) and value != [], value)
  def cast({:list, type}, value), do: with({:ok, list} <- list(value), do: all(list, type))

  def cast({:integer, least, most}, value),
    do: valid(is_integer(value) and value >= least and value <= most, value)

  # Words are atoms, or strings in any case, with underscores or hyphens.
  def cast({:one_of, words}, value) when is_atom(value), do: valid(value in words, value)

  def cast({:one_of, words}, value) when is_binary(value) and byte_size(value) <= 64 do
    word = value |> String.downcase() |> String.replace("-", "_")

    case Enum.find(words, &(Atom.to_string(&1) == word)) do
      nil -> :error
      found -> {:ok, found}
    end
  end

  def cast({:one_of, _words}, _value), do: :error

  # A whole environment. Nothing is copied if all names and values are strings already.
  def cast(:environment, env) do
    if is_map(env) and not is_struct(env) and Enum.all?(env, &strings?/1) do
      {:ok, env}
    else
      with {:ok, env} <- cast(:env, env),
           do: {:ok, Map.reject(env, &match?({_name, nil}, &1))}
    end
  end

  # Variables by name: nil removes a variable.
  def cast(:env, value) do
    with {:ok, pairs} <- pairs(value),
         {:ok, pairs} <- each(pairs, &variable/1),
         do: {:ok, Map.new(pairs)}
  end

  def cast(_type, _value), do: :unknown

  defp valid(true, value), do: {:ok, value}
  defp valid(false, _value), do: :error

  defp strings?({name, value}), do: is_binary(name) and is_binary(value)

  defp string?(value) do
    is_binary(value) and value != "" and String.valid?(value) and
      not String.contains?(value, "\0")
  end

  defp list?(value, valid?),
    do: is_list(value) and not List.improper?(value) and Enum.all?(value, valid?)

  defp list(value), do: valid(list?(value, fn _ -> true end), value)
  defp all(list, type), do: each(list, &cast(type, &1))

  @doc "Converts each value of a list; the result is the first that is not `{:ok, value}`."
  @spec each(list(), (term() -> {:ok, term()} | other)) :: {:ok, list()} | other
        when other: term()
  def each(values, cast) do
    values
    |> Enum.reduce_while({:ok, []}, fn value, {:ok, done} ->
      case cast.(value) do
        {:ok, value} -> {:cont, {:ok, [value | done]}}
        other -> {:halt, other}
      end
    end)
    |> case do
      {:ok, done} -> {:ok, Enum.reverse(done)}
      other -> other
    end
  end

  @doc "Returns the pairs of a map or of a list of pairs."
  @spec pairs(term()) :: {:ok, [{term(), term()}]} | :error
  def pairs(%{} = map) when not is_struct(map), do: {:ok, Map.to_list(map)}
  def pairs(other), do: valid(list?(other, &match?({_, _}, &1)), other)

  @doc "Returns whether a term can be the pid or the name of a process."
  @spec server?(term()) :: boolean()
  def server?(pid) when is_pid(pid), do: true
  def server?({:global, _name}), do: true
  def server?({:via, module, _name}), do: is_atom(module)
  def server?({name, node}) when is_atom(node), do: server?(name) and not is_pid(name)
  def server?(name), do: is_atom(name) and name not in [nil, true, false]

  @doc """
  Returns the kind of a value that an error must not show, because it can hold a secret.

      iex> alias Codex.Options.Type
      iex> {Type.kind(:safe), Type.kind(1.5), Type.kind("sk-example"), Type.kind([1 | 2])}
      {":safe", "1.5", "a string", "a list"}
  """
  @spec kind(term()) :: String.t()
  def kind(value) when is_atom(value) or is_number(value), do: inspect(value)
  def kind(value) when is_binary(value), do: "a string"
  def kind(value) when is_list(value), do: "a list"
  def kind(%module{}), do: "a #{inspect(module)}"
  def kind(value) when is_map(value), do: "a map"
  def kind(value) when is_tuple(value), do: "a tuple"
  def kind(_value), do: "another term"

  @doc "Returns a key as a string, or nil for a term that is no key."
  @spec name(term()) :: String.t() | nil
  def name(key) when is_binary(key), do: key
  def name(key) when is_atom(key) and key != nil, do: Atom.to_string(key)
  def name(_key), do: nil

  defp variable({name, value})
       when is_nil(value) or is_binary(value) or is_atom(value) or is_number(value) do
    name = name(name)
    value = if value != nil, do: to_string(value)

    if name in [nil, ""] or String.contains?(name, ["=", "\0"]) or
         (value && String.contains?(value, "\0")),
       do: :error,
       else: {:ok, {name, value}}
  end

  defp variable(_other), do: :error

  @doc """
  Returns the valid values of a type in words, or nil if the type is not one of these.

      iex> Codex.Options.Type.words({:list, :string})
      "a list of non-empty strings"
  """
  @spec words(t()) :: String.t() | nil
  def words(:any), do: "any term"
  def words(:boolean), do: "a boolean"
  def words(:text), do: "a string"
  def words(:string), do: "a non-empty string"
  def words(type) when type in [:path, :os_path], do: "a path"
  def words(:pid), do: "a pid"
  def words(:map), do: "a map"
  def words(:module), do: "a module"
  def words(:positive), do: "a positive integer"
  def words(:bytes), do: "a positive integer in bytes"
  def words(:count), do: "0 or a positive integer"
  def words(:milliseconds), do: "a positive integer in milliseconds"
  def words(:wait), do: "0 or a positive integer in milliseconds"
  def words(:timeout), do: "a positive integer in milliseconds or `:infinity`"
  def words(:atoms), do: "a non-empty list of atoms"
  def words(:environment), do: "a map or keyword of variables and their values"
  def words(:env), do: "a map or keyword of variables and their values"
  def words({:integer, least, most}), do: "an integer from #{least} to #{most}"
  def words({:fun, arity}), do: "a function of arity #{arity}"
  def words({:list, :string}), do: "a list of non-empty strings"
  def words({:list, :text}), do: "a list of strings"
  def words({:list, :path}), do: "a list of paths"
  def words({:one_of, [_, _ | _] = words}), do: "one of #{join(words)}"
  def words({:list, {:one_of, words}}), do: "a list of #{join(words)}"
  def words(_type), do: nil

  defp join(words), do: Enum.map_join(words, ", ", &"`#{inspect(&1)}`")
end
