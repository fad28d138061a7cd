defmodule Codex.MCP.HTTP.Helper do
  @moduledoc false
  # The command `http_headers_helper`, whose output is a JSON object of further headers. As in the
  # CLI, a shell runs it once for each connection, with a small environment.

  alias Codex.CLI.Command
  alias Codex.JSON

  @timeout 10_000
  @most 64 * 1024

  @type t :: %{command: String.t(), env: %{String.t() => String.t()}, cwd: Path.t() | nil}
  @type headers :: [{String.t(), String.t()}]

  # Headers that belong to HTTP or to the protocol.
  @reserved ~w(accept connection content-length content-type host last-event-id transfer-encoding)

  @doc "Runs the command. Errors have no part of its output, which is secret."
  @spec headers(t()) :: {:ok, headers()} | {:error, {:headers_helper, String.t()}}
  def headers(%{command: command, env: env, cwd: cwd}) do
    limits = [timeout: @timeout, most: @most]

    case Command.run(["/bin/sh", "-c", command], [env: env, clear_env: true, cwd: cwd] ++ limits) do
      {:ok, %{exit: %{status: 0}, stdout: json}} -> decoded(JSON.decode(json, 1_000))
      {:ok, %{exit: %{status: nil, signal: signal}}} -> failed("it ended by the signal #{signal}")
      {:ok, %{exit: %{status: status}}} -> failed("it ended with the status #{status}")
      {:error, {:timeout, ms}} -> failed("it took longer than #{ms} ms")
      {:error, {:too_long, bytes}} -> failed("it printed more than #{bytes} bytes")
      {:error, _reason} -> failed("it could not be run")
    end
  end

  defp decoded({:ok, %{} = map}) do
    headers = Enum.to_list(map)
    names = for {name, _value} <- headers, do: String.downcase(name)
    reserved = Enum.find(names, &(&1 in @reserved or String.starts_with?(&1, "mcp-")))

    cond do
      not Enum.all?(headers, &header?/1) -> failed("expected a JSON object of names and values")
      names != Enum.uniq(names) -> failed("it printed a header twice")
      reserved -> failed("it printed the header #{reserved}, which belongs to the protocol")
      true -> {:ok, headers}
    end
  end

  defp decoded(_other), do: failed("expected a JSON object of names and values")

  defp header?({name, value}) do
    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and is_binary(value) and
      value =~ ~r/\A[^\x00-\x08\x0A-\x1F\x7F]*\z/
  end

  defp failed(problem), do: {:error, {:headers_helper, problem}}
end
