defmodule Mix.CodexReport do
  @moduledoc false
  # Redacts the files of a bug report, and says what was redacted.

  alias Codex.Error.Redact

  @mark "[redacted]"
  # Members of JSON and keys of TOML whose values are secrets.
  @member ~r/(["']?[\w.-]*(?:key|token|secret|password|authorization)["']?\s*[=:]\s*)("[^"]+"|'[^']+')/i
  @email ~r/[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b/i

  @doc """
  Redacts a text. Returns it with the numbers of the lines that changed. The home of the user
  becomes `~`.

      iex> Mix.CodexReport.redact("a = 1\\napi_key = \\"abc\\"", [], "/home/ann")
      {"a = 1\\napi_key = \\"[redacted]\\"", [2]}
  """
  @spec redact(String.t(), [String.t()], String.t() | nil) :: {String.t(), [pos_integer()]}
  def redact(text, secrets, user_home) do
    {lines, changed} =
      text
      |> Codex.Text.utf8()
      |> String.split("\n")
      |> Enum.with_index(1)
      |> Enum.map_reduce([], fn {line, number}, changed ->
        done = line |> Redact.redact(secrets) |> Redact.shapes() |> members()
        changed = if done != line, do: [number | changed], else: changed
        {home(done, user_home), changed}
      end)

    {Enum.join(lines, "\n"), Enum.reverse(changed)}
  end

  defp members(line) do
    line = Regex.replace(@member, line, "\\1\"#{@mark}\"")
    Regex.replace(@email, line, @mark)
  end

  defp home(line, home) when home in [nil, "", "/"], do: line
  defp home(line, home), do: String.replace(line, home, "~")
end
