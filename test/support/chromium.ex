defmodule Codex.Test.Chromium do
  @moduledoc false
  # Opens pages in headless Chromium, without network.

  @flags ~w(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
            --disable-background-networking --disable-component-update --disable-sync
            --virtual-time-budget=3000)

  @doc "Returns whether the browser is installed."
  def present?, do: System.find_executable("chromium") != nil

  @doc "Returns the elements of a page after its script has run."
  def dom!("http" <> _ = url), do: run!(["--dump-dom", url])
  def dom!(file), do: run!(["--dump-dom", "file://" <> file])

  @doc "Takes a picture of a page, and returns its file and the brightness of its upper corner."
  def pixels!(file, dir, opts) do
    {width, height} = opts[:size]
    picture = Path.join(dir, "page-#{System.unique_integer([:positive])}.png")
    dark = if opts[:dark], do: ["--blink-settings=preferredColorScheme=0"], else: []

    _ =
      run!(
        dark ++ ["--window-size=#{width},#{height}", "--screenshot=#{picture}", "file://" <> file]
      )

    %{file: picture, corner: corner(File.read!(picture))}
  end

  defp run!(args) do
    profile = Path.join(System.tmp_dir!(), "codex-chromium-#{System.unique_integer([:positive])}")

    try do
      args = @flags ++ ["--user-data-dir=#{profile}" | args]
      # It complains about the buses of a desktop.
      shell = ~S(exec timeout 120 chromium "$@" 2>/dev/null)
      {out, 0} = System.cmd("sh", ["-c", shell, "sh" | args])
      out
    after
      File.rm_rf!(profile)
    end
  end

  # The first pixel of a PNG, which no filter of its line changes.
  defp corner(<<0x89, "PNG\r\n", 0x1A, "\n", chunks::binary>>) do
    <<_filter, red, green, blue, _::binary>> =
      for({"IDAT", data} <- chunks(chunks), into: "", do: data) |> :zlib.uncompress()

    div(red + green + blue, 3)
  end

  defp chunks(<<size::32, type::binary-4, data::binary-size(size), _crc::32, rest::binary>>),
    do: [{type, data} | chunks(rest)]

  defp chunks(_end), do: []
end
