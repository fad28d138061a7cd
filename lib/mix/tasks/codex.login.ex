defmodule Mix.Tasks.Codex.Login do
  @shortdoc "Logs in through the Codex CLI"

  @moduledoc """
  Logs in through the Codex CLI, as `Codex.Login` does.

      mix codex.login
      mix codex.login --device-auth
      printenv OPENAI_API_KEY | mix codex.login --with-api-key

  Without an option, the CLI opens a browser on this machine, and the task prints the URL.

  Options:

    * `--device-auth` - prints a URL and a code for a browser on any machine
    * `--with-api-key`, `--with-access-token` - reads the secret from stdin, which must not be a
      terminal: a terminal would show it
    * `--codex-home DIR`, `--codex PATH` - the home of the CLI, and the CLI
    * `--issuer URL` - the issuer of tokens (default: `https://auth.openai.com`)

  **A new login removes the old one before it is known to succeed.**

  Ctrl-C stops a login. The exit status is 0 after a login, 1 if it failed, 2 for wrong arguments,
  and 130 after Ctrl-C.
  """
  use Mix.Task

  alias Codex.{Login, Text}
  alias Codex.Terminal.Tty
  alias Mix.CodexRun

  @kinds [:device_auth, :with_api_key, :with_access_token]
  @switches Enum.map(@kinds, &{&1, :boolean}) ++
              [codex_home: :string, codex: :string, issuer: :string]
  @usage "usage: mix codex.login [--device-auth | --with-api-key | --with-access-token] " <>
           "[--codex-home DIR] [--codex PATH] [--issuer URL]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    kinds = for kind <- @kinds, opts[kind], do: kind
    if arguments != [] or length(kinds) > 1, do: CodexRun.wrong(@usage)
    CodexRun.start()
    own = own(opts)

    status =
      case kinds do
        [:with_api_key] -> CodexRun.ok(Login.api_key(secret(), own))
        [:with_access_token] -> CodexRun.ok(Login.access_token(secret(), own))
        [:device_auth] -> wait(CodexRun.ok(Login.device(own)))
        [] -> wait(CodexRun.ok(Login.chatgpt(own)))
      end

    Mix.shell().info(Text.printable(status.message))
  end

  @doc false
  # The options of `Codex.Login` for the options of a task.
  @spec own(keyword()) :: keyword()
  def own(opts) do
    for {option, name} <- [codex_home: :codex_home, codex: :codex_path, issuer: :issuer],
        value = opts[option],
        do: {name, value}
  end

  defp secret do
    if Tty.probe().stdin,
      do:
        CodexRun.wrong("stdin is a terminal, which would show the secret; use a pipe\n#{@usage}")

    case IO.read(:stdio, :eof) do
      text when is_binary(text) -> String.trim(text)
      _none -> nil
    end
  end

  defp wait(login) do
    watch = Tty.watch()
    ended = await(login)
    :ok = Tty.unwatch(watch)

    case ended do
      :interrupt -> exit({:shutdown, 130})
      ended -> CodexRun.ok(ended)
    end
  end

  defp await(login) do
    receive do
      {:codex_login, ^login, {:open, %{url: url, code: code}}} ->
        Mix.shell().info("Open #{Text.line(url)}")
        if code, do: Mix.shell().info("and enter the code #{Text.line(code)}")
        await(login)

      {:codex_login, ^login, {:done, status}} ->
        {:ok, status}

      {:codex_login, ^login, {:error, reason}} ->
        {:error, reason}

      {:terminal, :interrupt} ->
        :ok = Login.cancel(login)
        :interrupt
    end
  end
end
