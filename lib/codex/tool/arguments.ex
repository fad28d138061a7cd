defmodule Codex.Tool.Arguments do
  @moduledoc false
  # Checks the arguments of a tool call against the tool's JSON schema, which the CLI does not do.
  # `Codex.Schema.Check` says what counts.

  alias Codex.Schema.Check

  @doc """
  Returns `:ok`, or a text for the model: each path of a wrong value, and the expected value.

      iex> integer = %{"type" => "integer"}
      iex> schema = %{"type" => "object", "properties" => %{"n" => integer}, "required" => ["n"]}
      iex> Codex.Tool.Arguments.check(%{"n" => 1}, schema)
      :ok
      iex> Codex.Tool.Arguments.check(%{"n" => "1"}, schema)
      {:error, "n must be an integer, got a string"}
      iex> Codex.Tool.Arguments.check(%{}, schema)
      {:error, "n is required"}
  """
  @spec check(term(), map()) :: :ok | {:error, String.t()}
  def check(arguments, schema) do
    case Check.faults(arguments, schema) do
      [] -> :ok
      faults -> {:error, Enum.map_join(faults, "; ", &text/1)}
    end
  end

  defp text(%{path: [], member: nil, text: text}), do: "the arguments: #{text}"

  defp text(%{path: path, member: member, text: text}),
    do: "#{Enum.join(path ++ List.wrap(member), ".")} #{text}"
end
