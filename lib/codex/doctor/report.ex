defmodule Codex.Doctor.Report do
  @moduledoc false
  # Formats checks as text and as JSON, with the same content.

  alias Codex.CLI.Command
  alias Codex.Doctor.Check
  alias Codex.Text

  @statuses %{
    ok: {"ok", :green},
    warning: {"warning", :yellow},
    error: {"error", :red},
    skipped: {"skipped", :faint}
  }

  @spec text([Check.t()], boolean()) :: String.t()
  def text(checks, color?) do
    [Enum.map(checks, &check/1), "\n", verdict(checks)]
    |> IO.ANSI.format(color?)
    |> IO.iodata_to_binary()
  end

  defp check(check) do
    name = check.name |> Atom.to_string() |> String.pad_trailing(13)
    [mark(check.status), name, Text.line(check.summary), "\n", Enum.map(check.details, &detail/1)]
  end

  defp mark(status) do
    {word, color} = @statuses[status]
    [color, String.pad_trailing(word, 9), :reset]
  end

  defp detail(%{text: text} = detail) do
    text = text |> clean() |> String.replace("\n", "\n             ")
    ["           ", colored(detail[:status], ["- ", text]), "\n"]
  end

  defp colored(status, text) when status in [nil, :ok], do: text

  defp colored(status, text) do
    {_word, color} = @statuses[status]
    [color, text, :reset]
  end

  defp verdict(checks) do
    errors = Enum.count(checks, &(&1.status == :error))
    warnings = Enum.count(checks, &(&1.status == :warning))

    cond do
      errors > 0 ->
        [:red, :bright, "A run would fail: ", count(errors, "error"), ".", :reset]

      warnings > 0 ->
        [:yellow, "A run would work, with ", count(warnings, "warning"), ".", :reset]

      true ->
        [:green, "A run would work.", :reset]
    end
  end

  defp count(1, noun), do: "1 #{noun}"
  defp count(n, noun), do: "#{n} #{noun}s"

  @spec json([Check.t()], boolean()) :: String.t()
  def json(checks, healthy?) do
    checks = for check <- checks, do: check |> Map.from_struct() |> plain()
    # The verdict comes first.
    ~s({"healthy":#{healthy?},"checks":#{Codex.JSON.encode!(checks)}})
  end

  defp plain(%{} = map), do: Map.new(map, fn {key, value} -> {key, plain(value)} end)
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(text) when is_binary(text), do: clean(text)
  defp plain(other), do: other

  # Paths need not be UTF-8, and the output of a program may hold anything.
  defp clean(text), do: Command.text(text)
end
