defmodule Codex.Sessions.Changes do
  @moduledoc false
  # Reads recorded file changes of every form, and writes them as a diff for `git apply`.
  #
  # A change holds bytes: names and contents need not be text. Recorded paths are absolute, as a
  # rule; `from` is the directory that they belong to.

  alias Codex.Items

  @typedoc """
  A change of one file: `path` and `move_path` are relative to the working directory. `body` is the
  whole content of an added or deleted file, and the hunks of an updated one.
  """
  @type t :: %{
          path: binary(),
          kind: :add | :update | :delete,
          move_path: binary() | nil,
          body: binary()
        }
  @type error ::
          {:invalid_apply_input, term()}
          | {:invalid_change_path, term()}
          | {:missing_diff, term()}

  @kinds %{"add" => :add, "update" => :update, "delete" => :delete}

  @doc """
  Reads changes: `Codex.Items.FileChange` structs, their changes, items of a rollout file, or maps
  with string or atom keys. Items that failed or were declined changed nothing, and are left out.
  """
  @spec read([term()], Path.t()) :: {:ok, [t()]} | {:error, error()}
  def read(inputs, from) do
    inputs
    |> Enum.reduce_while({:ok, []}, fn input, {:ok, all} ->
      with {:ok, records} <- records(input),
           {:ok, changes} <- map(records, &change(&1, from)) do
        {:cont, {:ok, [changes | all]}}
      else
        error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, all} -> {:ok, all |> Enum.reverse() |> Enum.concat()}
      error -> error
    end
  end

  defp records(%Items.FileChange{status: status}) when status in [:failed, :declined],
    do: {:ok, []}

  defp records(%Items.FileChange{changes: changes}), do: {:ok, changes}

  defp records(%{} = map) do
    case {field(map, :changes), field(map, :path)} do
      {%{} = by_path, _} -> {:ok, for({p, c} <- Enum.sort(by_path), do: Map.put(c, "path", p))}
      {list, _} when is_list(list) -> {:ok, list}
      {nil, path} when is_binary(path) -> {:ok, [map]}
      _ -> {:error, {:invalid_apply_input, map}}
    end
  end

  defp records(other), do: {:error, {:invalid_apply_input, other}}

  defp change(%{} = record, from) do
    with {:ok, path} <- relative(field(record, :path), from, record),
         {:ok, kind, move} <- kind(record),
         {:ok, move} <- if(move, do: relative(move, from, record), else: {:ok, nil}),
         {:ok, body} <- body(record, kind),
         do: {:ok, %{path: path, kind: kind, move_path: move, body: body}}
  end

  defp change(other, _from), do: {:error, {:invalid_apply_input, other}}

  # A kind is a word, or a map with a word and the new path of a file that moved.
  defp kind(record) do
    kind = field(record, :kind) || field(record, :type)
    move = field(record, :move_path) || nested(kind, :move_path)

    case word(nested(kind, :type) || kind) do
      :update -> {:ok, :update, move}
      kind when kind in [:add, :delete] and move == nil -> {:ok, kind, nil}
      _ -> {:error, {:invalid_apply_input, record}}
    end
  end

  defp nested(kind, key) when is_map(kind) and not is_struct(kind), do: field(kind, key)
  defp nested(_kind, _key), do: nil

  defp word(kind) when kind in [:add, :update, :delete], do: kind
  defp word(kind), do: @kinds[kind]

  defp body(record, kind) do
    keys = if kind == :update, do: [:unified_diff, :diff], else: [:content, :diff]

    case Enum.find_value(keys, &field(record, &1)) do
      body when is_binary(body) -> {:ok, if(kind == :update, do: hunks(body), else: body)}
      _ -> {:error, {:missing_diff, record}}
    end
  end

  # The app-server writes the new path of a moved file below the hunks.
  defp hunks(diff), do: hd(:binary.split(diff, "\n\nMoved to: ")) |> with_newline()

  defp with_newline(""), do: ""
  defp with_newline(text), do: if(String.ends_with?(text, "\n"), do: text, else: text <> "\n")

  defp field(map, key), do: Map.get(map, key) || Map.get(map, Atom.to_string(key))

  # Paths that are not below the directory are refused, and so are paths that name no file.
  defp relative(path, from, record) do
    with true <- is_binary(path) and not String.contains?(path, "\0"),
         parts = :filename.split(IO.iodata_to_binary(path)),
         {:ok, [_ | _] = parts} <- below(parts, :filename.split(from)),
         true <- ".." not in parts do
      {:ok, Enum.join(parts, "/")}
    else
      _ -> {:error, {:invalid_change_path, record}}
    end
  end

  defp below(["/" | _] = parts, from) do
    case Enum.split(parts, length(from)) do
      {^from, rest} -> {:ok, clean(rest)}
      _ -> :error
    end
  end

  defp below(parts, _from), do: {:ok, clean(parts)}

  defp clean(parts), do: Enum.reject(parts, &(&1 == "."))

  defp map(list, fun) do
    Enum.reduce_while(list, {:ok, []}, fn element, {:ok, done} ->
      case fun.(element) do
        {:ok, value} -> {:cont, {:ok, [value | done]}}
        error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, done} -> {:ok, Enum.reverse(done)}
      error -> error
    end
  end

  @doc "Writes changes as a diff. `prefix` is put in front of each path."
  @spec diff([t()], binary()) :: iodata()
  def diff(changes, prefix \\ ""), do: Enum.map(changes, &one(&1, prefix))

  defp one(%{kind: :add} = change, prefix) do
    name = prefix <> change.path

    [
      header(name, name),
      "new file mode 100644\n",
      content(change.body, "/dev/null", quoted("b/", name), "+")
    ]
  end

  defp one(%{kind: :delete} = change, prefix) do
    name = prefix <> change.path

    [
      header(name, name),
      "deleted file mode 100644\n",
      content(change.body, quoted("a/", name), "/dev/null", "-")
    ]
  end

  defp one(%{kind: :update} = change, prefix) do
    old = prefix <> change.path
    new = prefix <> (change.move_path || change.path)

    renamed =
      if new == old,
        do: [],
        else: ["rename from ", quoted("", old), "\nrename to ", quoted("", new), "\n"]

    [header(old, new), renamed, hunks(change.body, quoted("a/", old), quoted("b/", new))]
  end

  defp header(old, new), do: ["diff --git ", quoted("a/", old), " ", quoted("b/", new), "\n"]

  defp hunks("", _old, _new), do: []
  defp hunks(body, old, new), do: ["--- ", old, "\n+++ ", new, "\n", body]

  # A whole file as one hunk.
  defp content("", _old, _new, _sign), do: []

  defp content(body, old, new, sign) do
    {lines, last} = body |> :binary.split("\n", [:global]) |> Enum.split(-1)
    count = length(lines) + if(last == [""], do: 0, else: 1)
    {minus, plus} = if sign == "+", do: {"0,0", "1,#{count}"}, else: {"1,#{count}", "0,0"}

    [
      ["--- ", old, "\n+++ ", new, "\n@@ -", minus, " +", plus, " @@\n"],
      for(line <- lines, do: [sign, line, "\n"]),
      if(last == [""], do: [], else: [sign, last, "\n\\ No newline at end of file\n"])
    ]
  end

  # Git reads names with special bytes in the quotes of C.
  defp quoted(side, name) do
    if name =~ ~r/\A[\w.\/ +,=@~-]+\z/ and not (name =~ " "),
      do: [side, name],
      else: [?", side, for(<<byte <- name>>, do: escape(byte)), ?"]
  end

  defp escape(byte) when byte in [?", ?\\], do: [?\\, byte]
  defp escape(byte) when byte in 0x20..0x7E, do: byte

  defp escape(byte),
    do: [?\\, byte |> Integer.to_string(8) |> String.pad_leading(3, "0")]
end
