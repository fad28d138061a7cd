defmodule Codex.CLI.Output do
  @moduledoc false
  # Reads the output of commands. The CLI ends with a status of success before.

  alias Codex.CLI.Result
  alias Codex.{JSON, Text}

  # The stages of features. Others stay text.
  @stages %{
    "under development" => :under_development,
    "experimental" => :experimental,
    "stable" => :stable,
    "deprecated" => :deprecated,
    "removed" => :removed
  }

  @decisions %{"allow" => :allow, "prompt" => :prompt, "forbidden" => :forbidden}

  @doc "Returns the value of an output, or `:error` if it has another form."
  @spec read(atom(), Result.t()) :: {:ok, term()} | :error
  def read(:result, result), do: {:ok, result}
  def read(:text, result), do: {:ok, Text.utf8(result.stdout)}

  # Some commands write their message to stderr.
  def read(:message, result) do
    case text(result.stdout) do
      "" -> {:ok, without_warnings(result.stderr)}
      message -> {:ok, message}
    end
  end

  def read(:json, result) do
    with {:error, _} <- JSON.decode(result.stdout), do: :error
  end

  def read(:features, result) do
    lines = result.stdout |> text() |> String.split("\n", trim: true)
    features = Enum.map(lines, &feature/1)
    if features == [] or nil in features, do: :error, else: {:ok, features}
  end

  def read(:decision, result) do
    case JSON.decode(result.stdout) do
      {:ok, %{"matchedRules" => rules} = json} when is_list(rules) ->
        decision = json["decision"]
        {:ok, %{decision: Map.get(@decisions, decision, decision), matched_rules: rules}}

      _other ->
        :error
    end
  end

  def read(:task_status, result) do
    text = text(result.stdout)

    case Regex.run(~r/^\[([A-Z]+)\] ?(.*)/, text) do
      [_, status, title] -> {:ok, %{status: String.downcase(status), title: title, text: text}}
      nil -> :error
    end
  end

  defp feature(line) do
    case Regex.run(~r/^(\S+)\s+(\S.*?)\s+(true|false)$/, String.trim(line)) do
      [_, name, stage, enabled] ->
        %{name: name, stage: Map.get(@stages, stage, stage), enabled: enabled == "true"}

      nil ->
        nil
    end
  end

  defp text(bytes), do: bytes |> Text.printable() |> String.trim()

  @doc "Returns the printable text of stderr without the warnings of the start of the CLI."
  @spec without_warnings(binary()) :: String.t()
  def without_warnings(stderr) do
    stderr
    |> text()
    |> String.split("\n")
    |> Enum.reject(&String.starts_with?(&1, "WARNING: "))
    |> Enum.join("\n")
    |> String.trim()
  end
end
