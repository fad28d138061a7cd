defmodule Codex.Surface.Flags do
  @moduledoc false
  # The flags of commands, from `--help`:
  #
  #     %{"exec" => %{"--color" => %{"value" => "COLOR", "values" => ["always", "never", "auto"]}}}
  #
  # A flag has a `value`, which is repeatable if it ends with `...`, the allowed `values`, and a
  # `short` name, if there are any.
  #
  # Each flag belongs to an option of this package, and each command to a function of `Codex.CLI`,
  # or the overlay says why not.

  @behaviour Codex.Surface.Part

  alias Codex.CLI.Commands
  alias Codex.Options.Rows
  alias Codex.Surface.{Diff, Json, Overlay, Program}

  # Commands that no help text lists. The program itself has the name `codex`.
  @hidden [
    ~w(execpolicy),
    ~w(debug clear-memories),
    ~w(debug trace-reduce),
    ~w(responses-api-proxy)
  ]

  @type t :: %{String.t() => %{String.t() => map()}}

  @impl true
  def file, do: "dev/cli/flags.json"

  @impl true
  def decode!(text), do: Json.read!(text)

  @impl true
  def encode(flags), do: Json.write(flags)

  @impl true
  def read(program, _stored) do
    with {:ok, flags} <- commands(program, [[] | @hidden], %{}) do
      notes = for {path, words} <- unmatched(flags), do: Diff.note(path, words)
      {:ok, flags, notes}
    end
  end

  defp commands(_program, [], flags), do: {:ok, flags}

  defp commands(program, [command | rest], flags) do
    with {:ok, help} <- Program.run(program, command ++ ["--help"]) do
      below = for name <- subcommands(help), do: command ++ [name]
      commands(program, below ++ rest, Map.put(flags, name(command), parse(help)))
    end
  end

  defp name([]), do: "codex"
  defp name(words), do: Enum.join(words, " ")

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

    commands =
      for row <- Commands.all(),
          {name, _, _, facts} <- row.options ++ Enum.map(row.args, &named/1),
          is_binary(facts[:flag]) and facts[:only] == nil,
          do: {{row.command, facts[:flag]}, name}

    always = for row <- Commands.all(), flag <- row.send, do: {{row.command, flag}, :always}
    Enum.group_by(exec ++ connect ++ commands ++ always, &elem(&1, 0), &elem(&1, 1))
  end

  defp named({name, type, words, how}), do: {name, type, words, [flag: how]}

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
  Returns the commands and flags without a function, an option or a reason, and those of this
  package that the CLI lacks, as pairs of a path and words.
  """
  @spec unmatched(t()) :: [{String.t(), String.t()}]
  def unmatched(flags), do: Enum.sort(unmatched_commands(flags) ++ unmatched_flags(flags))

  defp unmatched_commands(flags) do
    functions = for row <- Commands.all(), do: row.command
    reasons = Map.delete(Overlay.of("commands"), "about")
    # A refusal of a command that the CLI lacks is for those who look for it.
    needed = for row <- Commands.all(), row.refuse == nil, do: row.command

    without =
      for {command, _flags} <- flags,
          command not in functions and not is_map_key(reasons, command),
          do: {"command #{command}", "has no function, and dev/cli/overlay.json no reason"}

    unknown =
      for command <- needed,
          not is_map_key(flags, command),
          do: {"command #{command}", "has a function, and the CLI lacks it"}

    stale =
      for {command, _reason} <- reasons,
          not is_map_key(flags, command) or command in functions,
          do: {"command #{command}", "is in dev/cli/overlay.json, without need"}

    without ++ unknown ++ stale
  end

  defp unmatched_flags(flags) do
    options = options()
    reasons = Map.merge(Overlay.of("flags"), omitted())
    covered = covered(options)

    without =
      for {command, known} <- flags,
          command not in covered,
          {flag, _facts} <- known,
          not Enum.any?([command | above(command)], fn name ->
            options[{name, flag}] || reason(reasons, name, flag)
          end),
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
          do: {"flags of #{command} #{flag}", "has a reason, and the CLI lacks it"}

    without ++ unknown ++ stale
  end

  # The flags that rows of `Codex.CLI.Commands` leave out, with the reasons.
  defp omitted do
    for row <- Commands.all(), row.without != [], into: %{} do
      {row.command, for({flags, why} <- row.without, flag <- flags, into: %{}, do: {flag, why})}
    end
  end

  # The reason of a command without any option is one for its flags.
  defp covered(options) do
    used = for {{command, _flag}, _names} <- options, do: command
    refused = for row <- Commands.all(), row.refuse, do: row.command

    Enum.reject(refused ++ Map.keys(Overlay.of("commands")), fn command ->
      command in used or above(command) != []
    end)
  end

  # Commands with the same flags: those of `codex exec` stand before its subcommands, and
  # `Codex.CLI.Session` takes its options.
  defp above("exec " <> _command), do: ["exec"]
  defp above("codex"), do: ["exec"]
  defp above(command) when command in ["resume", "fork"], do: ["codex", "exec"]
  defp above(_command), do: []

  defp reason(reasons, command, flag),
    do: get_in(reasons, [command, flag]) || get_in(reasons, ["*", flag])
end
