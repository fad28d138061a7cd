defmodule Codex.Login do
  @schema Codex.Options.Schema.new(
            [
              {:codex_path, :argument, "the CLI",
               expected: "a path", shown: "`CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH"},
              {:codex_home, :argument, "the CLI's home",
               expected: "a path", shown: "see `Codex.Home.resolve/1`"},
              {:env, :env, "additional environment variables; nil removes a variable",
               default: %{}, secret: true},
              {:overrides, {:list, :text},
               "the values of `-c`, for instance `[\"cli_auth_credentials_store=keyring\"]`",
               default: [], secret: true},
              {:timeout, :limit, "the time limit; 0 or `:infinity` for no limit",
               expected: "0, a positive integer in milliseconds or `:infinity`",
               shown: "30_000; for `chatgpt/1` and `device/1` 900_000, the lifetime of a code"},
              {:issuer, :string, "the URL of the issuer of tokens",
               expected: "a URL", shown: "`https://auth.openai.com`"}
            ],
            duplicates: :first
          )

  @moduledoc """
  Logs in and out through the CLI.

      {:ok, _status} = Codex.Login.api_key(key)
      {:ok, %{method: :api_key}} = Codex.Login.status()

  A ChatGPT login needs a person with a browser, so it runs in the background. The process that
  starts it gets messages:

      {:ok, login} = Codex.Login.device()

      receive do
        {:codex_login, ^login, {:open, %{url: url, code: code}}} -> show(url, code)
      end

      receive do
        {:codex_login, ^login, {:done, %Codex.Login.Status{}}} -> :logged_in
        {:codex_login, ^login, {:error, reason}} -> reason
      end

  `Codex.Auth` reads the stored login, and returns which credential a run would use.

  **A new login removes the old one before it is known to succeed**: `codex login` revokes an
  existing ChatGPT login at its issuer before it starts another one, as `logout/1` does.

  `forced_login_method` of the configuration is checked before the CLI starts. Secrets are written
  to its stdin.

  ## Options

  #{Codex.Options.Schema.docs(@schema)}

  ## Errors

    * `:codex_binary_not_found` and the other errors of `Codex.Options.codex_path/1`
    * `{:forced_login_method, forced, given}` - the configuration forbids this login method. See
      `Codex.Auth.explain/1`
    * `Codex.Config.Error` - the configuration cannot be read
    * `{:login_failed, exit_status, words}` - the CLI failed; `words` are its own
    * `{:killed, signal}` - a signal ended the CLI
    * `{:timeout, ms}`, `:cancelled`
    * `{:too_long, bytes}` - the CLI printed more than the limit
    * `:crashed` - the process that ran the CLI failed
    * `{:not_started, error}`, `{:lost, error}` - a `Codex.Subprocess.Error`
  """

  alias Codex.Auth.{Context, Rules}
  alias Codex.{OptionError, Subprocess}
  alias Codex.CLI.{Command, Program}
  alias Codex.Login.{Session, Status}
  alias Codex.Options.Schema

  @login "a login of chatgpt/1 or device/1"

  @typedoc "A login in progress."
  @opaque t :: reference()

  @typedoc "Why a login, a logout or a status failed. See the list above."
  @type reason ::
          Codex.Reason.program()
          | Codex.Reason.login_rule()
          | Codex.Config.Error.t()
          | {:login_failed, non_neg_integer(), String.t()}
          | {:killed, atom() | pos_integer()}
          | {:timeout, pos_integer()}
          | :cancelled
          | :crashed
          | {:too_long, pos_integer()}
          | {:not_started | :lost, Subprocess.Error.t()}
          | {:invalid_api_key, :empty | :null_byte}
          | {:invalid_access_token, :empty | :null_byte}

  @doc """
  Logs in with an API key. Returns `{:ok, status}`. The key is stored without a check. A key that is
  nil or empty (a variable that is not set) is `{:error, {:invalid_api_key, :empty}}`, a key with a
  null byte `{:error, {:invalid_api_key, :null_byte}}`; other errors are those above.
  """
  @spec api_key(String.t() | nil, keyword()) :: {:ok, Status.t()} | {:error, reason()}
  def api_key(key, opts \\ []) do
    with :ok <- secret(key, :key, :invalid_api_key),
         do: at_once(["--with-api-key"], key, :api_key, opts)
  end

  @doc """
  Logs in with an access token: a personal access token (`at-…`), or the identity of an agent. The
  CLI checks the token at the issuer. A token that is nil or empty is
  `{:error, {:invalid_access_token, :empty}}`, a token with a null byte
  `{:error, {:invalid_access_token, :null_byte}}`; other errors are those above.
  """
  @spec access_token(String.t() | nil, keyword()) :: {:ok, Status.t()} | {:error, reason()}
  def access_token(token, opts \\ []) do
    with :ok <- secret(token, :token, :invalid_access_token),
         do: at_once(["--with-access-token"], token, :chatgpt, opts)
  end

  # The error of a guard would show the secret.
  defp secret(text, name, tag) do
    cond do
      not is_binary(text) and text != nil ->
        raise OptionError.argument(name, "[redacted]", "a string")

      text == nil or String.trim(text) == "" ->
        {:error, {tag, :empty}}

      # The CLI would store it, but no request can carry it.
      String.contains?(text, "\0") ->
        {:error, {tag, :null_byte}}

      true ->
        :ok
    end
  end

  @doc """
  Starts a ChatGPT login in a browser on this machine. The CLI opens a browser if it can, and
  listens on port 1455 until the browser returns to it.

  Returns `{:ok, login}` or the errors above. The calling process gets
  `{:codex_login, login, {:open, %{url: url, code: nil}}}`, and at the end
  `{:codex_login, login, {:done, status}}` or `{:codex_login, login, {:error, reason}}`. If the
  calling process ends before, the login is cancelled.
  """
  @spec chatgpt(keyword()) :: {:ok, t()} | {:error, reason()}
  def chatgpt(opts \\ []), do: waiting([], opts)

  @doc """
  Starts a ChatGPT login with a code that a person types into a page, on any machine.

  Messages are those of `chatgpt/1`; the message `:open` has a `code`.
  """
  @spec device(keyword()) :: {:ok, t()} | {:error, reason()}
  def device(opts \\ []), do: waiting(["--device-auth"], opts)

  @doc """
  Waits for the end of a login in the process that started it. Earlier messages of the login are
  removed from the mailbox, too.
  """
  @spec await(t(), timeout()) :: {:ok, Status.t()} | {:error, reason()}
  def await(login, timeout \\ :infinity)

  def await(login, timeout)
      when is_reference(login) and
             (timeout == :infinity or (is_integer(timeout) and timeout >= 0)) do
    deadline = timeout |> Command.timeout() |> Command.deadline()
    monitor = Session.monitor(login)

    # No process: the login has ended and its last message is here, or there is no such login.
    result =
      if monitor == nil and timeout == :infinity,
        do: ended(login),
        else: await_until(login, deadline, timeout, monitor)

    _ = if monitor, do: Process.demonitor(monitor, [:flush])
    result
  end

  def await(login, timeout) when is_reference(login) do
    expected = "0, a positive integer in milliseconds or :infinity"
    OptionError.wrong!(:timeout, timeout, expected)
  end

  def await(other, _timeout), do: OptionError.wrong!(:login, other, @login)

  defp await_until(login, deadline, timeout, monitor) do
    receive do
      {:codex_login, ^login, {:done, status}} -> {:ok, status}
      {:codex_login, ^login, {:error, reason}} -> {:error, reason}
      {:codex_login, ^login, _before} -> await_until(login, deadline, timeout, monitor)
      # The session sends its last message before it ends, unless it was killed.
      {:DOWN, ^monitor, :process, _, _} -> ended(login)
    after
      Command.remaining(deadline) -> {:error, {:timeout, timeout}}
    end
  end

  defp ended(login) do
    receive do
      {:codex_login, ^login, {:done, status}} -> {:ok, status}
      {:codex_login, ^login, {:error, reason}} -> {:error, reason}
      {:codex_login, ^login, _before} -> ended(login)
    after
      0 -> {:error, :crashed}
    end
  end

  @doc """
  Cancels a login. It ends with the message `{:error, :cancelled}` after the CLI has ended. Returns
  `:ok` immediately, even if the login has ended already.
  """
  @spec cancel(t()) :: :ok
  def cancel(login) when is_reference(login), do: Session.cancel(login)
  def cancel(other), do: OptionError.wrong!(:login, other, @login)

  @doc """
  Runs `codex login status`, which reports the stored login and ignores `CODEX_API_KEY`.

  Returns `{:ok, status}`, also if there is no login or the CLI could not read it, and
  `{:error, reason}` if the CLI did not run.
  """
  @spec status(keyword()) :: {:ok, Status.t()} | {:error, reason()}
  def status(opts \\ []) do
    opts = options!(opts)

    with {:ok, program} <- Program.find(opts.codex_path), do: status_of(program, opts)
  end

  @doc false
  def status_of(program, opts) do
    with {:ok, ended} <- command(program, ["login", "status"], "", opts) do
      case ended.exit do
        %{status: nil, signal: signal} -> {:error, {:killed, signal}}
        %{status: status} -> {:ok, Status.parse(words(ended), status)}
      end
    end
  end

  @doc "Logs out. Returns `{:ok, true}`, `{:ok, false}` if there was no login, or the errors above."
  @spec logout(keyword()) :: {:ok, boolean()} | {:error, reason()}
  def logout(opts \\ []) do
    opts = options!(opts)

    with {:ok, program} <- Program.find(opts.codex_path),
         {:ok, ended} <- command(program, ["logout"], "", opts),
         {:ok, words} <- succeeded(ended, "") do
      {:ok, words =~ "Successfully logged out"}
    end
  end

  # --- Commands -----------------------------------------------------------------------------------

  defp at_once(flags, secret, kind, opts) do
    opts = options!(opts)

    with {:ok, program} <- Program.find(opts.codex_path),
         :ok <- allowed(kind, opts),
         {:ok, ended} <- command(program, ["login" | flags ++ issuer(opts)], secret, opts),
         {:ok, _words} <- succeeded(ended, secret),
         do: status_of(program, opts)
  end

  defp waiting(flags, opts) do
    opts = options!(opts)
    timeout = Command.timeout(opts.timeout || 900_000)

    with {:ok, program} <- Program.find(opts.codex_path),
         :ok <- allowed(:chatgpt, opts) do
      argv = [program | overrides(opts)] ++ ["login" | flags ++ issuer(opts)]

      Session.start(%{
        argv: argv,
        env: env(opts),
        timeout: timeout,
        code?: flags != [],
        status: fn -> status_of(program, %{opts | timeout: 30_000}) end
      })
    end
  end

  defp allowed(kind, opts) do
    opts = [
      codex_home: opts.codex_home,
      env: Map.merge(System.get_env(), opts.env),
      overrides: opts.overrides
    ]

    with {:ok, context} <- Context.new(opts),
         do: Rules.check_method(Rules.new(context.config).method, kind)
  end

  defp command(program, command, stdin, opts) do
    with :ok <- Codex.Home.guard(Map.merge(System.get_env(), env(opts))) do
      Command.run([program | overrides(opts)] ++ command,
        stdin: stdin,
        env: env(opts),
        timeout: opts.timeout
      )
    end
  end

  defp succeeded(%{exit: %{status: 0}} = ended, _secret), do: {:ok, words(ended)}

  defp succeeded(%{exit: %{status: nil, signal: signal}}, _secret),
    do: {:error, {:killed, signal}}

  defp succeeded(%{exit: %{status: status}} = ended, secret),
    do: {:error, {:login_failed, status, ended |> words() |> hide(String.trim(secret))}}

  defp hide(words, ""), do: words
  defp hide(words, secret), do: String.replace(words, secret, "[redacted]")

  # All texts are on stderr, except those of a device login.
  defp words(ended), do: Command.text(ended.stderr <> ended.stdout)

  defp overrides(opts), do: Enum.flat_map(opts.overrides, &["-c", &1])
  defp issuer(%{issuer: nil}), do: []
  defp issuer(%{issuer: issuer}), do: ["--experimental_issuer", issuer]

  defp env(%{codex_home: nil, env: env}), do: env
  defp env(%{codex_home: home, env: env}), do: Map.put(env, "CODEX_HOME", Path.expand(home))

  defp options!(opts) do
    Schema.validate!(@schema, opts, fn
      :limit, ms when ms == :infinity or (is_integer(ms) and ms in 0..0xFFFFFFFF) ->
        {:ok, ms}

      :argument, path when is_binary(path) ->
        if String.contains?(path, "\0"), do: :error, else: {:ok, path}

      _type, _value ->
        :error
    end)
  end
end
