defmodule Codex.Options.Overrides do
  @moduledoc false
  # The values of `--config`: checked here, merged and written as TOML by Rust
  # (`codex_core::overrides`).
  #
  # Valid values are text, booleans, 64-bit integers, floats and lists; maps and keyword lists are
  # tables; dates and times are those of TOML; other atoms are text (`:low` is `"low"`). Invalid are
  # nil, tuples, other structs, bigger integers and text that is not UTF-8.

  alias Codex.Config.{Key, Schema}
  alias Codex.Native
  alias Codex.Options.Type

  @typedoc "A path and its value in the form for Rust, or `key=value` as the caller wrote it."
  @type t :: {[String.t()], term()} | String.t()

  # Lists and maps that nest deeper are refused.
  @max_depth 32

  @doc """
  Converts overrides of any accepted form: map, keyword, list of `{key, value}`, of `"key=value"`,
  or of both. A key is split at its dots, as the CLI does; the keys of nested maps are not split.

  The error is the key of the override that cannot be written, the path of a value below it (as
  text), or `:not_an_override`; never a value. A name with `=` may hold one, so no error has it.

      iex> alias Codex.Options.Overrides
      iex> {:ok, list} = Overrides.new(%{"model_verbosity" => :low, tools: %{web_search: true}})
      iex> Overrides.arguments(list)
      {:ok, ["tools.web_search=true", ~S(model_verbosity="low")]}
      iex> Codex.Options.Overrides.new(["a=1", {:b, nil}])
      {:error, :b}
      iex> Codex.Options.Overrides.new(b: [c: [d: nil]])
      {:error, "b.c.d"}
      iex> Codex.Options.Overrides.new(["no equals sign"])
      {:error, :not_an_override}
  """
  @spec new(term()) :: {:ok, [t()]} | {:error, String.t() | atom()}
  def new(%{} = overrides) when not is_struct(overrides), do: overrides |> Map.to_list() |> new()

  def new(overrides) when is_list(overrides) do
    if List.improper?(overrides),
      do: {:error, :not_an_override},
      else: Type.each(overrides, &one/1)
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
    path = String.split(name, ".")

    cond do
      String.contains?(name, "=") -> {:error, :not_an_override}
      name == "" or not String.valid?(name) -> {:error, key}
      true -> one(key, path, at(path, value))
    end
  end

  defp one(_other), do: {:error, :not_an_override}

  defp one(_key, path, {:ok, value}), do: {:ok, {path, value}}

  defp one(key, path, {:error, place}) do
    case visible(place) do
      ^path -> {:error, key}
      other -> {:error, Key.format(other)}
    end
  end

  @doc """
  Returns the part of a path that an error may show: what is written behind `=` may be a secret.

      iex> Codex.Options.Overrides.visible(["a", "b=c", "d"])
      ["a"]
  """
  @spec visible([String.t()]) :: [String.t()]
  def visible(path), do: Enum.take_while(path, &(not String.contains?(&1, "=")))

  @doc "Converts a value to the form for Rust, whatever its key."
  @spec value(term()) :: {:ok, term()} | :error
  def value(value),
    do: with({:error, _path} <- convert(value, nil, :refuse, @max_depth), do: :error)

  @doc """
  Converts the value of a key to the form for Rust. An empty list is an empty table if the CLI
  accepts only a table there. With `:drop`, nil members of tables are left out.

  The error is the path of the value that cannot be written: the path of its table if its name is
  invalid, the path of the list if the value is in a list.

      iex> Codex.Options.Overrides.at(["mcp_servers", "a"], env: [], args: [])
      {:ok, {:table, [{"env", {:table, []}}, {"args", []}]}}
      iex> Codex.Options.Overrides.at(["mcp_servers", "a"], env: [A: {1}])
      {:error, ["mcp_servers", "a", "env", "A"]}
      iex> Codex.Options.Overrides.at(["mcp_servers", "a"], %{"env" => %{"A=b" => "c"}})
      {:error, ["mcp_servers", "a", "env"]}
  """
  @spec at([String.t()], term(), :refuse | :drop) :: {:ok, term()} | {:error, [String.t()]}
  def at(path, value, nils \\ :refuse) do
    with {:ok, names} <- names(path, []),
         {:ok, value} <- convert(value, names, nils, @max_depth) do
      {:ok, value}
    else
      {:error, path} -> {:error, Enum.reverse(path)}
    end
  end

  defp names([], done), do: {:ok, done}

  defp names([name | path], done),
    do: if(name?(name, done), do: names(path, [name | done]), else: {:error, done})

  # `path` is from the last name to the first, or nil if it is not known.
  defp convert(_value, path, _nils, 0), do: {:error, path}
  defp convert(nil, path, _nils, _depth), do: {:error, path}

  defp convert(value, _path, _nils, _depth) when is_boolean(value) or is_float(value),
    do: {:ok, value}

  defp convert(value, _path, _nils, _depth) when is_atom(value),
    do: {:ok, Atom.to_string(value)}

  defp convert(value, path, _nils, _depth) when is_binary(value) do
    fits? = if of_variable?(path), do: variable?(value), else: String.valid?(value)
    if fits?, do: {:ok, value}, else: {:error, path}
  end

  defp convert(value, path, _nils, _depth) when is_integer(value) do
    if value in -0x8000000000000000..0x7FFFFFFFFFFFFFFF, do: {:ok, value}, else: {:error, path}
  end

  defp convert(%module{} = value, _path, _nils, _depth)
       when module in [Date, Time, NaiveDateTime, DateTime],
       do: {:ok, {:datetime, module.to_iso8601(value)}}

  defp convert(%{} = value, path, nils, depth) when not is_struct(value),
    do: table(Map.to_list(value), path, nils, depth)

  defp convert([{_, _} | _] = value, path, nils, depth) do
    if not List.improper?(value) and Enum.all?(value, &match?({_, _}, &1)),
      do: table(value, path, nils, depth),
      else: {:error, path}
  end

  defp convert([], path, _nils, _depth) do
    if path != nil and Schema.table?(Enum.reverse(path)), do: {:ok, {:table, []}}, else: {:ok, []}
  end

  defp convert(value, path, nils, depth) when is_list(value) do
    if List.improper?(value),
      do: {:error, path},
      else: Type.each(value, &convert(&1, path, nils, depth - 1))
  end

  defp convert(_value, path, _nils, _depth), do: {:error, path}

  defp table(members, path, nils, depth) do
    members = if nils == :drop, do: Enum.reject(members, &(elem(&1, 1) == nil)), else: members

    with {:ok, members} <- Type.each(members, &member(&1, path, nils, depth)),
         do: {:ok, {:table, members}}
  end

  defp member({name, value}, path, nils, depth)
       when is_binary(name) or (is_atom(name) and name not in [nil, true, false]) do
    name = to_string(name)

    with true <- name?(name, path),
         {:ok, value} <- convert(value, path && [name | path], nils, depth - 1) do
      {:ok, {name, value}}
    else
      false -> {:error, path}
      error -> error
    end
  end

  defp member(_other, path, _nils, _depth), do: {:error, path}

  # The name may hold the value of a variable: `"TOKEN=…"`.
  defp name?(name, ["env", _, "mcp_servers"]), do: variable?(name)
  defp name?(name, ["set", "shell_environment_policy"]), do: variable?(name)

  defp name?(name, [_ | _] = path) do
    String.valid?(name) and
      (name != "" or List.last(path) not in ["mcp_servers", "model_providers"])
  end

  defp name?(name, _path), do: String.valid?(name)

  # Whether the value at this path is the name of a variable.
  defp of_variable?([key, _, "mcp_servers"]) when key in ["env_vars", "bearer_token_env_var"],
    do: true

  defp of_variable?(["name", "env_vars", _, "mcp_servers"]), do: true
  defp of_variable?(["env_key", _, "model_providers"]), do: true
  defp of_variable?([_, "env_http_headers", _, _top]), do: true
  defp of_variable?(_path), do: false

  @doc "Returns the error of an override whose key cannot be written."
  @spec invalid(term()) :: Codex.OptionError.t()
  def invalid(key) do
    expected = "a configuration key that can be written, with a value that TOML has a form for"
    Codex.OptionError.invalid([:config_overrides, key], "[redacted]", expected)
  end

  @doc "Returns whether an environment variable can have this name."
  @spec variable?(String.t()) :: boolean()
  def variable?(name),
    do: name != "" and String.valid?(name) and not String.contains?(name, ["=", "\0"])

  @doc "Returns whether a name can be part of a key in the CLI's syntax."
  @spec plain?(String.t()) :: boolean()
  def plain?(name),
    do: name != "" and not String.contains?(name, [".", "=", "\0"]) and String.trim(name) == name

  @doc """
  Parses `key=value` as the CLI does, and returns path and value.

      iex> Codex.Options.Overrides.read("a.b = {c = 1}")
      {["a", "b"], {:table, [{"c", 1}]}}
      iex> Codex.Options.Overrides.read("=1")
      :error
  """
  @spec read(String.t()) :: {[String.t()], term()} | :error
  def read(raw) do
    with {:ok, tree} <- Native.config_overrides([raw]),
         path = raw |> String.split("=", parts: 2) |> hd() |> String.trim() |> String.split("."),
         {:ok, value} <- tree |> Native.config_term() |> get_in(path) |> value() do
      {path, value}
    else
      _ -> :error
    end
  end

  @doc """
  Returns the arguments for `--config`, merged: later overrides win, tables are merged, and a table
  that needs it is written inline as a whole. The error is a name that cannot be a top-level key.
  """
  @spec arguments([t()]) :: {:ok, [String.t()]} | {:error, String.t()}
  def arguments([]), do: {:ok, []}
  def arguments(overrides), do: Native.override_arguments(overrides)

  @doc """
  Returns the overrides as lines of a `config.toml`. Names are quoted, so every name is valid.
  """
  @spec document([t()]) :: String.t()
  def document(overrides), do: Native.override_document(overrides)

  @doc """
  Formats a value as TOML on one line.

      iex> Codex.Options.Overrides.toml(%{"a b" => [1, 2.0, ~D[2026-01-02]]})
      {:ok, ~S({"a b" = [1, 2.0, 2026-01-02]})}
      iex> Codex.Options.Overrides.toml(nil)
      :error
  """
  @spec toml(term()) :: {:ok, String.t()} | :error
  def toml(value), do: with({:ok, value} <- value(value), do: {:ok, Native.override_value(value)})

  @doc "Returns whether an HTTP header can have this name."
  @spec header_name?(String.t()) :: boolean()
  def header_name?(name), do: name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/

  @doc "Returns whether an HTTP header can have this value. Blank values are invalid."
  @spec header_value?(term()) :: boolean()
  def header_value?(value) do
    is_binary(value) and String.valid?(value) and String.trim(value) != "" and
      not (value =~ ~r/[\x00-\x08\x0a-\x1f\x7f]/)
  end
end
