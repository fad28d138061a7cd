defmodule Mix.CodexSwitches do
  @moduledoc false
  # The command-line switches of tasks that run turns, from the table of options.
  #
  # Left out are options whose values no command line can hold (functions, tables), options that the
  # transport does not have, secrets, which every user of the machine could read there, and options
  # that only programs have a use for.

  alias Codex.Options.Table

  @programs [:cancellation_token, :telemetry_content, :max_events, :max_event_bytes] ++
              [:max_line_bytes, :max_line_nodes, :repair]

  @type transport :: :exec | :app
  @type scopes :: %{client: keyword(), thread: keyword(), turn: keyword()}

  @doc "Returns the switches for `OptionParser`."
  @spec strict(transport()) :: keyword()
  def strict(transport),
    do: for({row, type} <- rows(transport), name <- names(row), do: {name, type})

  @doc "Sorts parsed options by the argument that takes them. Other names are left out."
  @spec split(keyword(), transport()) :: scopes()
  def split(opts, transport) do
    for {row, type} <- rows(transport),
        values = for({name, value} <- opts, name in names(row), do: value),
        values != [],
        reduce: %{client: [], thread: [], turn: []} do
      scopes ->
        value = if match?([_, :keep], type), do: values, else: List.last(values)
        Map.update!(scopes, place(row), &[{row.name, value} | &1])
    end
  end

  @doc "Returns the switches as a Markdown list."
  @spec docs(transport()) :: String.t()
  def docs(transport) do
    Enum.map_join(rows(transport), "\n", fn {row, type} ->
      "  * `--#{dashed(hd(names(row)))}#{value(type)}` - #{row.doc}"
    end)
  end

  defp value(:boolean), do: ""
  defp value(:integer), do: " N"
  defp value([_, :keep]), do: " VALUE …"
  defp value(:string), do: " VALUE"

  defp rows(transport) do
    for row <- Table.rows(),
        row.name not in @programs,
        row.name == :config or row.opts[:secret] != true,
        possible?(row.opts[transport], transport),
        type = type(row.type),
        do: {row, type}
  end

  # Options of the process of an app-server belong to the connection, which is started here, too.
  defp possible?(:refused, _transport), do: false
  defp possible?({:always, _}, _transport), do: false
  defp possible?(:tools, _transport), do: false
  defp possible?(_how, _transport), do: true

  defp type(:boolean), do: :boolean
  defp type(type) when type in [:positive, :count, :bytes, :milliseconds, :timeout], do: :integer
  defp type(type) when type in [:string, :path, :effort, :word], do: :string
  defp type(type) when type in [:ask_for_approval, :tee], do: :string
  defp type({:one_of, _words}), do: :string
  defp type({:list, type}) when type in [:string, :path, :image], do: [:string, :keep]
  defp type(:overrides), do: [:string, :keep]
  defp type(_other), do: nil

  defp place(row) do
    scopes = row.opts[:scopes]

    cond do
      :thread in scopes -> :thread
      :turn in scopes -> :turn
      true -> :client
    end
  end

  # The first is the name that the list shows.
  defp names(row) do
    also = for name <- row.opts[:also] || [], name in [:cd, :cwd, :codex_path], do: name
    Enum.reverse(also) ++ [row.name]
  end

  defp dashed(name), do: name |> Atom.to_string() |> String.replace("_", "-")
end
