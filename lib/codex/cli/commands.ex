defmodule Codex.CLI.Commands do
  @moduledoc false
  # The commands of the CLI as data. The functions of `Codex.CLI`, their documentation and their
  # arguments are made from these rows, and a test compares the rows with the flags of the CLI.
  #
  # A row is a map:
  #
  #   * `command:`     - the words of the command; with underscores, they are the function's name
  #   * `doc:`         - the sentences of the documentation
  #   * `args:`        - `{name, type, expected, how}`: the arguments of the function. `how` is
  #     `:positional` or the flag that has the value
  #   * `options:`     - rows of `Codex.Options.Schema` with the fact `flag:`, which is the flag or
  #     `:positional`, and `only: :macos` if the CLI has the flag on macOS only
  #   * `send:`        - flags that are always sent
  #   * `returns:`     - the form of the value, see `type/1`
  #   * `statuses:`    - the exit statuses of a success: `[0]`, or `:any`
  #   * `timeout:`     - the default of `:timeout`
  #   * `descendants:` - `:leave` if a process of the command must outlive it
  #   * `without:`     - `{flags, reason}`: flags without an option
  #
  # A row `%{command: words, refuse: why}` is a command that no program can use.

  alias Codex.CLI.Commands.{Services, Settings, Threads, Tools}
  alias Codex.CLI.Result
  alias Codex.Options.Schema

  @defaults %{
    args: [],
    options: [],
    send: [],
    statuses: [0],
    timeout: 30_000,
    descendants: :sweep,
    without: [],
    refuse: nil
  }

  @common [
    {:codex_path, :path, "the CLI",
     shown: "`CODEX_PATH`, `CODEX_BINARY`, else `codex` on the `PATH`"},
    {:codex_home, :path, "the CLI's home", shown: "see `Codex.Home.resolve/1`"},
    {:cwd, :path, "the working directory", shown: "that of the VM"},
    {:env, :env, "additional environment variables; nil removes a variable",
     default: %{}, secret: true},
    {:clear_env?, :boolean, "starts from `:env` alone, not from the variables of the VM",
     default: false},
    {:overrides, {:list, :text},
     "the values of `-c`, such as `[\"cli_auth_credentials_store=file\"]`",
     default: [], secret: true},
    {:enable, {:list, :string}, "features to enable for this command", default: []},
    {:disable, {:list, :string}, "features to disable for this command", default: []},
    {:stdin, :iodata, "the bytes for stdin, which is closed afterwards",
     default: "", secret: true, expected: "a string or iodata"},
    {:timeout, :limit, "the time limit of the command; 0 or `:infinity` for no limit",
     expected: "0, a positive integer in milliseconds or `:infinity`", shown: "30_000"},
    {:cancellation_token, :string, "a name for `cancel/1`"},
    {:stdout_limit, :bytes, "a command that writes more to stdout is ended, and fails",
     default: 16_777_216},
    {:stderr_limit, :bytes, "the newest bytes of stderr that are kept", default: 65_536},
    {:mirror, :boolean,
     "also prints stdout and stderr as they come, line by line and without escape sequences",
     default: false},
    {:tee, {:fun, 1},
     "a function that the calling process calls with each piece of output, as " <>
       "`{:stdout, bytes}` or `{:stderr, bytes}`"},
    {:log, :string, "the CLI's log on stderr (`RUST_LOG`), such as `\"debug\"`", shown: "none"},
    {:color, :boolean, "whether outputs may have colours", default: false},
    {:telemetry_prefix, :atoms, "the first part of telemetry events", default: [:codex]}
  ]

  @rows (for row <-
               Threads.rows() ++ Settings.rows() ++ Services.rows() ++ Tools.rows() do
           name = row.command |> String.replace([" ", "-"], "_") |> String.to_atom()
           @defaults |> Map.merge(row) |> Map.put(:name, name)
         end)

  @schemas Map.new(@rows, fn row ->
             timeout = if row.timeout == :infinity, do: "`:infinity`", else: "#{row.timeout}"
             common = List.keydelete(@common, :timeout, 0)
             {:timeout, type, doc, facts} = List.keyfind(@common, :timeout, 0)
             limit = {:timeout, type, doc, Keyword.put(facts, :shown, timeout)}
             {row.name, Schema.new(row.options ++ [limit | common])}
           end)

  @by_name Map.new(@rows, &{&1.name, &1})
  @common_schema Schema.new(@common)

  @type t :: %{
          :name => atom(),
          :command => String.t(),
          optional(atom()) => term()
        }

  @doc "Returns all rows."
  @spec all() :: [t()]
  def all, do: @rows

  @doc "Returns a row by the name of its function."
  @spec fetch!(atom()) :: t()
  def fetch!(name), do: Map.fetch!(@by_name, name)

  @doc "Returns the schema of all options of a function, and of `Codex.CLI.run/2` for nil."
  @spec schema(atom() | nil) :: Schema.t()
  def schema(nil), do: @common_schema
  def schema(name), do: Map.fetch!(@schemas, name)

  @doc "Returns the command that a list of words begins with, or nil."
  @spec known([String.t()]) :: String.t() | nil
  def known(words) do
    Enum.find_value(length(words)..1//-1, fn count ->
      command = words |> Enum.take(count) |> Enum.join(" ")
      Enum.find_value(@rows, &if(&1.command == command, do: command))
    end)
  end

  @doc """
  Returns the words of a command with the values of its arguments and its options. Each value is
  part of its flag or stands behind `--`, so none can be taken for a flag.
  """
  @spec argv(t(), [term()], map()) :: [String.t()]
  def argv(row, values, opts) do
    args =
      for {{_name, _type, _expected, how}, value} <- Enum.zip(row.args, values), do: {how, value}

    options =
      for {name, _type, _doc, facts} <- row.options,
          value = opts[name],
          value not in [nil, false, []],
          do: {facts[:flag], value}

    {positional, flags} = Enum.split_with(args ++ options, &(elem(&1, 0) == :positional))
    rest = for {_how, value} <- positional, word <- List.wrap(value), do: text(word)
    rest = if rest == [], do: [], else: ["--" | rest]
    String.split(row.command) ++ row.send ++ Enum.flat_map(flags, &flag/1) ++ rest
  end

  defp flag({flag, true}), do: [flag]
  defp flag({flag, values}) when is_list(values), do: Enum.map(values, &"#{flag}=#{text(&1)}")
  defp flag({flag, value}), do: ["#{flag}=#{text(value)}"]

  # Words of the CLI have hyphens.
  defp text(word) when is_atom(word), do: word |> Atom.to_string() |> String.replace("_", "-")
  defp text(value), do: to_string(value)

  @doc "Returns the documentation of a function."
  @spec doc(t()) :: String.t()
  def doc(%{refuse: why} = row) when why != nil do
    "Returns `{:error, {:unsupported, #{inspect(row.name)}, why}}`: #{why}."
  end

  def doc(row) do
    options =
      case row.options do
        [] -> ""
        rows -> "\n\nOptions, besides those of this module:\n\n" <> Schema.docs(Schema.new(rows))
      end

    """
    Runs `codex #{row.command}`. #{row.doc}

    Returns `{:ok, #{returned(row.returns)}}` or `{:error, reason}`.#{limit(row.timeout)}#{options}
    """
  end

  defp returned(:result), do: "result"
  defp returned(:text), do: "text"
  defp returned(:message), do: "message"
  defp returned(:json), do: "json"
  defp returned(:features), do: "features"
  defp returned(:decision), do: "decision"
  defp returned(:task_status), do: "status"

  defp limit(30_000), do: ""
  defp limit(:infinity), do: " The call has no time limit by default."
  defp limit(ms), do: " The time limit is #{div(ms, 1_000)} seconds by default."

  @doc "Returns the type of the value of a function, quoted."
  @spec type(atom()) :: Macro.t()
  def type(:result), do: quote(do: Result.t())
  def type(text) when text in [:text, :message], do: quote(do: String.t())
  def type(:json), do: quote(do: json())
  def type(:features), do: quote(do: [feature()])
  def type(:decision), do: quote(do: decision())
  def type(:task_status), do: quote(do: task_status())

  @doc "Returns the type of an argument, quoted."
  @spec argument(atom() | tuple()) :: Macro.t()
  def argument(:string), do: quote(do: String.t())
  def argument(:path), do: quote(do: Path.t())
  def argument(:paths), do: quote(do: [Path.t(), ...])
  def argument(:argv), do: quote(do: [String.t(), ...])
  def argument({:one_of, _words}), do: quote(do: atom() | String.t())
end
