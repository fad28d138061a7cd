defmodule Codex.AppServer.Docs do
  @moduledoc false
  # Writes the documentation of the functions that are generated from the protocol.

  alias Codex.CLI.Since
  alias Codex.Protocol
  alias Codex.Protocol.Words

  @doc "Returns the documentation of a function."
  @spec of(Codex.AppServer.Calls.row()) :: String.t()
  def of(row) do
    {:ok, method} = Protocol.method(row.method)

    [
      "Sends `#{row.method}`" <> sentence(row.args) <> ".",
      if(method.experimental, do: "Experimental: the connection needs `experimental_api: true`."),
      if(version = Since.first(row.method), do: "Needs CLI #{version} or newer."),
      row.doc,
      options(method.params, row),
      "Returns #{returns(row, method.result)} or `{:error, reason}`."
    ]
    |> Enum.reject(&is_nil/1)
    |> Enum.join("\n\n")
  end

  defp sentence([]), do: ""
  defp sentence(args), do: " with " <> Enum.map_join(args, " and ", &"`#{&1}`")

  defp returns(%{returns: :ok}, _result), do: "`:ok`"
  defp returns(_row, nil), do: "`{:ok, map}`"

  defp returns(_row, result) do
    case fields(Protocol.types()[result]) do
      [] -> "`{:ok, %{}}`"
      fields -> "`{:ok, map}` with #{Enum.map_join(fields, ", ", &"`#{inspect(elem(&1, 0))}`")}"
    end
  end

  defp options(:null, _row), do: "It takes no options."

  defp options(type, row) do
    case for field <- fields(type), elem(field, 1) not in row.args, do: field do
      [] -> "It takes no options."
      fields -> "Options:\n\n" <> Enum.map_join(fields, "\n", &option(&1, row.method))
    end
  end

  defp option({wire, name, type, required, experimental}, method) do
    version = Since.first("#{method}.#{wire}")

    notes =
      if(required, do: ["required"], else: []) ++
        if(experimental, do: ["experimental"], else: []) ++
        if version, do: ["CLI #{version} or newer"], else: []

    notes = if notes == [], do: "", else: " (#{Enum.join(notes, ", ")})"
    "  * `:#{name}` - #{escape(Words.expected(type, Protocol.types()))}#{notes}"
  end

  # Fields of all members of a union; fields that only some members need are not required.
  defp fields({:ref, name}), do: fields(Protocol.types()[name])
  defp fields({:nullable, type}), do: fields(type)

  defp fields({:object, names, _required, _rest}),
    do: names |> Map.values() |> Enum.uniq() |> Enum.sort()

  defp fields({:one_of, types}) do
    objects = Enum.map(types, &fields/1)
    common = Enum.map(hd(objects), &elem(&1, 0)) |> Enum.filter(&everywhere?(objects, &1))

    objects
    |> Enum.concat()
    |> Enum.group_by(&elem(&1, 0))
    |> Enum.sort()
    |> Enum.map(fn {wire, [{_, name, type, required, experimental} | _] = all} ->
      types = all |> Enum.map(&elem(&1, 2)) |> Enum.uniq()
      type = if length(types) == 1, do: type, else: {:one_of, types}
      {wire, name, type, required and wire in common, experimental}
    end)
  end

  defp fields(_plain), do: []

  defp everywhere?(objects, wire), do: Enum.all?(objects, &List.keymember?(&1, wire, 0))

  defp escape(text), do: String.replace(text, "*", "\\*")
end
