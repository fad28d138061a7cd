defmodule Mix.Tasks.Codex.Status do
  @shortdoc "Shows the login, and the credential that a run would use"

  @moduledoc """
  Shows the stored login of the Codex CLI, and the credential that a run would use.

      mix codex.status

  Nothing is sent, and secrets are masked. `mix codex.doctor` checks everything else.

  Options: `--json` - prints one object; `--codex-home DIR`, `--codex PATH` - the home of the CLI,
  and the CLI.

  The exit status is 0 if a run has the credential that its provider needs, 1 if it has none or the
  status could not be read, and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.{Auth, JSON, Login, Text}
  alias Mix.CodexRun

  @switches [json: :boolean, codex_home: :string, codex: :string]
  @usage "usage: mix codex.status [--json] [--codex-home DIR] [--codex PATH]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    if arguments != [], do: CodexRun.wrong(@usage)
    CodexRun.start()
    login = opts |> Mix.Tasks.Codex.Login.own() |> Login.status() |> CodexRun.ok()
    preflight = opts |> Keyword.take([:codex_home]) |> Auth.preflight() |> CodexRun.ok()
    facts = facts(login, preflight)

    if opts[:json] do
      facts |> Map.new() |> JSON.encode!() |> Text.json() |> Mix.shell().info()
    else
      for {name, value} <- facts, value not in [nil, []], text <- List.wrap(value) do
        Mix.shell().info("#{name}: #{Text.line(to_string(text))}")
      end
    end

    if not preflight.ready?, do: exit({:shutdown, 1})
  end

  defp facts(login, preflight) do
    [
      login: login.method || login.error || "none",
      key: login.key_hint,
      provider: preflight.provider,
      ready: preflight.ready?,
      credential: preflight.method,
      source: source(preflight.source),
      account: preflight.email,
      plan: preflight.plan,
      error: preflight.error && Auth.explain(preflight.error),
      warnings: Enum.map(preflight.warnings, & &1.message)
    ]
  end

  defp source(nil), do: nil
  defp source({kind, place}), do: "#{kind} #{place}"
end
