defmodule Mix.Tasks.Codex.Report do
  @shortdoc "Packs a bug report, and shows what it redacted"

  @moduledoc """
  Packs the files of a bug report into an archive, and shows what it redacted.

      mix codex.report
      mix codex.report --session ID --to report.tar.gz

  The archive has

    * `doctor.json` - the checks of `mix codex.doctor`, with all versions
    * `config.toml` - the configuration of the home
    * `log/…` - the end of each log file of the home, at most 256 KiB
    * `session.json` - with `--session`, the recorded thread: **its prompts, commands and outputs**

  Keys, tokens, passwords and mail addresses are redacted, and the home directory of the user is
  written as `~`. The task prints the lines that it changed before it writes the archive, which
  only its owner may read. Read the archive before you send it: no rule knows all secrets.

  Options:

    * `--to FILE` - the archive, which must not exist (default: `codex-report.tar.gz`)
    * `--session ID` - a recorded thread to add
    * `--dry-run` - prints the lines and writes nothing
    * `--codex-home DIR`, `--codex PATH` - the home of the CLI, and the CLI

  The exit status is 0, 1 after an error, and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.{Doctor, FileSystem, Home, Sessions, Text}
  alias Codex.Error.Redact
  alias Mix.{CodexReport, CodexRun}

  @switches [
    to: :string,
    session: :string,
    dry_run: :boolean,
    codex_home: :string,
    codex: :string
  ]
  @usage "usage: mix codex.report [--to FILE] [--session ID] [--dry-run] [--codex-home DIR] " <>
           "[--codex PATH]"
  @log_bytes 256 * 1024

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    if arguments != [], do: CodexRun.wrong(@usage)
    to = opts[:to] || "codex-report.tar.gz"
    if not dry?(opts) and File.exists?(to), do: CodexRun.wrong("#{to} exists; use --to")
    CodexRun.start()
    home = opts |> Keyword.take([:codex_home]) |> Home.resolve() |> CodexRun.ok()
    secrets = secrets(home)
    user_home = System.get_env("HOME")

    files =
      for {name, text} <- files(home, opts) do
        {text, lines} = CodexReport.redact(text, secrets, user_home)
        say(name, text, lines)
        {String.to_charlist(name), text}
      end

    if not dry?(opts), do: pack(to, files)
  end

  defp dry?(opts), do: opts[:dry_run] == true

  defp say(name, text, []),
    do: Mix.shell().info("#{Text.line(name)}: #{byte_size(text)} bytes, nothing redacted")

  defp say(name, text, lines) do
    Mix.shell().info("#{Text.line(name)}: #{byte_size(text)} bytes, redacted:")
    shown = String.split(text, "\n")

    for number <- lines do
      line = shown |> Enum.at(number - 1) |> Text.line() |> String.slice(0, 160)
      Mix.shell().info("  #{number}: #{line}")
    end
  end

  # The tokens of the login, too, wherever they stand.
  defp secrets(home) do
    login =
      with {:ok, text} <- FileSystem.read(Home.path(home, :auth)),
           {:ok, auth} <- Codex.JSON.decode(text) do
        for text <- texts(auth), do: {"TOKEN", text}
      else
        _none -> []
      end

    Redact.secrets(Enum.concat(System.get_env(), login))
  end

  defp texts(%{} = map), do: map |> Map.values() |> Enum.flat_map(&texts/1)
  defp texts(list) when is_list(list), do: Enum.flat_map(list, &texts/1)
  defp texts(text) when is_binary(text) and byte_size(text) > 15, do: [text]
  defp texts(_other), do: []

  defp files(home, opts) do
    doctor = for {option, name} <- [codex: :codex_path], value = opts[option], do: {name, value}
    checks = Doctor.run([codex_home: home] ++ doctor)
    logs = CodexRun.ok(Home.log_files(home))

    [{"doctor.json", Doctor.json(checks)}] ++
      config(home) ++
      for(log <- logs, do: {"log/" <> Path.basename(log.path), log_end(log)}) ++
      session(opts[:session], home)
  end

  defp config(home) do
    case FileSystem.read(Home.path(home, :config)) do
      {:ok, text} -> [{"config.toml", text}]
      {:error, _none} -> []
    end
  end

  defp log_end(%{path: path, size: size}) do
    File.open!(path, [:read, :binary, :raw], fn device ->
      {:ok, _at} = :file.position(device, max(size - @log_bytes, 0))

      case :file.read(device, @log_bytes) do
        {:ok, bytes} -> bytes
        _empty -> ""
      end
    end)
  end

  defp session(nil, _home), do: []

  defp session(name, home) do
    text = CodexRun.ok(Sessions.export(name, codex_home: home, format: :json, images: :skip))
    [{"session.json", IO.iodata_to_binary(text)}]
  end

  # The file is private before it has content.
  defp pack(to, files) do
    File.write!(to, "", [:exclusive])
    File.chmod!(to, 0o600)

    case :erl_tar.create(to, files, [:compressed]) do
      :ok -> Mix.shell().info("Wrote #{to}. Read it before you send it.")
      {:error, reason} -> Mix.raise("cannot write #{to}: #{:erl_tar.format_error(reason)}")
    end
  end
end
