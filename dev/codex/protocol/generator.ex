defmodule Codex.Protocol.Generator do
  @moduledoc false
  # Asks a CLI for the schema of its app-server: `codex app-server generate-json-schema`. The CLI
  # has a temporary home whose settings keep it off the network.

  alias Codex.CLI.Command
  alias Codex.Protocol.Schema

  @bundle "codex_app_server_protocol.schemas.json"

  @doc "Returns the protocol of a program, or the reason of the failure as a sentence."
  @spec run(Path.t()) :: {:ok, Codex.Protocol.Data.t()} | {:error, String.t()}
  def run(codex) do
    case Codex.Test.start() do
      {:ok, model} ->
        try do
          read(codex, model)
        after
          Codex.Test.stop(model)
        end

      {:error, error} ->
        {:error, Exception.message(error)}
    end
  end

  defp read(codex, model) do
    env = Map.put(model.env, "CODEX_HOME", model.home)

    with {:ok, version} <- version(codex, env),
         {:ok, stable} <- schema(codex, env, Path.join(model.home, "stable"), []),
         {:ok, all} <- schema(codex, env, Path.join(model.home, "all"), ["--experimental"]) do
      {:ok, Schema.data(version, stable, all)}
    end
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  defp version(codex, env) do
    with {:ok, out} <- command([codex, "--version"], env) do
      case Regex.run(~r/\d+\.\d+\.\S+/, out) do
        [version] -> {:ok, version}
        nil -> {:error, "`#{codex} --version` printed no version: #{String.slice(out, 0, 200)}"}
      end
    end
  end

  defp schema(codex, env, dir, flags) do
    argv = [codex, "app-server", "generate-json-schema", "--out", dir] ++ flags

    with {:ok, _out} <- command(argv, env),
         {:file, {:ok, json}} <- {:file, File.read(Path.join(dir, @bundle))},
         {:json, {:ok, schema}} <- {:json, Codex.JSON.decode(json)} do
      {:ok, schema}
    else
      {:file, {:error, reason}} ->
        {:error, "#{codex} wrote no #{@bundle}: #{:file.format_error(reason)}"}

      {:json, {:error, {reason, at}}} ->
        {:error, "#{codex} wrote a #{@bundle} that is not JSON (#{reason} at byte #{at})"}

      {:error, text} ->
        {:error, text}
    end
  end

  defp command(argv, env) do
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
