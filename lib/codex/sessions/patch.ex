defmodule Codex.Sessions.Patch do
  @moduledoc false
  # The text of a patch in the form of the tool `apply_patch`, as recorded changes by path.

  @doc ~S"""
  Returns the changes of a patch by path. Text of another form has none.

      iex> Codex.Sessions.Patch.changes("*** Begin Patch\n*** Add File: a\n+1\n*** End Patch")
      %{"a" => %{"type" => "add", "content" => "1\n"}}
  """
  @spec changes(term()) :: %{String.t() => map()}
  def changes(text) when is_binary(text) do
    text
    |> String.split("\n")
    |> Enum.reduce({%{}, nil}, &line/2)
    |> elem(0)
    |> Map.new(fn {path, change} -> {path, finish(change)} end)
  end

  def changes(_other), do: %{}

  defp line("*** Add File: " <> path, {files, _at}), do: open(files, path, "add")
  defp line("*** Delete File: " <> path, {files, _at}), do: open(files, path, "delete")
  defp line("*** Update File: " <> path, {files, _at}), do: open(files, path, "update")

  defp line("*** Move to: " <> path, {files, at}) when at != nil,
    do: {Map.update!(files, at, &Map.put(&1, "move_path", path)), at}

  defp line("*** " <> _marker, state), do: state
  defp line(_text, {files, nil}), do: {files, nil}
  defp line(text, {files, at}), do: {Map.update!(files, at, &add(&1, text)), at}

  defp open(files, path, type) do
    path = String.trim_trailing(path)
    {Map.put(files, path, %{"type" => type, "lines" => []}), path}
  end

  defp add(%{"type" => "add", "lines" => lines} = file, "+" <> text),
    do: %{file | "lines" => [[text, "\n"] | lines]}

  defp add(%{"type" => "update", "lines" => lines} = file, text),
    do: %{file | "lines" => [[text, "\n"] | lines]}

  defp add(file, _text), do: file

  defp finish(%{"type" => type, "lines" => lines} = file) do
    text = lines |> Enum.reverse() |> IO.iodata_to_binary()
    file = Map.delete(file, "lines")

    case type do
      "add" -> Map.put(file, "content", text)
      "update" -> Map.merge(%{"move_path" => nil}, Map.put(file, "unified_diff", text))
      "delete" -> file
    end
  end
end
