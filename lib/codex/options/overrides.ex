defmodule Codex.Options.Overrides do
  @moduledoc false
  # `--config key=value`: values as TOML. The CLI splits a key at every dot and knows no quotes, so a key with other
  # characters than letters, digits, `_` and `-` stands inside an inline table.

  @doc """
  Overrides of any accepted form as a list of `key=value` strings. The error is the key of the one that cannot be
  written, or `:not_an_override`; never a value.

      iex> Codex.Options.Overrides.new(%{"model_verbosity" => "low"})
      {:ok, [~S(model_verbosity="low")]}
      iex> Codex.Options.Overrides.new(["a=1", {:b, nil}])
      {:error, :b}
      iex> Codex.Options.Overrides.new(["no equals sign"])
      {:error, :not_an_override}
  """
  @spec new(term()) :: {:ok, [String.t()]} | {:error, String.t() | atom()}
  def new(%{} = overrides) when not is_struct(overrides), do: overrides |> Map.to_list() |> new()

  def new(overrides) when is_list(overrides) do
    if List.improper?(overrides), do: {:error, :not_an_override}, else: all(overrides, &one/1)
  end

  def new(_other), do: {:error, :not_an_override}

  defp one(raw) when is_binary(raw) do
    if String.valid?(raw) and raw =~ ~r/^[^=]*[^=\s][^=]*=/,
      do: {:ok, raw},
      else: {:error, :not_an_override}
  end

  defp one({key, value})
       when is_binary(key) or (is_atom(key) and key not in [nil, true, false]) do
    name = to_string(key)

    # A key with an equals sign in it would set another one.
    with true <- name != "" and String.valid?(name) and not String.contains?(name, "="),
         {:ok, toml} <- toml(value) do
      {:ok, name <> "=" <> toml}
    else
      _ -> {:error, key}
    end
  end

  defp one(_other), do: {:error, :not_an_override}

  @doc """
  A value as TOML.

      iex> Codex.Options.Overrides.toml("say \\"hi\\"\\n")
      {:ok, ~S("say \\"hi\\"\\n")}
      iex> Codex.Options.Overrides.toml(%{"a b" => [1, 2.0, true]})
      {:ok, ~S({"a b" = [1, 2.0, true]})}
      iex> Codex.Options.Overrides.toml(nil)
      {:error, {:not_toml, nil}}
  """
  @spec toml(term()) :: {:ok, String.t()} | {:error, {:not_toml, term()}}
  def toml(value) when is_boolean(value) or is_integer(value), do: {:ok, to_string(value)}

  def toml(value) when is_float(value),
    do: {:ok, value |> :erlang.float_to_binary([:short]) |> with_point()}

  def toml(value) when is_binary(value) do
    if String.valid?(value), do: {:ok, string(value)}, else: {:error, {:not_toml, value}}
  end

  def toml(value) when is_list(value) do
    with false <- List.improper?(value),
         {:ok, items} <- all(value, &toml/1) do
      {:ok, "[#{Enum.join(items, ", ")}]"}
    else
      true -> {:error, {:not_toml, value}}
      error -> error
    end
  end

  def toml(%{} = value) when not is_struct(value) do
    with {:ok, members} <- all(Map.to_list(value), &member/1),
         do: {:ok, "{#{Enum.join(members, ", ")}}"}
  end

  def toml(value), do: {:error, {:not_toml, value}}

  defp member({key, value}) when is_atom(key) and key != nil,
    do: member({Atom.to_string(key), value})

  defp member({key, value}) when is_binary(key) do
    with {:ok, toml} <- toml(value), do: {:ok, "#{string(key)} = #{toml}"}
  end

  defp member({key, _value}), do: {:error, {:not_toml, key}}

  defp all(values, fun) do
    Enum.reduce_while(values, {:ok, []}, fn value, {:ok, done} ->
      case fun.(value) do
        {:ok, text} -> {:cont, {:ok, [text | done]}}
        error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, done} -> {:ok, Enum.reverse(done)}
      error -> error
    end
  end

  # A JSON string is a TOML basic string, but for DEL.
  defp string(text),
    do: text |> Codex.JSON.encode!() |> IO.iodata_to_binary() |> String.replace("\x7F", "\\u007F")

  # TOML wants digits on both sides of the point, and one before an exponent too.
  defp with_point(text) do
    cond do
      text =~ ~r/^-?\d+\.\d+(e|$)/ -> text
      true -> Regex.replace(~r/^(-?\d+)(e|$)/, text, "\\1.0\\2")
    end
  end
end
