defmodule Codex.Sessions.Export.Page do
  @moduledoc false
  # The frame of a page that needs nothing else and asks nobody: styles and script are part of it.
  # The content is hostile, so every text is escaped, and the page has a content security policy
  # that runs nothing but its own script, by hash, and loads nothing but the images inside.

  @folder Path.join(__DIR__, ".")
  @external_resource Path.join(@folder, "page.css")
  @external_resource Path.join(@folder, "page.js")
  @css File.read!(Path.join(@folder, "page.css"))
  @js File.read!(Path.join(@folder, "page.js"))

  hash = fn text -> "'sha256-" <> Base.encode64(:crypto.hash(:sha256, text)) <> "'" end

  @policy "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; " <>
            "style-src #{hash.(@css)}; script-src #{hash.(@js)}"

  @doc "Returns the beginning of a page, with its title and facts."
  @spec open(String.t(), [{String.t(), String.t()}]) :: iodata()
  def open(title, facts) do
    facts = for {name, value} <- facts, do: ["<dt>", name, "<dd>", escape(value), "\n"]

    [
      """
      <!doctype html>
      <html lang="en">
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta http-equiv="Content-Security-Policy" content="#{escape(@policy)}">
      <meta name="referrer" content="no-referrer">
      <title>#{escape(title)}</title>
      <style>#{@css}</style>
      <h1>#{escape(title)}</h1>
      """,
      ["<dl>\n", facts, "</dl>\n"]
    ]
  end

  @doc """
  Returns the beginning of the main content: elements of the class `entry` in sections of the class
  `turn`, among which its field searches.
  """
  @spec search() :: iodata()
  def search do
    """
    <div class="search" hidden>
    <input type="search" placeholder="Search (press /)" aria-label="Search">
    <output class="muted"></output>
    </div>
    <main>
    """
  end

  @doc "Returns the end of a page."
  @spec close() :: iodata()
  def close, do: ["</main>\n<script>", @js, "</script>\n</html>\n"]

  @doc "Returns the keys of a chart: classes, and what they stand for."
  @spec keys([{String.t(), String.t()}]) :: iodata()
  def keys(keys) do
    for {class, name} <- keys,
        do: ~s( <span class="label"><span class="key #{class}"></span>#{escape(name)}</span>)
  end

  @doc """
  Formats a duration.

      iex> for ms <- [850, 5_321, 64_000, 3_700_000], do: Codex.Sessions.Export.Page.duration(ms)
      ["850 ms", "5.3 s", "1 min 4 s", "1 h 1 min"]
  """
  @spec duration(non_neg_integer()) :: String.t()
  def duration(ms) when ms < 1_000, do: "#{ms} ms"
  def duration(ms) when ms < 60_000, do: "#{:erlang.float_to_binary(ms / 1_000, decimals: 1)} s"

  def duration(ms) when ms < 3_600_000,
    do: "#{div(ms, 60_000)} min #{ms |> rem(60_000) |> div(1_000)} s"

  def duration(ms), do: "#{div(ms, 3_600_000)} h #{ms |> rem(3_600_000) |> div(60_000)} min"

  @doc "Formats a coordinate."
  @spec number(number()) :: String.t()
  def number(n), do: :erlang.float_to_binary(n / 1, decimals: 2)

  @doc "Escapes text for elements and quoted attributes."
  @spec escape(String.t()) :: String.t()
  def escape(text) do
    if :binary.match(text, ["&", "<", ">", "\"", "'"]) == :nomatch,
      do: text,
      else: for(<<byte <- text>>, into: "", do: entity(byte))
  end

  defp entity(?&), do: "&amp;"
  defp entity(?<), do: "&lt;"
  defp entity(?>), do: "&gt;"
  defp entity(?"), do: "&quot;"
  defp entity(?'), do: "&#39;"
  defp entity(byte), do: <<byte>>
end
