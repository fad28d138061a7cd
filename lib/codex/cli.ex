defmodule Codex.CLI do
  @moduledoc """
  Runs the commands of the Codex CLI, with a function for each command that a program has use for.

      {:ok, features} = Codex.CLI.features_list()
      Enum.find(features, &(&1.name == "unified_exec"))
      #=> %{name: "unified_exec", stage: :stable, enabled: true}

      {:ok, %{decision: :prompt}} = Codex.CLI.execpolicy_check(["my.rules"], ["git", "push"])

      {:error, %Codex.Error{kind: :auth_missing}} = Codex.CLI.cloud_list()

  The name of a function is the command with underscores: `codex mcp list` is `mcp_list/1`.
  `run/2` runs any other command. Turns, logins, servers and the terminal interface have modules of
  their own: `Codex.Thread`, `Codex.Exec`, `Codex.Login`, `Codex.AppServer`, `Codex.CLI.Session`.
  `guides/cli.md` has examples.

  Calls run one command and block until it has ended. The command belongs to the calling process
  and ends with it, and so do its descendants, except for daemons. Values are never taken for
  flags: they stand behind a `=` or behind `--`. Values stand in the arguments of the process, where
  other users of the machine can read them; `:env` and `:stdin` do not.

  ## Options

  All functions take these options, as a keyword list or a map:

  #{Codex.Options.Schema.docs(Codex.CLI.Commands.schema(nil))}

  Without `:mirror` and `:tee`, nothing is printed.

  ## Errors

  Invalid arguments and options raise `Codex.OptionError`. A command that ends with a failure is
  `{:error, error}` with a `Codex.Error`: its `message` has the words of the CLI, `exit_status`,
  `signal` and `stderr` the rest. Secrets of the environment are `[redacted]` in it. Kinds that
  these functions return:

    * `:cli_not_found` - there is no CLI
    * `:auth_missing` - the command needs a login, usually one with ChatGPT
    * `:connection_refused` - a server or a daemon cannot be reached
    * `:thread_not_found` - there is no such thread
    * `:invalid_request` - the CLI refused the values
    * `:cli_unsupported` - this version of the CLI lacks the command or a flag
    * `:unsupported` - the command needs a terminal, or another operating system
    * `:config` - the configuration or the working directory cannot be used
    * `:timeout`, `:overflow`, `:interrupted` - `:timeout`, `:stdout_limit` or `cancel/1` ended it
    * `:protocol` - the output has an unknown form
    * `:killed`, `:crashed` - it ended by a signal, or without a reason

  Commands that no program can use return `{:error, {:unsupported, command, why}}`.
  """

  import Kernel, except: [apply: 2]

  alias Codex.CLI.{Commands, Result, Runner}
  alias Codex.OptionError
  alias Codex.Turn.Cancellation

  @typedoc "Decoded JSON of the CLI."
  @type json :: map() | list()

  @typedoc """
  A feature: its key, its stage, and whether it is enabled. An unknown stage is a string.
  """
  @type feature :: %{
          name: String.t(),
          stage:
            :under_development | :experimental | :stable | :deprecated | :removed | String.t(),
          enabled: boolean()
        }

  @typedoc """
  The decision of the rules on a command, nil if no rule matches, and the matching rules as maps. An
  unknown decision is a string.
  """
  @type decision :: %{
          decision: :allow | :prompt | :forbidden | String.t() | nil,
          matched_rules: [map()]
        }

  @typedoc """
  The state of a task of Codex Cloud: `"ready"`, `"pending"`, `"applied"` or `"error"`, its title,
  and the whole text of the CLI.
  """
  @type task_status :: %{status: String.t(), title: String.t(), text: String.t()}

  @typedoc "The reason of a failure. See above."
  @type reason :: Codex.Error.t() | {:unsupported, atom(), String.t()}

  @typedoc "The options above, and those of the function."
  @type options :: keyword() | map()

  @doc """
  Runs the CLI with any arguments.

      {:ok, result} = Codex.CLI.run(["features", "list"])
      {result.exit_status, result.stdout}

  Returns `{:ok, result}` for every exit status, and `{:error, error}` if the command does not start
  or does not end by itself. A process that the command leaves behind is ended with it.
  """
  @spec run([String.t(), ...], options()) :: {:ok, Result.t()} | {:error, Codex.Error.t()}
  def run(args, opts \\ []), do: Runner.run(args, opts)

  @doc """
  Returns the version of the CLI, such as `"0.171.0"`. Of the options, `:codex_path` has an effect.
  """
  @spec version(options()) :: {:ok, String.t()} | {:error, Codex.Error.t()}
  def version(opts \\ []), do: Runner.version(opts)

  @doc """
  Returns the stored login, as `Codex.Login.status/1` does, with the options of that function.
  """
  @spec login_status(keyword()) ::
          {:ok, Codex.Login.Status.t()} | {:error, Codex.Login.reason()}
  def login_status(opts \\ []), do: Codex.Login.status(opts)

  @doc """
  Cancels the commands that run with this `:cancellation_token`, from any process. Their calls
  return an error of the kind `:interrupted` after the command has ended.

  Returns `:ok`, or `{:error, :not_found}` if no command has the token.
  """
  @spec cancel(String.t()) :: :ok | {:error, :not_found}
  def cancel(token) when is_binary(token), do: Cancellation.cancel_all(token)
  def cancel(other), do: OptionError.wrong!(:token, other, "a cancellation_token")

  for row <- Commands.all() do
    vars = for {name, _type, _expected, _how} <- row.args, do: Macro.var(name, __MODULE__)
    types = for {_name, type, _expected, _how} <- row.args, do: Commands.argument(type)

    @doc Commands.doc(row)
    if row.refuse do
      @spec unquote(row.name)(unquote_splicing(types)) ::
              {:error, {:unsupported, unquote(row.name), String.t()}}
      def unquote(row.name)(unquote_splicing(vars)),
        do: {:error, {:unsupported, unquote(row.name), unquote(row.refuse)}}
    else
      @spec unquote(row.name)(unquote_splicing(types), options()) ::
              {:ok, unquote(Commands.type(row.returns))} | {:error, Codex.Error.t()}
      def unquote(row.name)(unquote_splicing(vars), opts \\ []),
        do: Runner.call(unquote(row.name), unquote(vars), opts)
    end
  end
end
