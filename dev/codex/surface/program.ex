defmodule Codex.Surface.Program do
  @moduledoc false
  # An installed CLI with a temporary home, whose settings keep it off the network.

  alias Codex.CLI.Command

  @enforce_keys [:path, :model, :version]
  defstruct @enforce_keys

  @type t :: %__MODULE__{path: Path.t(), model: Codex.Test.t(), version: String.t()}

  @doc "Calls a function with a program. Returns its result, or the failure as a sentence."
  @spec open(Path.t(), (t() -> {:ok, term()} | {:error, String.t()})) ::
          {:ok, term()} | {:error, String.t()}
  def open(path, fun) do
    with_model([], [], fn model ->
      program = %__MODULE__{path: path, model: model, version: ""}
      with {:ok, version} <- version(program), do: fun.(%{program | version: version})
    end)
  end

  @doc "Calls a function with a scripted model, whose home is removed afterwards."
  @spec with_model([Codex.Test.Steps.step()], keyword(), (Codex.Test.t() -> result)) ::
          result | {:error, String.t()}
        when result: term()
  def with_model(script, opts, fun) do
    case Codex.Test.start(script, opts) do
      {:ok, model} ->
        try do
          fun.(model)
        after
          Codex.Test.stop(model)
        end

      {:error, error} ->
        {:error, Exception.message(error)}
    end
  end

  defp version(program) do
    with {:ok, out} <- run(program, ["--version"]) do
      case Regex.run(~r/\d+\.\d+\.\S+/, out) do
        [version] ->
          {:ok, version}

        nil ->
          {:error, "`#{program.path} --version` printed no version: #{String.slice(out, 0, 200)}"}
      end
    end
  end

  @doc "Runs a command of the program and returns its stdout."
  @spec run(t(), [String.t()]) :: {:ok, String.t()} | {:error, String.t()}
  def run(program, arguments) do
    argv = [program.path | arguments]
    env = Map.put(program.model.env, "CODEX_HOME", program.model.home)
    shown = Enum.join(argv, " ")

    case Command.run(argv, env: env) do
      {:ok, %{exit: %{status: 0}, stdout: out}} ->
        {:ok, out}

      {:ok, %{exit: exit, stderr: stderr}} ->
        {:error, "`#{shown}` ended with #{inspect(exit)}: #{Command.text(stderr)}"}

      {:error, {:not_started, error}} ->
        {:error, "`#{shown}` did not start: #{Exception.message(error)}"}

      {:error, {:lost, error}} ->
        {:error, "`#{shown}` was lost: #{Exception.message(error)}"}

      {:error, {reason, most}} ->
        {:error, "`#{shown}` was stopped: #{reason} (#{most})"}
    end
  end
end
