defmodule Codex.Sessions.Patches do
  @moduledoc false
  # File changes that are applied to a work tree or taken back: reads every form of input.

  alias Codex.{Events, FileSystem, Items, OptionError}
  alias Codex.Options.Schema
  alias Codex.Sessions.{Apply, Changes, Undo}

  @cwd [
    {:cwd, :os_path, "the directory that is changed", shown: "the current directory"},
    {:from, :os_path, "the directory that recorded absolute paths belong to", shown: "`:cwd`"},
    {:timeout_ms, :positive, "the time limit of git in milliseconds", default: 60_000}
  ]
  @apply Schema.new(
           @cwd ++
             [
               {:dry_run, :boolean, "checks alone, and writes nothing", default: false},
               {:preflight, :boolean, "the same", default: false}
             ]
         )
  @undo Schema.new(@cwd)
  @undo_session Schema.new(
                  [
                    {:codex_home, :os_path, "the home of the CLI",
                     shown: "`CODEX_HOME`, else `~/.codex`"},
                    {:turn, :string, "the id of the only turn to take back"},
                    {:after, :string, "the id of the turn after which all are taken back"}
                  ] ++ @cwd
                )

  def apply_docs, do: Schema.docs(@apply)
  def undo_docs, do: Schema.docs(@undo)
  def session_docs, do: Schema.docs(@undo_session)

  @doc "Checks the options of an undo in a session."
  def session_options(opts), do: Schema.validate(@undo_session, opts)

  @spec apply(term(), keyword() | map()) ::
          {:ok, Codex.Sessions.applied()} | {:error, Codex.Sessions.apply_reason()}
  def apply(input, opts) do
    with {:ok, opts} <- Schema.validate(@apply, opts),
         {:ok, places} <- places(opts),
         {:ok, diff} <- diff(input, places.from),
         do: Apply.run(diff, places.cwd, opts.dry_run or opts.preflight, opts.timeout_ms)
  end

  defp places(opts) do
    case FileSystem.cwd() do
      {:ok, here} ->
        cwd = Path.expand(opts.cwd || here)
        {:ok, %{cwd: cwd, from: if(opts.from, do: Path.expand(opts.from), else: cwd)}}

      {:error, reason} ->
        {:error, {:unreadable, ".", reason}}
    end
  end

  defp diff(text, _from) when is_binary(text), do: {:ok, fn _prefix -> text end}

  defp diff(input, from) do
    with {:ok, items} <- items(input),
         {:ok, changes} <- Changes.read(items, from),
         do: {:ok, &Changes.diff(changes, &1)}
  end

  # A turn, a result, their events, items or changes.
  defp items(%{events: events}) when is_list(events), do: items(events)
  defp items(%{} = one), do: {:ok, [one]}

  defp items(list) when is_list(list) do
    if Enum.any?(list, &is_struct(&1, Events.ItemCompleted)) do
      items = for %Events.ItemCompleted{item: item} <- list, do: item
      {:ok, for(%Items.FileChange{} = item <- items, do: item)}
    else
      {:ok, list}
    end
  end

  defp items(_other), do: {:error, :invalid_apply_input}

  @spec undo(term(), keyword() | map()) ::
          {:ok, Codex.Sessions.undone()} | {:error, Codex.Sessions.undo_reason()}
  def undo(input, opts) do
    with {:ok, opts} <- Schema.validate(@undo, opts),
         {:ok, places} <- places(opts) do
      case ghost(input) do
        {:ok, ghost} -> Undo.restore(ghost, places.cwd, opts.timeout_ms) |> done([])
        :none -> reverse(List.wrap(input), places, opts)
        error -> error
      end
    end
  end

  @doc """
  Takes back turns of a session: one, or all after one. The snapshot before the first of them is
  used if no later turn stays, and if the repository still has it.
  """
  @spec undo_turns(Codex.Sessions.Transcript.t(), map()) ::
          {:ok, Codex.Sessions.undone()} | {:error, Codex.Sessions.undo_reason()}
  def undo_turns(transcript, opts) do
    with {:ok, turns, last?} <- chosen(transcript.turns, opts) do
      cwd = opts.cwd || transcript.session.cwd
      from = opts.from || transcript.session.cwd || cwd
      snapshot = if last?, do: snapshot(turns)
      undo_turns(turns, snapshot, cwd: cwd, from: from, timeout_ms: opts.timeout_ms)
    end
  end

  defp undo_turns(turns, nil, opts), do: undo(turns, opts)

  defp undo_turns(turns, snapshot, opts) do
    case undo(snapshot, opts) do
      {:ok, done} ->
        {:ok, %{done | not_undone: turns |> Enum.flat_map(&all_items/1) |> effects()}}

      {:error, {:ghost_commit_missing, _id}} ->
        undo(turns, opts)

      error ->
        error
    end
  end

  # Turns, and whether no turn that stays follows them.
  defp chosen(turns, %{turn: id, after: nil}) when id != nil do
    case Enum.drop_while(turns, &(&1.id != id)) do
      [turn | later] -> {:ok, [turn], later == []}
      [] -> {:error, {:turn_not_found, id}}
    end
  end

  defp chosen(turns, %{turn: nil, after: id}) when id != nil do
    case Enum.drop_while(turns, &(&1.id != id)) do
      [_turn | later] -> {:ok, later, true}
      [] -> {:error, {:turn_not_found, id}}
    end
  end

  defp chosen(_turns, %{turn: turn}),
    do: {:error, OptionError.invalid(:turn, turn, "either `:turn` or `:after`, the id of a turn")}

  defp snapshot(turns) do
    Enum.find_value(Enum.take(turns, 1), fn turn ->
      Enum.find_value(turn.events, fn
        %{item: %Items.GhostSnapshot{} = snapshot} -> snapshot
        _event -> nil
      end)
    end)
  end

  # Each change is a step of its own: a later one may have changed the same file.
  defp reverse(inputs, places, opts) do
    items = Enum.flat_map(inputs, &all_items/1)
    {changes, others} = Enum.split_with(items, &change?/1)

    with :ok <- if(items == [], do: {:error, :invalid_undo_input}, else: :ok),
         {:ok, steps} <- steps(changes, places.from) do
      steps |> Undo.reverse(places.cwd, opts.timeout_ms) |> done(effects(others))
    end
  end

  defp all_items(%{events: events}) when is_list(events), do: all_items(events)
  defp all_items(%Events.ItemCompleted{item: item}), do: [item]
  defp all_items(list) when is_list(list), do: Enum.flat_map(list, &all_items/1)

  defp all_items(%module{} = item) when module != Items.FileChange,
    do: if(item?(item), do: [item], else: [])

  defp all_items(%{} = change), do: [change]
  defp all_items(_other), do: []

  defp item?(%module{}), do: match?(["Codex", "Items" | _], Module.split(module))

  defp change?(%Items.FileChange{}), do: true
  defp change?(%_other{}), do: false
  defp change?(_map), do: true

  defp steps(changes, from) do
    changes
    |> Enum.reduce_while({:ok, []}, fn change, {:ok, steps} ->
      case Changes.read([change], from) do
        {:ok, []} -> {:cont, {:ok, steps}}
        {:ok, step} -> {:cont, {:ok, [step | steps]}}
        error -> {:halt, error}
      end
    end)
  end

  # Commands and tools may have changed anything.
  defp effects(items) do
    for %module{} = item <- items,
        module in [Items.CommandExecution, Items.McpToolCall, Items.DynamicToolCall],
        do: item
  end

  defp done({:ok, done}, effects), do: {:ok, Map.put(done, :not_undone, effects)}
  defp done(error, _effects), do: error

  defp ghost(%Items.GhostSnapshot{ghost_commit: commit}), do: ghost(commit)
  defp ghost(%{"ghost_commit" => commit}), do: ghost(commit)
  defp ghost(%{ghost_commit: commit}), do: ghost(commit)

  defp ghost(%{} = commit) when not is_struct(commit) do
    files = member(commit, :preexisting_untracked_files)
    dirs = member(commit, :preexisting_untracked_dirs)

    if files == nil and dirs == nil and not ghost_keys?(commit),
      do: :none,
      else: ghost(member(commit, :id), files, dirs)
  end

  defp ghost(_other), do: :none

  defp ghost(id, _files, _dirs) when id in [nil, ""], do: {:error, :missing_ghost_commit_id}

  defp ghost(id, files, dirs) do
    if commit_id?(id) and paths?(files) and paths?(dirs),
      do: {:ok, %{id: id, untracked_files: files || [], untracked_dirs: dirs || []}},
      else: {:error, :invalid_ghost_snapshot}
  end

  # A commit alone, without the members of a change.
  defp ghost_keys?(map) do
    keys = Map.keys(map) |> Enum.map(&to_string/1)
    keys -- ~w(id parent) == []
  end

  defp member(map, key), do: map[Atom.to_string(key)] || map[key]

  defp commit_id?(id), do: is_binary(id) and id =~ ~r/\A[0-9a-f]{4,64}\z/i

  defp paths?(nil), do: true
  defp paths?(list), do: is_list(list) and Enum.all?(list, &is_binary/1)
end
