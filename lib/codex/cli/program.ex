defmodule Codex.CLI.Program do
  @moduledoc false
  # Finds the `codex` program and its version.

  require Logger

  import Bitwise, only: [band: 2]

  alias Codex.CLI.{Command, Npm, Range}
  alias Codex.{FileSystem, Text}

  # The CLI makes directories in its home before it reads its arguments. With an impossible home it
  # only prints a warning, so this changes neither the user's home nor the home of a run.
  @ask [timeout: 5_000, most: 65_536, env: [{"CODEX_HOME", "/dev/null"}]]

  @variables ["CODEX_PATH", "CODEX_BINARY"]

  @doc "Returns the newest version of the CLI that this package is tested with."
  @spec tested_version() :: String.t()
  defdelegate tested_version, to: Range, as: :newest

  @doc "Returns whether a version is in the range of tested versions."
  @spec supported?(String.t()) :: boolean()
  def supported?(version), do: Range.place(version) == :inside

  @doc """
  Finds the program: the given path, else the path in the environment, else `codex` on the PATH. For
  the wrapper that npm installs, returns the native program behind it.
  """
  @spec find(Path.t() | nil) :: {:ok, Path.t()} | {:error, Codex.Reason.program()}
  def find(given) do
    variables = Map.new(@variables, &{&1, System.get_env(&1)})

    case given || named(variables) do
      nil -> find_on_path()
      path -> path |> FileSystem.expand() |> then(&check(&1, FileSystem.stat(&1)))
    end
  end

  @doc "Returns the program that an environment names, or nil."
  @spec named(%{String.t() => String.t() | nil}) :: Path.t() | nil
  def named(env), do: Enum.find_value(@variables, &if(env[&1] not in [nil, ""], do: env[&1]))

  # One look at all directories: `System.find_executable/1` asks the file server for each.
  defp find_on_path do
    dirs = "PATH" |> System.get_env("") |> String.split(":")
    paths = Enum.map(dirs, &(&1 |> Path.join("codex") |> FileSystem.expand()))

    paths
    |> Enum.zip(FileSystem.stat_all(paths))
    |> Enum.find_value({:error, :codex_binary_not_found}, fn {path, stat} ->
      with {:error, _} <- check(path, stat), do: nil
    end)
  end

  defp check(path, {:error, _}), do: {:error, {:codex_binary_missing, path}}

  defp check(path, {:ok, %{kind: kind}}) when kind != :regular,
    do: {:error, {:codex_binary_not_regular, path}}

  defp check(path, {:ok, %{mode: mode}}) when band(mode, 0o111) == 0,
    do: {:error, {:codex_binary_not_executable, path}}

  defp check(path, {:ok, stat}), do: {:ok, native(path, {stat.inode, stat.modified, stat.size})}

  # npm links a Node.js program, which takes 40 ms. If it is killed, the CLI goes on running. The
  # native program is looked for once for each file: that takes as long as the rest of a start.
  defp native(path, stamp) do
    key = {__MODULE__, :native, path}

    case :persistent_term.get(key, nil) do
      {^stamp, native} ->
        native

      _none_or_old ->
        native = Npm.behind(path) || path
        :persistent_term.put(key, {stamp, native})
        native
    end
  end

  @doc "Puts the tools of an npm package in front of the PATH of its program."
  @spec put_path(%{String.t() => String.t()}, Path.t()) :: %{String.t() => String.t()}
  def put_path(env, program) do
    case Npm.tools(program) do
      nil ->
        env

      tools ->
        path = Map.get(env, "PATH", System.get_env("PATH"))
        Map.put(env, "PATH", Enum.join([tools | List.wrap(path)], ":"))
    end
  end

  @doc """
  Warns in the log, once for each version, if the version of a program is outside the range of
  tested versions. Returns immediately: another process runs the program. Does nothing if
  `:check_cli_version` of the application environment is false.
  """
  @spec warn_once(Path.t()) :: :ok
  def warn_once(program) do
    if ask?() and not marked?(program) do
      {:ok, _pid} =
        Task.Supervisor.start_child(Codex.TaskSupervisor, fn -> warn_first(program) end)

      :ok
    else
      :ok
    end
  end

  @doc "Warns as `warn_once/1` about a version that is known, of the program or server `name`."
  @spec warn_version(String.t(), String.t()) :: :ok
  def warn_version(version, name) do
    advice = Range.advice(version)

    if advice != nil and ask?() and first?({:version, version}),
      do: Logger.warning(Text.line("#{name} is codex-cli #{version}, #{advice}"))

    :ok
  end

  defp marked?(key), do: :persistent_term.get({__MODULE__, :warned, key}, false)

  defp first?(key) do
    not marked?(key) and
      exclusively({:warned, key}, fn ->
        first? = not marked?(key)
        :persistent_term.put({__MODULE__, :warned, key}, true)
        first?
      end)
  end

  defp warn_first(program) do
    if first?(program), do: warn(program)
  end

  # Runs a function while no other process of this node runs one for the same key.
  defp exclusively(key, fun), do: :global.trans({{__MODULE__, key}, self()}, fun, [node()])

  defp ask?, do: Application.get_env(:codex_sdk, :check_cli_version, true) != false

  defp warn(program) do
    case known_version(program) do
      :not_asked ->
        :ok

      {:ok, version} ->
        warn_version(version, program)

      {:error, :no_version} ->
        tested = "codex_sdk is tested with codex-cli #{Range.lowest()} to #{Range.newest()}"
        Logger.warning(Text.line("#{tested}; #{program} does not print its version"))

      # The run that asked fails with the same error.
      {:error, {:not_started, _}} ->
        :ok
    end
  end

  @doc """
  Returns the version as `version/1`, cached for the life of the VM. Never runs the program if
  `:check_cli_version` of the application environment is false. A replaced file is asked again.
  """
  @spec known_version(Path.t()) ::
          {:ok, String.t()}
          | :not_asked
          | {:error, :no_version | {:not_started, Exception.t()}}
  def known_version(program) do
    if ask?(), do: cached_version(program, stamp(program)), else: :not_asked
  end

  defp cached_version(program, stamp) do
    with nil <- cached(program, stamp),
         do:
           exclusively({:version, program}, fn ->
             cached(program, stamp) || cache(program, stamp)
           end)
  end

  defp cached(program, stamp) do
    case :persistent_term.get({__MODULE__, :version, program}, nil) do
      {^stamp, version} -> version
      _none -> nil
    end
  end

  defp cache(program, stamp) do
    version = version(program)
    :persistent_term.put({__MODULE__, :version, program}, {stamp, version})
    version
  end

  defp stamp(program) do
    with {:ok, stat} <- FileSystem.stat(program), do: stat
  end

  @doc "Runs `codex --version` and returns the version, within 5 seconds."
  @spec version(Path.t()) ::
          {:ok, String.t()} | {:error, :no_version | {:not_started, Exception.t()}}
  def version(program) do
    with {:ok, %{stdout: output}} <- Command.run([program, "--version"], @ask),
         [_, version] <- Regex.run(~r/^\S+ (\d+\.\d+\.\d+\S*)$/m, output),
         {:ok, _} <- Version.parse(version) do
      {:ok, version}
    else
      {:error, {:not_started, _}} = error -> error
      _ -> {:error, :no_version}
    end
  end

  @doc """
  Returns the version in the user agent of an app-server, or nil.

      iex> alias Codex.CLI.Program
      iex> Program.of_user_agent("codex_sdk/0.169.0 (Debian 12.0.0; x86_64) xterm (codex_sdk; 1)")
      "0.169.0"
      iex> Program.of_user_agent("another server")
      nil
  """
  @spec of_user_agent(term()) :: String.t() | nil
  def of_user_agent(text) when is_binary(text) do
    with [_, version] <- Regex.run(~r/\/(\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[\w.]{1,64})?) \(/, text),
         {:ok, _} <- Version.parse(version),
         do: version,
         else: (_ -> nil)
  end

  def of_user_agent(_other), do: nil
end
