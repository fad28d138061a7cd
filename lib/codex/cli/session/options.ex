defmodule Codex.CLI.Session.Options do
  @moduledoc false
  # The options of an interactive session: those of `codex exec` that the TUI takes, too, and its
  # own.

  alias Codex.OptionError
  alias Codex.Options.{Cast, Merge, Rows, Schema, Table}

  # The flags that `codex`, `codex resume` and `codex fork` share with `codex exec`.
  flags =
    ~w(--profile --strict-config --cd --worktree --add-dir --remote --remote-auth-token-env) ++
      ~w(--model --oss --local-provider --sandbox --approve-for-me --enable --disable) ++
      ~w(--dangerously-bypass-approvals-and-sandbox --dangerously-bypass-hook-trust)

  # Settings without a flag, and those of the SDK that hold for any process.
  ways =
    [:overrides, :base_instructions, :sandbox, :sandbox_policy, :approval, :full_auto] ++
      [:web_search_enabled, :mcp_servers, :model_providers, :trace]

  host = [:env, :clear_env?, :dangerous]

  @own [
    {:size, :window, "the size of the terminal, `{rows, cols}`",
     default: {24, 80}, expected: "`{rows, cols}`, both from 1 to 65_535"},
    {:term, :text, "the kind of terminal, for the variable `TERM`", default: "xterm-256color"},
    {:alt_screen, :boolean,
     "whether the TUI uses the second screen of the terminal; false keeps its output in the " <>
       "scrollback (`--no-alt-screen`)", default: true},
    {:daemon, :boolean,
     "whether the TUI uses the server that all sessions of the home share, and starts it if it " <>
       "does not run. A server that the session started ends with it. False: the session is a " <>
       "server of its own (`--no-daemon`)", default: false},
    {:all, :boolean, "for `:last` and `:pick`: threads of all directories (`--all`)",
     default: false},
    {:include_non_interactive, :boolean,
     "for `:last` and `:pick`: also threads of `codex exec` (`--include-non-interactive`)",
     default: false},
    {:credit, {:one_of, [:auto, :manual]},
     "whether `stream/2` and `next/2` grant the bytes that they return; with `:manual`, call " <>
       "`grant/2`", default: :auto},
    {:window, :count, "the bytes of output that may come before the first grant",
     default: 262_144, expected: "a number of bytes"}
  ]
  @own_names Enum.map(@own, &elem(&1, 0))

  applies? = fn
    {_how, "--" <> _ = flag} -> flag in flags
    {how, _key} when how in [:config, :table, :provider] -> true
    how -> how in ways
  end

  names = for {name, _, _, _} <- Rows.of(:thread) ++ Rows.of(:turn), do: name

  @shared for {name, _type, _doc, facts} = row <- Rows.all(),
              name in names,
              name in host or applies?.(facts[:exec]),
              do: row
  @shared_names Enum.map(@shared, &elem(&1, 0))
  @schema Schema.new(@own ++ @shared)
  @documented Schema.new(@own)

  # By name and by further name.
  @elsewhere for {name, _, _, facts} <- Rows.all(),
                 name not in @shared_names,
                 key <- [name | facts[:also] || []],
                 into: %{},
                 do: {Atom.to_string(key), name}

  @doc "Returns the options as a Markdown list: those of a session, and the names of the others."
  @spec docs() :: String.t()
  def docs do
    shared = @shared_names |> Enum.sort() |> Enum.map_join(", ", &"`#{&1}`")

    Schema.docs(@documented) <>
      "\n\nOf the options of threads and turns (`Codex.Thread.Options`): #{shared}."
  end

  @doc "Returns the options of the session, and the settings of the CLI."
  @spec new(term(), term()) ::
          {:ok, map(), map()} | {:error, OptionError.t() | Codex.Reason.option()}
  def new(client, opts) do
    with {:ok, client} <- Codex.Options.new(client),
         {:ok, pairs} <- Schema.pairs(opts),
         :ok <- applicable(pairs),
         {:ok, set} <- Schema.set(@schema, pairs, &cast/2),
         {own, shared} = Map.split(set, @own_names),
         {turn, thread} = Map.split(shared, [:env, :clear_env?]),
         thread = Map.merge(Map.new(Table.defaults(:thread)), thread),
         {:ok, settings} <- Merge.settings(client, thread, turn) do
      {:ok, Map.merge(Map.take(@schema.defaults, @own_names), own), settings}
    end
  end

  defp applicable(pairs) do
    case Enum.find_value(pairs, fn {key, _value} -> name(key) && @elsewhere[name(key)] end) do
      nil -> :ok
      name -> {:error, {:unsupported_option, name, :interactive}}
    end
  end

  defp name(key) when is_atom(key), do: Atom.to_string(key)
  defp name(key) when is_binary(key), do: key
  defp name(_other), do: nil

  defp cast(:window, size),
    do: if(Codex.Subprocess.Options.window?(size), do: {:ok, size}, else: :error)

  defp cast(type, value), do: Cast.cast(type, value)
end
