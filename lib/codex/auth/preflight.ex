defmodule Codex.Auth.Preflight do
  @moduledoc """
  The credential that a run would use, and whether it is accepted. Returned by
  `Codex.Auth.preflight/1`.

    * `lane` - the transport, `:exec` or `:app_server`; they look in different places
    * `ready?` - whether a run has the credential that its provider needs. The provider may still
      refuse it, because a key is not checked before the first request
    * `error` - the reason why a run is not ready: one of `t:error/0`, or nil
    * `provider` - the id of the model provider
    * `method` - the kind of credential: as in `Codex.Auth.Credentials`, `:bearer_token` (a token of
      the provider's own), `:none` (the provider needs no credential), or nil if it is missing
    * `source` - the place of the credential: `{:env, variable}`, `{:file, path}`,
      `{:keyring, account}`, `{:config, key}`, `{:option, :api_key}` (of a connection), or nil
    * `key_hint` - the masked key, as in `codex login status`
    * `account_id`, `email`, `plan`, `user_id`, `workspace_id`, `expires_at`, `renewable?` - of a
      ChatGPT login. They are **decoded, not verified**
    * `store` - the store of the CLI's login: `:file`, `:keyring`, `:auto`, `:ephemeral` or
      `:encrypted`
    * `remote_models?` - whether the CLI will ask the provider for its models, which it does only
      with a ChatGPT login. Otherwise it uses its built-in list
    * `warnings` - facts that may surprise, such as ignored credentials:
      `%{code: code, message: text}`, see `t:code/0`
  """

  alias Codex.Auth.{Context, Credentials, Rules, Store}
  alias Codex.{Config, Native}

  @enforce_keys [:lane, :store, :provider]
  defstruct [
    :lane,
    :store,
    :provider,
    :error,
    :method,
    :source,
    :key_hint,
    :account_id,
    :email,
    :plan,
    :user_id,
    :workspace_id,
    :expires_at,
    ready?: false,
    renewable?: false,
    remote_models?: false,
    warnings: []
  ]

  @typedoc """
    * `:no_credentials` - there is no credential
    * `:keyring_unavailable`, `{:keyring, kind, words}`, `{:invalid_credentials, source, words}`,
      and the other reasons of `t:Codex.Auth.reason/0` - the credential cannot be read; the CLI
      would run without a credential
    * `{:invalid_access_token, words}` - `CODEX_ACCESS_TOKEN` is invalid; the CLI then sends no
      credential
    * `{:missing_env, variable}` - the environment variable of the provider's key is not set
    * `{:forced_login_method, forced, found}`, `{:forced_chatgpt_workspace_id, allowed, found}` -
      the configuration forbids the credential; `codex exec` would delete the login
    * `{:unknown_provider, id}` - the configuration has no such provider
  """
  @type error ::
          :no_credentials
          | Codex.Reason.store()
          | {:invalid_access_token, String.t()}
          | {:missing_env, String.t()}
          | Codex.Reason.login_rule()
          | {:unknown_provider, String.t()}

  @typedoc """
    * `:openai_api_key_ignored` - the CLI does not read `OPENAI_API_KEY`
    * `:codex_api_key_ignored` - the app-server does not read `CODEX_API_KEY`
    * `:login_hidden` - a variable is used in place of the login
    * `:access_token_hides_login` - the login is not used, because an invalid `CODEX_ACCESS_TOKEN`
      is set
    * `:keyring_unavailable` - the keyring cannot be reached, so the file is used
    * `:token_expired` - the access token has expired
    * `:ephemeral` - a login with this store ends with the process that made it
    * `:access_token_unchecked` - only the provider can check a personal access token
  """
  @type code ::
          :openai_api_key_ignored
          | :codex_api_key_ignored
          | :login_hidden
          | :access_token_hides_login
          | :keyring_unavailable
          | :token_expired
          | :ephemeral
          | :access_token_unchecked

  @typedoc "The command whose rules apply: `codex exec` or `codex app-server`."
  @type lane :: :exec | :app_server

  @typedoc "The result of a check. Fields: see above."
  @type t :: %__MODULE__{
          lane: lane(),
          ready?: boolean(),
          error: error() | nil,
          provider: String.t(),
          method: Credentials.method() | :bearer_token | :none | nil,
          source:
            {:env, String.t()}
            | {:config, String.t()}
            | {:option, :api_key}
            | Credentials.source()
            | nil,
          key_hint: String.t() | nil,
          account_id: String.t() | nil,
          email: String.t() | nil,
          plan: String.t() | nil,
          user_id: String.t() | nil,
          workspace_id: String.t() | nil,
          expires_at: DateTime.t() | nil,
          renewable?: boolean(),
          store: Credentials.store(),
          remote_models?: boolean(),
          warnings: [%{code: code(), message: String.t()}]
        }

  # The providers that are built into the CLI, with the credential that they need.
  @built_in %{
    "openai" => :login,
    "ollama" => :none,
    "lmstudio" => :none,
    "amazon-bedrock" => :none
  }

  @doc false
  @spec run(lane(), Context.t(), String.t() | nil) :: t()
  def run(lane, %Context{} = context, api_key \\ nil) do
    provider = Config.get(context.config, "model_provider", "openai")
    preflight = %__MODULE__{lane: lane, store: context.store, provider: provider}
    found = login(lane, context, trimmed(api_key))

    preflight
    |> wants(provider(context.config, provider), found, context)
    |> obey(found, Rules.new(context.config))
    |> warn(context)
  end

  # --- The credential that the provider needs -----------------------------------------------------

  defp provider(config, id) do
    case {Config.get(config, ["model_providers", id]), @built_in[id]} do
      {_any, want} when want != nil -> want
      {%{"env_key" => variable}, nil} when is_binary(variable) -> {:env, variable}
      {%{"experimental_bearer_token" => _}, nil} -> {:config, id}
      {%{"requires_openai_auth" => true}, nil} -> :login
      {%{}, nil} -> :none
      {nil, nil} -> :unknown
    end
  end

  defp wants(preflight, :none, _found, _context), do: %{preflight | ready?: true, method: :none}

  defp wants(preflight, :unknown, _found, _context),
    do: %{preflight | error: {:unknown_provider, preflight.provider}}

  defp wants(preflight, {:config, id}, _found, _context) do
    source = {:config, "model_providers.#{id}.experimental_bearer_token"}
    %{preflight | ready?: true, method: :bearer_token, source: source}
  end

  defp wants(preflight, {:env, variable}, _found, context) do
    case trimmed(context.env[variable]) do
      nil ->
        %{preflight | error: {:missing_env, variable}}

      value ->
        hint = Credentials.mask(value)
        source = {:env, variable}
        %{preflight | ready?: true, method: :bearer_token, source: source, key_hint: hint}
    end
  end

  defp wants(preflight, :login, {:ok, login, faults}, _context) do
    fields =
      Map.take(Map.from_struct(login), [
        :method,
        :source,
        :account_id,
        :email,
        :plan,
        :user_id,
        :workspace_id,
        :expires_at,
        :renewable?
      ])

    preflight = struct!(preflight, fields)
    chatgpt? = login.method in [:chatgpt, :chatgpt_auth_tokens]
    hint = if login.method == :api_key, do: Credentials.mask(login.api_key || "")
    # `login status` takes `{}` for a ChatGPT login, but no request can be made with it.
    error = if usable?(login), do: nil, else: :no_credentials

    %{
      preflight
      | ready?: error == nil,
        error: error,
        key_hint: hint,
        remote_models?: chatgpt? and error == nil,
        warnings: faults
    }
  end

  defp wants(preflight, :login, {:error, error, faults}, _context),
    do: %{preflight | error: error, warnings: faults}

  defp usable?(%{method: :api_key, api_key: key}), do: key not in [nil, ""]

  defp usable?(%{method: method, access_token: token})
       when method in [:chatgpt, :chatgpt_auth_tokens],
       do: token != nil

  defp usable?(_other), do: true

  # --- The CLI's login ----------------------------------------------------------------------------

  # The first credential in the CLI's order.
  defp login(:app_server, _context, api_key) when api_key != nil,
    do: {:ok, %{Credentials.api_key(api_key) | source: {:option, :api_key}}, []}

  defp login(lane, context, _api_key) do
    key = if lane == :exec, do: trimmed(context.env["CODEX_API_KEY"])

    cond do
      key != nil ->
        login = %{Credentials.api_key(key) | source: {:env, "CODEX_API_KEY"}}
        {:ok, login, hidden(context, "CODEX_API_KEY")}

      token = trimmed(context.env["CODEX_ACCESS_TOKEN"]) ->
        access_token(token, context)

      true ->
        stored(context)
    end
  end

  defp trimmed(nil), do: nil

  # The CLI ignores a variable that is not UTF-8.
  defp trimmed(text) do
    case String.valid?(text) && String.trim(text) do
      none when none in [false, ""] -> nil
      text -> text
    end
  end

  # Checks only the file: a keyring might ask its user about a login that is not used.
  defp hidden(%{store: store, home: home}, variable) when store in [:file, :auto] do
    if Codex.FileSystem.exists?(Codex.Home.path(home, :auth)),
      do: [warning(:login_hidden, "#{variable} is used instead of auth.json")],
      else: []
  end

  defp hidden(_context, _variable), do: []

  defp access_token("at-" <> _ = token, context) do
    source = {:env, "CODEX_ACCESS_TOKEN"}

    login = %Credentials{
      method: :personal_access_token,
      personal_access_token: token,
      source: source
    }

    unchecked = "only the provider can check the personal access token in CODEX_ACCESS_TOKEN"

    {:ok, login,
     [warning(:access_token_unchecked, unchecked) | hidden(context, "CODEX_ACCESS_TOKEN")]}
  end

  defp access_token(token, context) do
    case Native.auth_claims(token) do
      {:ok, claims} ->
        login = %Credentials{
          method: :agent_identity,
          agent_identity: token,
          source: {:env, "CODEX_ACCESS_TOKEN"},
          email: claims.email,
          plan: claims.plan,
          user_id: claims.user_id,
          workspace_id: claims.workspace_id,
          expires_at: Credentials.unix(claims.expires_at)
        }

        {:ok, login, hidden(context, "CODEX_ACCESS_TOKEN")}

      {:error, kind} ->
        words = "CODEX_ACCESS_TOKEN is neither a personal access token nor #{expected(kind)}"

        {:error, {:invalid_access_token, words},
         for(
           %{message: _} <- hidden(context, "CODEX_ACCESS_TOKEN"),
           do:
             warning(
               :access_token_hides_login,
               words <> ", and auth.json is not used because of it"
             )
         )}
    end
  end

  defp expected(:format), do: "a JSON Web Token"
  defp expected(:base64), do: "a token with base64url claims"
  defp expected(:json), do: "a token with JSON claims"

  # A login in the memory of this VM is invisible to the CLI.
  defp stored(%{store: :ephemeral}), do: {:error, :no_credentials, []}

  defp stored(context) do
    case Store.load(:login, context) do
      {:ok, login, {_kind, where} = source, fault} ->
        {:ok, Credentials.from_native(login, source), fault(fault, "#{where} is used")}

      {:none, fault} ->
        {:error, :no_credentials, fault(fault, "and there is no auth.json")}

      {:error, reason} ->
        {:error, reason, []}
    end
  end

  defp fault(nil, _instead), do: []

  defp fault({_kind, words} = fault, instead) do
    :ok = Store.warn_once(fault, instead)
    [warning(:keyring_unavailable, "#{words}; #{instead}")]
  end

  # --- Rules --------------------------------------------------------------------------------------

  # The CLI checks its login even if the provider needs another credential. The app-server only
  # ignores a forbidden login.
  defp obey(preflight, {:ok, login, _faults}, rules) do
    workspace = login.workspace_id || login.account_id

    case Rules.check(rules, login.method, workspace) do
      :ok -> preflight
      {:error, why} -> forbid(preflight, why)
    end
  end

  defp obey(preflight, {:error, {:invalid_access_token, _} = why, _faults}, rules) do
    # With workspace rules, `codex exec` checks the workspace of the login.
    if preflight.lane == :exec and Rules.any?(rules),
      do: %{preflight | ready?: false, error: why},
      else: preflight
  end

  defp obey(preflight, {:error, _why, _faults}, _rules), do: preflight

  defp forbid(%{lane: :app_server, method: method} = preflight, _why)
       when method in [:none, :bearer_token],
       do: preflight

  defp forbid(preflight, why), do: %{preflight | ready?: false, error: why, remote_models?: false}

  # --- Warnings -----------------------------------------------------------------------------------

  defp warn(preflight, context) do
    more = [
      {ignored?(context.env["OPENAI_API_KEY"]) and not ignored?(context.env["CODEX_API_KEY"]) and
         preflight.source != {:env, "OPENAI_API_KEY"}, :openai_api_key_ignored,
       "OPENAI_API_KEY is set, but the CLI reads CODEX_API_KEY"},
      {preflight.lane == :app_server and ignored?(context.env["CODEX_API_KEY"]) and
         preflight.source not in [{:env, "CODEX_API_KEY"}, {:option, :api_key}],
       :codex_api_key_ignored,
       "CODEX_API_KEY is set, but the app-server takes a key from a login only"},
      {expired?(preflight.expires_at), :token_expired, expired(preflight)},
      {context.store == :ephemeral and preflight.source != {:option, :api_key}, :ephemeral,
       "cli_auth_credentials_store is \"ephemeral\": each process of the CLI has no login"}
    ]

    %{
      preflight
      | warnings:
          preflight.warnings ++ for({true, code, message} <- more, do: warning(code, message))
    }
  end

  defp ignored?(value), do: trimmed(value) != nil

  defp expired?(nil), do: false
  defp expired?(time), do: DateTime.compare(time, DateTime.utc_now()) == :lt

  defp expired(%{renewable?: true, expires_at: time}),
    do: "the access token ended at #{time}; the CLI will renew it"

  defp expired(%{expires_at: time}), do: "the access token ended at #{time}"

  defp warning(code, message), do: %{code: code, message: message}
end
