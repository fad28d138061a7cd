defmodule Mix.Tasks.Codex.Script do
  @shortdoc "Makes a script for Codex.Test of a recorded thread"

  @moduledoc """
  Prints the answers of the model in a recorded thread as a script for `Codex.Test`: a list of
  steps, as `Codex.Test.Steps` makes them.

      mix codex.script SESSION
      mix codex.script SESSION --to test/support/fix_script.exs

  A test runs the script with the real CLI, and without a model:

      import Codex.Test.Steps

      {script, _} =
        "test/support/fix_script.exs" |> File.read!() |> Code.eval_string([], __ENV__)

      model = Codex.Test.start!(script)

  Commands and patches of the script really run. They may hold secrets of the thread: read the
  script before you keep it.

  A SESSION is an id, the beginning of an id, or a name. Options: `--to FILE` - writes a file, which
  must not exist; `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`).

  The exit status is 0, 1 after an error, and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.Sessions
  alias Codex.Test.Rollout
  alias Mix.CodexRun

  @switches [to: :string, codex_home: :string]
  @usage "usage: mix codex.script SESSION [--to FILE] [--codex-home DIR]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    if length(arguments) != 1, do: CodexRun.wrong(@usage)
    CodexRun.start()
    home = opts |> Keyword.take([:codex_home]) |> Codex.Home.resolve() |> CodexRun.ok()
    session = CodexRun.ok(Sessions.find(hd(arguments), codex_home: home))

    if Enum.any?(session.files, &(Path.extname(&1) != ".jsonl")),
      do: Mix.raise("#{session.id} is compressed; restore it with mix codex.sessions unarchive")

    files = Enum.map(session.files, &Path.join(home, &1))
    source = files |> Stream.flat_map(&File.stream!/1) |> Rollout.source()

    case opts[:to] do
      nil ->
        source |> Codex.Text.printable() |> String.trim_trailing() |> Mix.shell().info()

      path ->
        if File.exists?(path), do: CodexRun.wrong("#{path} exists; use another name")
        File.write!(path, source)
        Mix.shell().info("Wrote #{path}")
    end
  end
end
