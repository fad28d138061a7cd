defmodule Codex.Home do
  @moduledoc """
  The directory that holds the state of the Codex CLI, and the names of its files.

      {:ok, home} = Codex.Home.resolve()
      Codex.Home.path(home, :config)
      #=> "/home/ann/.codex/config.toml"

  The directory is looked up on each call, never at compile time.
  """

  alias Codex.Config.Error
  alias Codex.Home.Logs
  alias Codex.Options.Schema

  @schema Schema.new(
            [
              {:codex_home, :os_path, "the home"},
              {:env, :environment, "the environment",
               secret: true, shown: "the environment of the VM"}
            ],
            duplicates: :first
          )

  @entries [
    config: {"config.toml", "the user's configuration"},
    auth: {"auth.json", "keys and tokens of the login"},
    credentials: {".credentials.json", "tokens of MCP servers"},
    history: {"history.jsonl", "prompts typed into the CLI"},
    sessions: {"sessions", "recorded threads, by date"},
    archived_sessions: {"archived_sessions", "threads put away"},
    logs: {"log", "log files"},
    models_cache: {"models_cache.json", "the models that the CLI saw last"},
    skills: {"skills", "the user's skills"},
    prompts: {"prompts", "the user's prompts"}
  ]

  @typedoc "The entries of a home:\n\n" <>
             Enum.map_join(@entries, "\n", fn {entry, {name, doc}} ->
               "  * `:#{entry}` - `#{name}`, #{doc}"
             end)
  @type entry ::
          :config
          | :auth
          | :credentials
          | :history
          | :sessions
          | :archived_sessions
          | :logs
          | :models_cache
          | :skills
          | :prompts

  @doc """
  Returns the absolute path of the home: the option `:codex_home`, else the environment variable
  `CODEX_HOME`, else `~/.codex`.

  A relative path counts from the current directory. Errors are `Codex.Config.Error` with these
  reasons:

    * `:empty_home` - the option or the variable is an empty string. The CLI would use `~/.codex`
      for an empty variable; an empty value is probably a mistake
    * `:missing_home` - there is no such directory; `:file` names it
    * `:foreign_home` - `Codex.Test.guard!/0` is on, and this package did not make the home

  Options:

  #{Schema.docs(@schema)}

      iex> Codex.Home.resolve(codex_home: "")
      {:error, %Codex.Config.Error{reason: :empty_home, message: "the option :codex_home is empty"}}
      iex> {:error, error} = Codex.Home.resolve(env: %{"CODEX_HOME" => "/no/such/home"})
      iex> Exception.message(error)
      "CODEX_HOME names /no/such/home, but there is no such directory"
  """
  @spec resolve(keyword()) :: {:ok, Path.t()} | {:error, Error.t()}
  def resolve(opts \\ []) do
    %{codex_home: home, env: env} = Schema.validate!(@schema, opts)

    with {:ok, path, from} <- locate(home, env) do
      cond do
        not Codex.FileSystem.dir?(path) -> missing(path, from)
        guarded?() and not made?(path) -> foreign(path, from)
        true -> {:ok, path}
      end
    end
  end

  @doc false
  # The path of the home, whether it exists or not, and the words for its source.
  @spec locate(Path.t() | nil, %{String.t() => String.t() | nil} | nil) ::
          {:ok, Path.t(), String.t()} | {:error, Error.t()}
  def locate(option, env) do
    value = if env, do: &env[&1], else: &System.get_env/1

    with {:ok, path, from} <- named(option, value.("CODEX_HOME"), value.("HOME")),
         do: {:ok, Codex.FileSystem.expand(path), from}
  end

  @default "the default is"

  defp named("", _variable, _user), do: empty("the option :codex_home is empty")
  defp named(nil, "", _user), do: empty("the environment variable CODEX_HOME is empty")

  defp named(nil, nil, user) when user in [nil, ""],
    do: empty("neither CODEX_HOME nor HOME is set")

  defp named(nil, nil, user), do: {:ok, Path.join(user, ".codex"), @default}
  defp named(nil, variable, _user), do: {:ok, variable, "CODEX_HOME names"}
  defp named(option, _variable, _user), do: {:ok, option, "the option :codex_home names"}

  defp empty(message), do: {:error, %Error{reason: :empty_home, message: message}}

  defp missing(path, from) do
    # The CLI makes the default home alone.
    advice = if from == @default, do: ": `mix codex.login` or `codex login` makes it", else: ""
    message = "#{from} #{path}, but there is no such directory#{advice}"
    {:error, %Error{reason: :missing_home, file: path, message: message}}
  end

  # Set by `Codex.Test.guard!/0`.
  defp guarded?, do: Application.get_env(:codex_sdk, :guard_homes) == true

  defp foreign(path, from) do
    message =
      "#{from} #{path}, which neither Codex.Test nor Codex.Home.Isolated made: " <>
        "Codex.Test.guard!/0 refuses it. Use the options of Codex.Test.options/1"

    {:error, %Error{reason: :foreign_home, file: path, message: message}}
  end

  @doc false
  # The home of an environment, if the guard of tests is on.
  @spec guard(%{String.t() => String.t() | nil}) :: :ok | {:error, Error.t()}
  def guard(env) do
    with true <- guarded?(),
         {:ok, path, from} <- locate(nil, env),
         false <- made?(path) do
      foreign(path, from)
    else
      {:error, error} -> {:error, error}
      _off_or_made -> :ok
    end
  end

  # Homes made by this package have this file. The caller gave their `config.toml`.
  @marker ".codex_sdk_home"

  @doc false
  @spec mark(Path.t()) :: :ok | {:error, File.posix()}
  def mark(home), do: File.write(Path.join(home, @marker), "")

  @doc false
  # Whether `Codex.Home.Isolated` or `Codex.Test` made this home.
  @spec made?(Path.t()) :: boolean()
  def made?(home), do: File.exists?(Path.join(home, @marker), [:raw])

  @doc """
  Returns the path of an entry. The file need not exist.

      iex> Codex.Home.path("/home/ann/.codex", :auth)
      "/home/ann/.codex/auth.json"
  """
  @spec path(Path.t(), entry()) :: Path.t()
  for {entry, {name, _doc}} <- @entries do
    def path(home, unquote(entry)), do: Path.join(home, unquote(name))
  end

  @doc """
  Returns all entries with their paths.

      iex> Codex.Home.paths("/h").history
      "/h/history.jsonl"
  """
  @spec paths(Path.t()) :: %{entry() => Path.t()}
  def paths(home) when is_binary(home),
    do: for({entry, _} <- @entries, into: %{}, do: {entry, path(home, entry)})

  @doc """
  Lists the log files that the CLI has written to a home, the last changed first, as
  `%{path: path, size: bytes, modified: seconds}`. A home without a folder for logs has none.

  Returns `{:error, {:unreadable, path, words}}` if the folder cannot be read.
  """
  @spec log_files(Path.t()) ::
          {:ok, [%{path: Path.t(), size: non_neg_integer(), modified: integer()}]}
          | {:error, {:unreadable, Path.t(), String.t()}}
  def log_files(home) when is_binary(home), do: home |> path(:logs) |> Logs.list()

  @tail Schema.new([
          {:from, {:one_of, [:start, :end]}, "the place to begin", default: :end},
          {:poll_ms, :milliseconds, "the time between two looks at the file, in ms", default: 200}
        ])

  @doc """
  Streams the lines of a log file while it grows, without an end. Reading blocks while the file does
  not grow. Goes on with the new file if the file is replaced or emptied. Lines are printable
  (`Codex.Text.line/1`); a line over 64 KiB comes in pieces.

      {:ok, [log | _]} = Codex.Home.log_files(home)
      for line <- Codex.Home.tail_log(log.path), line =~ "ERROR", do: IO.puts(line)

  Options:

  #{Schema.docs(@tail)}

  Raises `Codex.OptionError` for invalid options. Reading raises `ArgumentError` if there is no such
  file at the beginning.
  """
  @spec tail_log(Path.t(), keyword() | map()) :: Enumerable.t()
  def tail_log(path, opts \\ []) when is_binary(path) do
    opts = Schema.validate!(@tail, opts)
    Logs.tail(path, opts.from, opts.poll_ms)
  end
end
