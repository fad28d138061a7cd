defmodule Codex.Auth do
  @moduledoc """
  Reads and writes the CLI's login, and finds the credential that a run would use.

      {:ok, preflight} = Codex.Auth.preflight()
      preflight.ready?
      #=> true
      preflight.source
      #=> {:keyring, "cli|252ac2d3c7e8f134"}

  The store of the login is `cli_auth_credentials_store` of the configuration. This module reads and
  writes the same place as the CLI:

    * `file` (the CLI's default) - `auth.json` in the home, mode 0600, replaced atomically under the
      CLI's own locks
    * `keyring` - the keyring of the operating system: the Secret Service on Linux, the Keychain on
      macOS. Each home has its own entry
    * `auto` - the keyring, or the file if no keyring can be reached. Writing to the keyring removes
      the file
    * `ephemeral` - the memory of one process; here, of this VM. The CLI does not see it

  Calls of a keyring run on their own threads, with a deadline (`:timeout`), and never block a
  scheduler. A locked keyring asks its user, unless `prompt: false`. The D-Bus address comes from
  `:env` and is looked up for each call, so a bus that starts later is found.

  If no keyring can be reached, the log has one warning with the reason and the replacement.

  ## Options

  All functions take the options below. `:codex_home`, `:cwd`, `:profile`, `:overrides`,
  `:ignore_user_config` and `:system_dir` select the configuration, as for `Codex.Config.load/1`.

  #{Codex.Auth.Context.docs()}

  Invalid options raise `Codex.OptionError`.
  """

  alias Codex.Auth.{Context, Credentials, Preflight, Rules, Store}
  alias Codex.{Config, FileSystem, Home, JSON, OptionError}
  alias Codex.Error.Words
  alias Codex.Options.Schema

  @typedoc """
  The reason why credentials could not be read, written or removed:

    * `:keyring_unavailable` - no keyring can be reached: there is no bus, no service on the bus, or
      this library was built without keyring support
    * `:encrypted_store` - the configuration enables `features.secret_auth_storage`, so only the CLI
      can read the login. `Codex.Login.status/1` asks the CLI
    * `{:keyring, kind, words}` - the keyring is `:locked`, did not answer in time (`:timeout`), has
      several entries of the same name (`:ambiguous`), or failed otherwise (`:other`)
    * `{:invalid_credentials, source, words}` - the stored login is invalid for the CLI. The words
      name members and positions, never values
    * `{:unreadable, path, words}` - the file system refuses or does not answer, or the file is not
      a regular file of at most 16 MiB
    * `{:lock_held, path}` - another process held the lock
    * `{:native, words}` - the operating system could not start a thread
    * `{:forced_login_method, forced, given}`, `{:forced_chatgpt_workspace_id, allowed, given}` -
      the configuration forbids the login
    * `Codex.Config.Error` - the configuration or the home cannot be read
  """
  @type reason :: Codex.Reason.store() | Codex.Reason.login_rule() | Config.Error.t()

  @doc """
  Returns the stored login: `{:ok, credentials}`, `{:ok, nil}` if there is no login, or
  `{:error, reason}`.

  Environment variables are ignored; `preflight/1` includes them.
  """
  @spec read(keyword()) :: {:ok, Credentials.t() | nil} | {:error, reason()}
  def read(opts \\ []) do
    with {:ok, context} <- Context.new(opts), do: load(context)
  end

  defp load(context) do
    case Store.load(:login, context) do
      {:ok, login, source, fault} ->
        :ok = Store.warn_once(fault, "#{inspect(source)} is used instead")
        {:ok, Credentials.from_native(login, source)}

      # In mode auto, without keyring and file, no login is visible.
      {:none, {:unavailable, _} = fault} ->
        :ok = Store.warn_once(fault, "there is no auth.json either")
        {:ok, nil}

      {:none, _fault} ->
        {:ok, nil}

      {:error, reason} ->
        {:error, reason}
    end
  end

  @doc """
  Stores a login in place of the old one.

      :ok = Codex.Auth.write(Codex.Auth.Credentials.api_key(key))

  Takes `Codex.Auth.Credentials`. Returns `:ok` or `{:error, reason}`. After an error the old login
  is still stored, except after `{:keyring, :timeout, _}`: a keyring that did not answer may have
  stored the new one. A login that `forced_login_method` or `forced_chatgpt_workspace_id` forbids is
  not stored.
  """
  @spec write(Credentials.t(), keyword()) :: :ok | {:error, reason()}
  def write(login, opts \\ [])

  def write(%Credentials{document: document} = login, opts) when is_binary(document) do
    with {:ok, context} <- Context.new(opts),
         :ok <-
           Rules.check(
             Rules.new(context.config),
             login.method,
             login.workspace_id || login.account_id
           ),
         :ok <- Context.make_home(context),
         {:ok, source, fault} <- Store.save(:login, document, context) do
      Store.warn_once(fault, "#{inspect(source)} is used instead")
    end
  end

  def write(_other, _opts) do
    expected = "a Codex.Auth.Credentials with a document"
    raise OptionError.argument(:login, "[redacted]", expected)
  end

  @doc """
  Removes the login, from the keyring and from the file.

  Returns `{:ok, removed?}`, or `{:error, reason}`. In mode `auto`, the file is removed even if no
  keyring can be reached (`codex logout` keeps the file then); a warning in the log reports that the
  keyring was not checked.
  """
  @spec delete(keyword()) :: {:ok, boolean()} | {:error, reason()}
  def delete(opts \\ []) do
    with {:ok, context} <- Context.new(opts),
         {:ok, keyring?, file?, fault} <- Store.delete(:login, context) do
      :ok = Store.warn_once(fault, "an entry in it, if any, was not removed")
      {:ok, keyring? or file?}
    end
  end

  @own [:lane, :api_key, "lane", "api_key"]
  @preflight Schema.new(
               [
                 {:lane, {:one_of, [:exec, :app_server]},
                  "the transport. `codex exec` uses `CODEX_API_KEY` before any login; the " <>
                    "app-server ignores it", default: :exec},
                 {:api_key, :key,
                  "as in `Codex.Options`: `codex exec` gets it as `CODEX_API_KEY`, and a " <>
                    "connection logs its app-server in with it",
                  secret: true,
                  nil: :error,
                  expected: "a non-empty string (is the variable set that it comes from?)"}
               ],
               duplicates: :first
             )

  @doc """
  Finds the credential that a run would use, its source, and whether it is accepted: a
  `Codex.Auth.Preflight`.

  Takes a `Codex.Options` for the credential of its runs, or the options above and

  #{Schema.docs(@preflight)}

  `Codex.Thread.preflight/1` does the same for a thread with all its options.

  Nothing is sent or changed. A missing credential is reported in the result (`error`), not as an
  error of this function. Returns `{:ok, preflight}`, or `{:error, reason}`: a `Codex.Config.Error`
  if the configuration cannot be read, a `Codex.OptionError` if `:api_key` is nil or empty.
  """
  @spec preflight(keyword() | Codex.Options.t()) ::
          {:ok, Preflight.t()} | {:error, Config.Error.t() | Codex.OptionError.t()}
  def preflight(what \\ [])
  def preflight(%Codex.Options{api_key: ""} = options), do: Codex.Options.new(options)

  # A variable of `env` wins over `api_key`, as in a run.
  def preflight(%Codex.Options{} = options) do
    keys =
      if options.api_key,
        do: %{"CODEX_API_KEY" => options.api_key, "OPENAI_API_KEY" => options.api_key},
        else: %{}

    env = System.get_env() |> Map.merge(keys) |> Map.merge(options.env || %{})
    preflight(env: env, codex_home: options.codex_home)
  end

  def preflight(opts) do
    {own, opts} =
      opts |> Schema.pairs!() |> Enum.split_with(fn {name, _value} -> name in @own end)

    case Schema.validate(@preflight, own, &key/2) do
      # A run would refuse it, too.
      {:error, %{key: :api_key} = error} -> {:error, error}
      {:error, error} -> raise error
      {:ok, own} -> preflight(own, opts)
    end
  end

  defp key(:key, key),
    do: if(is_binary(key) and String.trim(key) != "", do: {:ok, key}, else: :error)

  defp preflight(own, opts) do
    with {:ok, context} <- Context.new(opts),
         do: {:ok, Preflight.run(own.lane, with_key(context, own.api_key), own.api_key)}
  end

  defp with_key(context, nil), do: context

  defp with_key(context, key),
    do: %{
      context
      | env: Map.merge(context.env, %{"CODEX_API_KEY" => key, "OPENAI_API_KEY" => key})
    }

  @doc false
  # Checks the rules before `codex exec` runs, which would delete a login that breaks a rule.
  # Without rules no credential is read. If it cannot be read here, the CLI cannot read it either.
  @spec allow(keyword()) :: :ok | {:error, Codex.Reason.login_rule()}
  def allow(opts) do
    with {:ok, context} <- Context.new(opts),
         true <- Rules.any?(Rules.new(context.config)),
         %Preflight{error: {rule, _, _} = why}
         when rule in [:forced_login_method, :forced_chatgpt_workspace_id] <-
           Preflight.run(:exec, context) do
      {:error, why}
    else
      _ -> :ok
    end
  end

  # --- Functions of version 0.4.5 -----------------------------------------------------------------

  @doc "Returns the home: `CODEX_HOME`, else `~/.codex`. It need not exist."
  @spec codex_home() :: Path.t()
  def codex_home do
    case System.get_env("CODEX_HOME") do
      empty when empty in [nil, ""] -> Path.join(user_home(), ".codex")
      home -> Path.expand(home)
    end
  end

  @doc """
  Lists the files that may hold a key or a token: first those of the home, which the CLI reads,
  then, if `CODEX_HOME` is not set, those of older programs.
  """
  @spec auth_paths() :: [Path.t()]
  def auth_paths do
    home = codex_home()

    older =
      if System.get_env("CODEX_HOME") in [nil, ""],
        do: [
          ".config/codex/credentials.json",
          ".config/openai/codex.json",
          ".codex/credentials.json"
        ],
        else: []

    [Home.path(home, :auth), Home.path(home, :credentials)] ++
      Enum.map(older, &Path.join(user_home(), &1))
  end

  # The current value, because the VM reads it only once.
  defp user_home, do: System.get_env("HOME") || System.user_home() || "/"

  @doc """
  Returns an API key, or nil: `CODEX_API_KEY`, else the key of the login, else a key of the older
  files of `auth_paths/0`.

  A login that cannot be read is ignored; `read/1` returns the reason. Reads files, and the keyring
  if it is the store.
  """
  @spec api_key() :: String.t() | nil
  def api_key do
    case String.trim(System.get_env("CODEX_API_KEY", "")) do
      "" -> from_login(& &1.api_key) || from_older(["OPENAI_API_KEY", "openai_api_key"])
      key -> key
    end
  end

  @doc """
  Returns the access token of a ChatGPT login, or nil. Only the CLI renews the token, when it runs.
  """
  @spec chatgpt_access_token() :: String.t() | nil
  def chatgpt_access_token do
    from_login(& &1.access_token) || from_older(["access_token", "token"])
  end

  @doc "Returns `:api` if `api_key/0` returns a key, else `:chatgpt`."
  @spec infer_auth_mode() :: :api | :chatgpt
  def infer_auth_mode, do: if(api_key(), do: :api, else: :chatgpt)

  defp from_login(get) do
    with {:ok, context} <- kept_context(),
         {:ok, %Credentials{} = login} <- load(context) do
      present(get.(login))
    else
      {:error, :keyring_unavailable} ->
        :ok = Store.warn_once({:unavailable, "no keyring can be reached"}, "no login is used")
        nil

      _none ->
        nil
    end
  end

  # An invalid configuration stops the CLI, but not these functions.
  defp kept_context do
    with {:error, %Config.Error{}} <- Context.new(cwd: false), do: Context.plain([])
  end

  defp from_older(keys) do
    Enum.find_value(Enum.drop(auth_paths(), 2), fn path ->
      with {:ok, text} <- FileSystem.read(path), {:ok, %{} = object} <- JSON.decode(text) do
        Enum.find_value(keys, &(present(object[&1]) || present(get_in_tokens(object, &1))))
      else
        _ -> nil
      end
    end)
  end

  defp get_in_tokens(%{"tokens" => %{} = tokens}, key), do: tokens[key]
  defp get_in_tokens(_object, _key), do: nil

  defp present(text) when is_binary(text) and text != "", do: text
  defp present(_other), do: nil

  # --- For people ---------------------------------------------------------------------------------

  @doc """
  Returns a sentence about a reason, without secrets.

      iex> Codex.Auth.explain({:forced_login_method, :chatgpt, :api_key})
      "the configuration allows ChatGPT logins only (forced_login_method), and this is an API key"
  """
  @spec explain(reason() | Preflight.error()) :: String.t()
  def explain(%Config.Error{} = error), do: Exception.message(error)
  def explain(reason), do: Words.reason(reason) || inspect(reason)

  @doc """
  Returns a value of `shell_environment_policy` that hides keys from the commands that Codex runs.

  By default commands inherit the whole environment of the CLI, including `CODEX_API_KEY` and the
  variables of the SDK for providers and MCP servers.

      Codex.start_thread([api_key: key],
        shell_environment_policy: Codex.Auth.shell_environment_policy()
      )

  `more` are names of further variables, with `*` for any text; `policy` is a policy to extend.

      iex> Codex.Auth.shell_environment_policy(["MY_TOKEN"]).exclude
      ["CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN", "CODEX_SDK_*", "MY_TOKEN"]
  """
  @spec shell_environment_policy([String.t()], map()) :: map()
  def shell_environment_policy(more \\ [], policy \\ %{})

  def shell_environment_policy(more, policy)
      when is_list(more) and is_map(policy) and not is_struct(policy) do
    keys = ["CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN", "CODEX_SDK_*" | more]
    Map.update(policy, :exclude, keys, &Enum.uniq(&1 ++ keys))
  end

  def shell_environment_policy(more, policy) when is_list(more),
    do: OptionError.wrong!(:policy, policy, "a map")

  def shell_environment_policy(other, _policy), do: OptionError.wrong!(:more, other, "a list")
end
