defmodule Codex.ConfigStacks do
  @moduledoc """
  Stacks of configuration files made from a seed: the same seed makes the same stack.

  Values are drawn from the schema where the key has a type, and freely below `desktop` and in keys that do not exist.
  Each is written in one of the forms that TOML has for it.
  """

  @doc "A generator for a seed; the functions below take from it in the process that called this."
  def seed(seed), do: :rand.seed(:exsss, {seed, 7, 11})

  def one_of(list), do: Enum.random(list)
  def chance(percent), do: :rand.uniform(100) <= percent

  # {key, how to make a value of it}
  @keys [
    {~w(model), :string},
    {~w(review_model), :string},
    {~w(instructions), :text},
    {~w(developer_instructions), :text},
    {~w(model_context_window), :integer},
    {~w(model_verbosity), ~w(low medium high)},
    {~w(model_reasoning_summary), ~w(auto concise detailed none)},
    {~w(model_reasoning_effort), ~w(low high odd)},
    {~w(approval_policy), ~w(on-request never on-failure)},
    {~w(sandbox_mode), ~w(read-only workspace-write)},
    {~w(approvals_reviewer), ~w(user auto_review guardian_subagent)},
    {~w(service_tier), :string},
    {~w(web_search), ~w(disabled cached live)},
    {~w(hide_agent_reasoning), :boolean},
    {~w(project_doc_max_bytes), :integer},
    {~w(project_doc_fallback_filenames), :strings},
    {~w(log_dir), :path},
    {~w(sqlite_home), :path},
    {~w(history persistence), ~w(save-all none)},
    {~w(history max_bytes), :integer},
    {~w(tui theme), :string},
    {~w(tui animations), :boolean},
    {~w(tui mouse_scroll_speed), :number},
    {~w(sandbox_workspace_write writable_roots), :paths},
    {~w(sandbox_workspace_write network_access), :boolean},
    {~w(shell_environment_policy inherit), ~w(all core none)},
    {~w(shell_environment_policy exclude), :strings},
    {["shell_environment_policy", "set", "A B"], :string},
    {["shell_environment_policy", "set", "C.D"], :text},
    {~w(mcp_servers docs command), :string},
    {~w(mcp_servers docs args), :strings},
    {~w(mcp_servers docs env TOKEN), :string},
    {~w(mcp_servers docs tool_timeout_sec), :number},
    {~w(mcp_servers docs startup_timeout_sec), :number},
    {~w(model_providers mock query_params v), :string},
    {~w(model_providers mock http_headers X-A), :string},
    {~w(model_providers mock request_max_retries), :integer},
    {~w(model_providers other name), ["other"]},
    {~w(otel environment), :string},
    {~w(notify), :strings},
    {~w(skills config), :skills},
    {~w(agents max_threads), :integer},
    {~w(agents max_depth), :integer},
    {~w(not_a_key), :anything},
    {~w(history not_a_key_either), :anything},
    {["desktop", "a"], :anything},
    {["desktop", "b.c"], :anything},
    {["desktop", "t", "x y"], :anything},
    {["desktop", "t", "é"], :anything}
  ]

  @doc "The text of a file of up to `most` keys; `lines` come first."
  def file(most, lines \\ "") do
    @keys
    |> Enum.take_random(:rand.uniform(most + 1) - 1)
    |> whole_servers()
    |> Enum.map(fn {path, kind} -> {path, value(kind)} end)
    |> text(lines)
  end

  @doc "A line that makes most files one that the CLI refuses."
  def broken do
    one_of([
      "model_verbosity = 3",
      "history = true",
      "[tui\\n",
      "review_model = \"x",
      "desktop.z = [1, 2",
      "sandbox_mode = \"nowhere\"",
      "k = 1\\nk = 2",
      "project_doc_max_bytes = -1",
      "shell_environment_policy = { inherit = \"some\" }",
      "hide_agent_reasoning = 0.5",
      "a = 01",
      "b = tru"
    ])
    |> String.replace("\\n", "\n")
  end

  # A server without a command is an error by itself.
  defp whole_servers(keys) do
    server? = Enum.any?(keys, fn {path, _} -> match?(["mcp_servers" | _], path) end)
    other? = Enum.any?(keys, fn {path, _} -> match?(["model_providers", "other" | _], path) end)

    keys
    |> add(server?, {~w(mcp_servers docs command), :string})
    |> add(other?, {~w(model_providers other name), ["other"]})
  end

  defp add(keys, true, key), do: Enum.uniq([key | keys])
  defp add(keys, false, _key), do: keys

  @doc "Overrides, `key=value`."
  def overrides(most) do
    simple = for {path, kind} <- @keys, Enum.all?(path, &(&1 =~ ~r/^[a-z_]+$/)), do: {path, kind}

    for {path, kind} <- Enum.take_random(simple, :rand.uniform(most + 1) - 1),
        not match?(["mcp_servers" | _], path),
        do: Enum.join(path, ".") <> one_of(["=", " = "]) <> inline(value(kind))
  end

  defp value(values) when is_list(values), do: one_of(values)

  defp value(:string),
    do: one_of(["a", "b c", "é\"q\"", "back\\slash", "", "tab\there", "#no comment", "日本"])

  defp value(:text), do: one_of(["one\ntwo\n", "x", "  indented\n\n\"\"quotes\"\"", "end\n"])
  defp value(:integer), do: one_of([1, 7, 1_000, 65_535, 2_147_483_647])
  defp value(:number), do: one_of([1, 2.5, 30, 0.25])
  defp value(:boolean), do: chance(50)
  defp value(:strings), do: for(_ <- 1..:rand.uniform(4), do: value(:string)) |> tl()
  defp value(:path), do: one_of(["rel", "./a/../b", "~/x", "/abs/./p", "a//b", "../up"])
  defp value(:paths), do: for(_ <- 1..:rand.uniform(3), do: value(:path))

  defp value(:skills),
    do: for(_ <- 1..:rand.uniform(2), do: %{"path" => value(:path), "enabled" => chance(50)})

  defp value(:anything), do: anything(:rand.uniform(9))

  defp anything(1), do: value(:integer)
  defp anything(2), do: -3.5
  defp anything(3), do: value(:boolean)
  defp anything(4), do: value(:strings)
  defp anything(5), do: %{"k" => value(:string), "l.m" => [1, 2]}
  defp anything(6), do: [%{"k" => 1}, %{"k" => 2, "n" => %{"o" => value(:string)}}]
  defp anything(7), do: {:date, one_of(["2020-01-01", "1979-05-27T07:32:00Z", "07:32:00"])}
  defp anything(8), do: 1.0e20
  defp anything(9), do: value(:text)

  # --- Writing ------------------------------------------------------------------------------------

  # Dotted keys and plain ones first, then tables: what follows a header belongs to it.
  defp text(pairs, lines) do
    groups = Enum.group_by(pairs, fn {path, _} -> hd(path) end)

    {dotted, tables} =
      Enum.split_with(groups, fn {_, pairs} ->
        match?([{[_], _}], pairs) or chance(40)
      end)

    top =
      for {_, pairs} <- dotted,
          {path, value} <- pairs,
          do: [noise(), key(path), " = ", form(value), tail(), "\n"]

    below = for {head, pairs} <- Enum.shuffle(tables), do: [noise(), table([head], strip(pairs))]
    IO.iodata_to_binary([lines, top, below])
  end

  defp strip(pairs), do: for({[_ | path], value} <- pairs, do: {path, value})

  # Writes one header, or also one for each table below.
  defp table(head, pairs) do
    {flat, deep} = Enum.split_with(pairs, fn {path, _} -> length(path) == 1 or chance(40) end)
    # A table that is opened by dotted keys may not be opened by a header again.
    opened = for {[name, _ | _], _} <- flat, do: name
    {moved, deep} = Enum.split_with(deep, fn {[name | _], _} -> name in opened end)

    {arrays, flat} =
      Enum.split_with(flat ++ moved, fn {path, value} ->
        length(path) == 1 and tables?(value) and chance(50)
      end)

    header = if flat == [] and deep != [], do: [], else: ["[", key(head), "]", tail(), "\n"]

    body = Enum.map(flat, &member/1)

    below =
      for {name, pairs} <- Enum.group_by(deep, fn {[name | _], _} -> name end),
          do: table(head ++ [name], strip(pairs))

    elements =
      for {[name], list} <- arrays, element <- list, do: array_of_tables(head ++ [name], element)

    [header, body, below, elements]
  end

  defp member({path, value}),
    do: [noise(), one_of(["", "  "]), key(path), "=", form(value), tail(), "\n"]

  defp tables?([%{} | _] = list), do: Enum.all?(list, &is_map/1)
  defp tables?(_value), do: false

  defp array_of_tables(head, element),
    do: [
      "[[",
      key(head),
      "]]\n",
      for({name, value} <- element, do: [key([name]), " = ", form(value), "\n"])
    ]

  defp noise, do: one_of(["", "", "\n", "# a comment = 1\n", "   # [not.a.table]\n"])
  defp tail, do: one_of(["", "", " # trailing", "\t"])

  defp key(path), do: path |> Enum.map(&segment/1) |> Enum.intersperse(one_of([".", ".", " . "]))

  defp segment(name) do
    cond do
      not (name =~ ~r/\A[A-Za-z0-9_-]+\z/) -> inline(name)
      chance(10) -> ["'", name, "'"]
      chance(10) -> ["\"", name, "\""]
      true -> name
    end
  end

  defp form(text) when is_binary(text) do
    literal? = not (text =~ ~r/['\n\t]/)

    cond do
      String.contains?(text, "\n") and chance(60) -> ["\"\"\"\n", multiline(text), "\"\"\""]
      literal? and chance(30) -> ["'", text, "'"]
      true -> inline(text)
    end
  end

  defp form(list) when is_list(list) and list != [] do
    if chance(50),
      do: [
        "[",
        one_of(["", " # why"]),
        "\n",
        for(item <- list, do: ["  ", inline(item), ",", one_of(["", " # it"]), "\n"]),
        "]"
      ],
      else: inline(list)
  end

  defp form(value) when is_integer(value) do
    case :rand.uniform(4) do
      1 when value >= 0 ->
        "0x" <> Integer.to_string(value, 16)

      2 when value >= 1000 ->
        Integer.to_string(div(value, 1000)) <>
          "_" <> String.pad_leading("#{rem(value, 1000)}", 3, "0")

      _ ->
        inline(value)
    end
  end

  defp form(value), do: inline(value)

  defp multiline(text), do: text |> String.replace("\\", "\\\\") |> String.replace("\"", "\\\"")

  @doc "A value on one line."
  def inline({:date, text}), do: text

  def inline(%{} = map) do
    inner =
      Enum.map_join(map, ", ", fn {name, value} ->
        IO.iodata_to_binary([inline(name), " = ", inline(value)])
      end)

    "{ #{inner} }"
  end

  def inline(list) when is_list(list), do: "[" <> Enum.map_join(list, ", ", &inline/1) <> "]"

  # A JSON string is a TOML basic string, but for the DEL character.
  def inline(text) when is_binary(text),
    do: text |> Codex.JSON.encode!() |> String.replace("\x7F", "\\u007F")

  def inline(value), do: to_string(value)
end
