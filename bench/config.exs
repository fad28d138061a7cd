# Compares loading layered configuration with parsing the same bytes. See README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Config do
  alias Codex.{Config, Native}

  @dir Path.expand(".corpora/config", __DIR__)
  @layers 5

  def run do
    lines = Bench.setting("LINES", 10_000)
    repetitions = Bench.setting("REPETITIONS", 30)
    texts = write(div(lines, @layers))
    lines = texts |> Enum.map(&(length(String.split(&1, "\n")) - 1)) |> Enum.sum()
    bytes = texts |> Enum.map(&byte_size/1) |> Enum.sum()

    Bench.machine()
    IO.puts("#{lines} lines, #{bytes} bytes, #{@layers} layers; #{repetitions} repetitions\n")

    {:ok, config} = load()
    [] = Config.warnings(config)
    @layers = Enum.count(Config.layers(config), &(&1.config != %{}))

    variants = [
      {"load", fn -> seconds(&load/0) end},
      {"load, effective and origins", fn -> seconds(&all/0) end},
      {"parse only", fn -> parse_only(texts) end}
    ]

    measured = Bench.interleave(variants, repetitions)

    rows =
      for {name, _} <- variants do
        seconds = Bench.median(measured[name])

        figures =
          Enum.map(
            [seconds * 1000, lines / seconds / 1000, bytes / seconds / 1.0e6],
            &Bench.number/1
          )

        [name] ++ figures ++ [Bench.show(Bench.ratio(measured, name, "parse only"))]
      end

    Bench.table(["variant", "ms", "thousand lines/s", "MB/s", "times parse only"], rows)
  end

  defp seconds(fun), do: fun |> Bench.fresh() |> elem(0)

  defp all do
    {:ok, config} = load()
    {map_size(Config.effective(config)), map_size(Config.origins(config))}
  end

  defp parse_only(texts) do
    {true, nanoseconds} = Native.config_parse_null(texts)
    nanoseconds / 1.0e9
  end

  defp load do
    Config.load(
      codex_home: @dir,
      env: %{"HOME" => @dir},
      cwd: Path.join(@dir, "work/sub"),
      profile: "p",
      system_dir: Path.join(@dir, "system")
    )
  end

  defp write(lines) do
    work = Path.join(@dir, "work")
    trust = "[projects.#{inspect(work)}]\ntrust_level = \"trusted\"\n"

    files = [
      {"system/config.toml", "system", ""},
      {"config.toml", "user", trust},
      {"p.config.toml", "profile", ""},
      {"work/.codex/config.toml", "root", ""},
      {"work/sub/.codex/config.toml", "sub", ""}
    ]

    File.mkdir_p!(Path.join(work, ".git"))
    File.write!(Path.join(work, ".git/HEAD"), "ref: refs/heads/main\n")

    for {name, layer, more} <- files do
      text = IO.iodata_to_binary([tables(layer, div(lines, 10)), more])
      path = Path.join(@dir, name)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
      text
    end
  end

  # Ten lines each; every second table is in all layers.
  defp tables(layer, count) do
    for n <- 1..count do
      name = if rem(n, 2) == 0, do: "shared-#{n}", else: "#{layer}-#{n}"

      """
      # server #{n} of #{layer}
      [mcp_servers.#{name}]
      command = "/opt/servers/#{layer}/bin/server-#{n}"
      args = ["--port", "#{8000 + n}", "--name", "#{name}"]
      enabled = #{rem(n, 3) == 0}
      tool_timeout_sec = #{n}.5
      startup_timeout_sec = 10
      env.TOKEN_FILE = "/run/secrets/#{layer}/#{n}" # never the token itself
      env.LEVEL = 'info'

      """
    end
  end
end

Bench.Config.run()
