defmodule Codex.Options.Overrides do
  @moduledoc false
  # What is told with `--config`: checked here, merged and written as TOML by Rust (`codex_core::overrides`).
  #
  # The rules for values: text, booleans, 64-bit integers, floats, lists; maps and keyword lists are tables; dates and
  # times are TOML's; another atom is its name as text (`:low` is `"low"`). nil, tuples, other structs, and what TOML
  # has no form for (bigger integers, text that is not UTF-8) are refused.

  alias Codex.Native

  @typedoc "A path and its value as Rust takes it, or `key=value` as the caller wrote it."
  @type t :: {[String.t()], term()} | String.t()

  # A list or map that nests deeper is no configuration.
  @max_depth 32

  @doc """
  Overrides of any accepted form: map, keyword, list of `{key, value}`, of `"key=value"`, or of both. A key is split at its
  dots, as the CLI does; the keys of maps inside are names as they are.

  The error is the key of the one that cannot be written, or `:not_an_override`; never a value.

      iex> {:ok, told} = Codex.Options.Overrides.new(%{"model_verbosity" => :low, tools: %{web_search: true}})
      iex> Codex.Options.Overrides.arguments(told)
      {:ok, ["tools.web_search=true", ~S(model_verbosity="low")]}
      iex> Codex.Options.Overrides.new(["a=1", {:b, nil}])
      {:error, :b}
      iex> Codex.Options.Overrides.new(["no equals sign"])
      {:error, :not_an_override}
  """
  @spec new(term()) :: {:ok, [t()]} | {:error, String.t() | atom()}
  def new(%{} = overrides) when not is_struct(overrides), do: overrides |> Map.to_list() |> new()

  def new(overrides) when is_list(overrides) do
    if List.improper?(overrides), do: {:error, :not_an_override}, else: all(overrides, &one/1)
  end

  def new(_other), do: {:error, :not_an_override}

  defp one(raw) when is_binary(raw) do
    if String.valid?(raw) and not String.contains?(raw, "\0") and raw =~ ~r/^[^=]*[^=\s][^=]*=/,
      do: {:ok, raw},
      else: {:error, :not_an_override}
  end

  defp one({key, value})
       when is_binary(key) or (is_atom(key) and key not in [nil, true, false]) do
    name = to_string(key)

    with true <- name != "" and String.valid?(name) and not String.contains?(name, "="),
         {:ok, value} <- value(value, @max_depth) do
      {:ok, {String.split(name, "."), value}}
    else
      _ -> {:error, key}
    end
  end

  defp one(_other), do: {:error, :not_an_override}

  @doc "A value as Rust takes it."
  @spec value(term(), non_neg_integer()) :: {:ok, term()} | :error
  def value(value, depth \\ @max_depth)
  def value(_value, 0), do: :error
  def value(value, _depth) when is_boolean(value) or is_float(value), do: {:ok, value}
  def value(nil, _depth), do: :error
  def value(value, _depth) when is_atom(value), do: {:ok, Atom.to_string(value)}

  def value(value, _depth) when is_binary(value),
    do: if(String.valid?(value), do: {:ok, value}, else: :error)

  def value(value, _depth) when is_integer(value) do
    if value in -0x8000000000000000..0x7FFFFFFFFFFFFFFF, do: {:ok, value}, else: :error
  end

  def value(%module{} = value, _depth) when module in [Date, Time, NaiveDateTime, DateTime],
    do: {:ok, {:datetime, module.to_iso8601(value)}}

  def value(%{} = value, depth) when not is_struct(value), do: table(Map.to_list(value), depth)

  def value([{_, _} | _] = value, depth),
    do: if(Keyword.keyword?(value), do: table(value, depth), else: :error)

  def value(value, depth) when is_list(value) do
    if List.improper?(value), do: :error, else: all(value, &value(&1, depth - 1))
  end

  def value(_value, _depth), do: :error

  defp table(members, depth) do
    with {:ok, members} <- all(members, &member(&1, depth)), do: {:ok, {:table, members}}
  end

  defp member({name, value}, depth)
       when is_binary(name) or (is_atom(name) and name not in [nil, true, false]) do
    name = to_string(name)

    with true <- String.valid?(name),
         {:ok, value} <- value(value, depth - 1),
         do: {:ok, {name, value}},
         else: (_ -> :error)
  end

  defp member(_other, _depth), do: :error

  defp all(values, fun) do
    Enum.reduce_while(values, {:ok, []}, fn value, {:ok, done} ->
      case fun.(value) do
        {:ok, value} -> {:cont, {:ok, [value | done]}}
        error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, done} -> {:ok, Enum.reverse(done)}
      error -> error
    end
  end

  @doc """
  The arguments for `--config`, merged: later ones win, tables grow together, and one that needs it stands inline with all
  that is in it. The error is a name that cannot stand at the top.
  """
  @spec arguments([t()]) :: {:ok, [String.t()]} | {:error, String.t()}
  def arguments([]), do: {:ok, []}
  def arguments(overrides), do: Native.override_arguments(overrides)

  @doc "The same as the lines of a `config.toml`. Names are quoted, so any will do."
  @spec document([t()]) :: {:ok, String.t()}
  def document(overrides), do: {:ok, Native.override_document(overrides)}

  @doc """
  A value as TOML on one line.

      iex> Codex.Options.Overrides.toml(%{"a b" => [1, 2.0, ~D[2026-01-02]]})
      {:ok, ~S({"a b" = [1, 2.0, 2026-01-02]})}
      iex> Codex.Options.Overrides.toml(nil)
      :error
  """
  @spec toml(term()) :: {:ok, String.t()} | :error
  def toml(value), do: with({:ok, value} <- value(value), do: {:ok, Native.override_value(value)})
end
