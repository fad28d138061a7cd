defmodule Codex.Surface.Flags do
  @moduledoc false
  # The flags of commands, from `--help`:
  #
  #     %{"exec" => %{"--color" => %{"value" => "COLOR", "values" => ["always", "never", "auto"]}}}
  #
  # A flag has a `value`, which is repeatable if it ends with `...`, the allowed `values`, and a
  # `short` name, if there are any.
  #
  # Each flag belongs to an option of this package, or the overlay says why not.

  @behaviour Codex.Surface.Part

  alias Codex.Options.Rows
  alias Codex.Surface.{Diff, Json, Overlay, Program}

  @commands ~w(exec app-server login mcp features sandbox apply exec-server)

  @type t :: %{String.t() => %{String.t() => map()}}

  @impl true
  def file, do: "dev/cli/flags.json"

  @impl true
  def decode!(text), do: Json.read!(text)

  @impl true
  def encode(flags), do: Json.write(flags)

  @impl true
  def read(program, _stored) do
    with {:ok, flags} <- commands(program, Enum.map(@commands, &[&1]), %{}) do
      notes = for {path, words} <- unmatched(flags), do: Diff.note(path, words)
      {:ok, flags, notes}
    end
  end

  defp commands(_program, [], flags), do: {:ok, flags}

  defp commands(program, [command | rest], flags) do
    with {:ok, help} <- Program.run(program, command ++ ["--help"]) do
      below = for name <- subcommands(help), do: command ++ [name]
      commands(program, below ++ rest, Map.put(flags, Enum.join(command, " "), parse(help)))
    end
  end

  @doc ~S'''
  Returns the flags of a help text.

      iex> Codex.Surface.Flags.parse("""
      ...> Options:
      ...>   -s, --sandbox <MODE>
      ...>           Select the policy
      ...>           [possible values: read-only, workspace-write]
      ...>       --all
      ...>           Show all, as `--all`
      ...> """)
      %{
        "--all" => %{},
        "--sandbox" => %{
          "short" => "-s",
          "value" => "MODE",
          "values" => ["read-only", "workspace-write"]
        }
      }
  '''
  @spec parse(String.t()) :: %{String.t() => map()}
  def parse(help) do
    ~r/^ {2,6}(?:(-\w), )?(--[\w-]+)(?: <([^>]*)>(\.\.\.)?)?$/m
    |> Regex.split("\n" <> help, include_captures: true)
    |> Enum.drop(1)
    |> Enum.chunk_every(2)
    |> Map.new(fn [head, text] -> flag(head, text) end)
  end

  defp flag(head, text) do
    [_, short, flag | value] = Regex.run(~r/^ *(?:(-\w), )?(--[\w-]+)(?: (.*))?$/m, head)
    value = value |> List.first() |> to_string() |> String.replace(~r/[<>]/, "")

    facts =
      for {name, fact} <- [{"short", short}, {"value", value}, {"values", values(text)}],
          fact not in ["", []],
          into: %{},
          do: {name, fact}

    {flag, facts}
  end

  # Either a list in brackets, or a list of words with their meanings.
  defp values(text) do
    case Regex.run(~r/\[possible values: ([^\]]*)\]/, text) do
      [_, words] ->
        String.split(words, ~r/,\s*/)

      nil ->
        listed_values(String.split(text, "Possible values:\n"))
    end
  end

  defp listed_values([_, list]),
    do: for([_, word] <- Regex.scan(~r/^ +- ([\w-]+):/m, list), do: word)

  defp listed_values(_none), do: []

  defp subcommands(help) do
    case Regex.run(~r/^Commands:\n((?:  .*\n)+)/m, help) do
      [_, list] -> for [_, name] <- Regex.scan(~r/^  ([\w-]+)/m, list), name != "help", do: name
      nil -> []
    end
  end

  @impl true
  def tree(flags) do
    for {command, flags} <- flags, into: %{} do
      below = for {flag, facts} <- flags, into: %{}, do: {" " <> flag, Diff.leaf(words(facts))}
      {"flags of " <> command, {"", Enum.join(Enum.sort(Map.keys(flags)), " "), below}}
    end
  end

  defp words(facts) do
    Enum.join(
      List.wrap(facts["short"]) ++
        if(facts["value"], do: ["<#{facts["value"]}>"], else: []) ++
        if(facts["values"], do: ["[#{Enum.join(facts["values"], ", ")}]"], else: []),
      " "
    )
  end

  @doc "Returns the options that send a flag, by command and flag."
  @spec options() :: %{{String.t(), String.t()} => [atom()]}
  def options do
    exec =
      for {name, _, _, facts} <- Rows.all(),
          flag <- sent(facts),
          do: {command("exec", flag), name}

    connect =
      for {name, _, _, facts} <- full(Rows.AppServer.child()),
          flag <- sent(facts),
          do: {command("app-server", flag), name}

    Enum.group_by(exec ++ connect, &elem(&1, 0), &elem(&1, 1))
  end

  # `resume --all` is a flag of a subcommand.
  defp command(command, flag) do
    {below, [flag]} = flag |> String.split() |> Enum.split(-1)
    {Enum.join([command | below], " "), flag}
  end

  defp full(rows),
    do: for(row <- rows, do: if(tuple_size(row) == 3, do: Tuple.insert_at(row, 3, []), else: row))

  defp sent(facts) do
    case facts[:exec] do
      {how, flag} when how in [:flag, :switch, :each, :dangerous] -> [flag]
      _other -> List.wrap(facts[:flags])
    end
  end

  @doc """
  Returns the flags without an option or reason, and the options and reasons without a flag, as
  pairs of a path and words.
  """
  @spec unmatched(t()) :: [{String.t(), String.t()}]
  def unmatched(flags) do
    options = options()
    reasons = Overlay.of("flags")

    without =
      for {command, known} <- flags,
          {flag, _facts} <- known,
          options[{command, flag}] == nil and options[{base(command), flag}] == nil and
            reason(reasons, command, flag) == nil,
          do: {"flags of #{command} #{flag}", "has no option, and dev/cli/overlay.json no reason"}

    unknown =
      for {{command, flag}, names} <- options,
          not is_map_key(flags[command] || %{}, flag),
          do:
            {"flags of #{command} #{flag}", "is sent by #{inspect(names)}, and the CLI lacks it"}

    stale =
      for {command, known} <- reasons,
          command not in ["about", "*"],
          {flag, _reason} <- known,
          flag != "*",
          not is_map_key(flags[command] || %{}, flag),
          do: {"flags of #{command} #{flag}", "is in dev/cli/overlay.json, and the CLI lacks it"}

    Enum.sort(without ++ unknown ++ stale)
  end

  # The flags of `codex exec` stand before its subcommands.
  defp base("exec " <> _command), do: "exec"
  defp base(command), do: command

  defp reason(reasons, command, flag) do
    words = String.split(command)
    commands = for count <- length(words)..1//-1, do: words |> Enum.take(count) |> Enum.join(" ")

    Enum.find_value(commands, &(get_in(reasons, [&1, flag]) || get_in(reasons, [&1, "*"]))) ||
      get_in(reasons, ["*", flag])
  end
end
