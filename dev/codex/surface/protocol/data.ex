defmodule Codex.Surface.Protocol.Data do
  @moduledoc false
  # Writes and reads `priv/protocol/app_server.exs`: one line for each method and each type, sorted,
  # so that `git diff` shows each difference as a line.
  #
  # The file is one keyword list of lists, pairs, atoms, strings and booleans. Elixir reads such a
  # literal as itself, without evaluating it.

  alias Codex.Protocol.Check

  @type method :: [
          params: Check.type(),
          result: String.t(),
          experimental: true,
          until: String.t()
        ]
  @type kind :: :request | :client_notification | :notification | :server_request
  @type t :: [
          {kind(), {String.t(), method()}}
          | {:type, {String.t(), Check.type()}}
        ]

  @kinds [:request, :client_notification, :notification, :server_request]
  @order @kinds ++ [:type]
  @plain [:string, :integer, :count, :number, :boolean, :null, :any]
  @fields [:required, :optional, :experimental_required, :experimental]

  @doc "Returns the kinds of methods, in the order of the file."
  @spec kinds() :: [kind()]
  def kinds, do: @kinds

  @doc "Returns the methods of one kind, or the types, by their names."
  @spec entries(t(), kind() | :type) :: %{String.t() => method() | Check.type()}
  def entries(data, kind), do: for({^kind, {name, entry}} <- data, into: %{}, do: {name, entry})

  @doc "Returns the text of the data; inverse of `read!/1`."
  @spec write(t()) :: String.t()
  def write(data) do
    opts = [limit: :infinity, printable_limit: :infinity, width: :infinity]
    lines = for {kind, value} <- sort(data), do: "  #{kind}: #{inspect(value, opts)}"
    "[\n" <> Enum.join(lines, ",\n") <> "\n]\n"
  end

  defp sort(data) do
    Enum.sort_by(data, fn {kind, value} ->
      {Enum.find_index(@order, &(&1 == kind)), elem(value, 0)}
    end)
  end

  @doc "Reads the text. Raises `ArgumentError` if it is not protocol data."
  @spec read!(String.t()) :: t()
  def read!(text) do
    case Code.string_to_quoted(text, existing_atoms_only: true) do
      {:ok, [_ | _] = data} ->
        if Keyword.keyword?(data), do: Enum.map(data, &check!/1), else: invalid(text)

      _invalid ->
        invalid(text)
    end
  end

  defp check!(entry), do: if(entry?(entry), do: entry, else: invalid(inspect(entry)))

  @spec invalid(String.t()) :: no_return()
  defp invalid(text),
    do: raise(ArgumentError, "expected protocol data, got: #{String.slice(text, 0, 200)}")

  defp entry?({:type, {name, type}}), do: is_binary(name) and type?(type)

  defp entry?({kind, {name, method}}) when kind in @kinds do
    is_binary(name) and Keyword.keyword?(method) and type?(method[:params]) and
      is_binary(method[:result] || "") and is_binary(method[:until] || "")
  end

  defp entry?(_other), do: false

  defp type?(plain) when is_atom(plain), do: plain in @plain
  defp type?({tag, text}) when tag in [:word, :ref], do: is_binary(text)
  defp type?({:value, number}), do: is_number(number)
  defp type?({tag, type}) when tag in [:list, :nullable], do: type?(type)
  defp type?({:one_of, types}), do: is_list(types) and Enum.all?(types, &type?/1)
  defp type?({:fields, fields}), do: is_list(fields) and Enum.all?(fields, &field?/1)
  defp type?(_other), do: false

  defp field?({:other, type}), do: type?(type)
  defp field?({kind, {name, type}}), do: kind in @fields and is_binary(name) and type?(type)
  defp field?(_other), do: false
end
