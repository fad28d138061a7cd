defmodule Codex.Auth.Credentials do
  @moduledoc """
  A login of the CLI, as stored in `auth.json` or the keyring.

    * `method` - the kind of login: `:api_key`, `:chatgpt`, `:chatgpt_auth_tokens`,
      `:agent_identity`, `:personal_access_token`, `:bedrock_api_key` or `:bedrock_access_keys`
    * `source` - the store it was read from: `{:file, path}`, `{:keyring, account}` or `:memory`;
      nil before it is stored
    * `api_key`, `access_token`, `personal_access_token`, `agent_identity` - secrets, or nil
    * `account_id` - the account of its requests
    * `email`, `plan`, `user_id`, `workspace_id` - claims of the identity token. **They are decoded,
      not verified**: anyone who can write the file can change them
    * `expires_at` - the end of the access token (`DateTime`), if the token has one
    * `renewable?` - whether the CLI can renew the access token
    * `last_refresh` - the time of the last renewal (`DateTime`)
    * `document` - the whole login, as JSON

  `inspect/1` shows no secret.
  """

  alias Codex.{Native, OptionError}

  defstruct [
    :method,
    :source,
    :api_key,
    :access_token,
    :personal_access_token,
    :agent_identity,
    :account_id,
    :email,
    :plan,
    :user_id,
    :workspace_id,
    :expires_at,
    :last_refresh,
    :document,
    renewable?: false
  ]

  @typedoc "The kind of a login."
  @type method ::
          :api_key
          | :chatgpt
          | :chatgpt_auth_tokens
          | :agent_identity
          | :personal_access_token
          | :bedrock_api_key
          | :bedrock_access_keys

  @typedoc """
  The place of logins, by the setting `cli_auth_credentials_store`. `:encrypted` is the CLI's own
  store of the feature `secret_auth_storage`.
  """
  @type store :: :file | :keyring | :auto | :ephemeral | :encrypted

  @typedoc "The store that a login was read from."
  @type source :: {:file, Path.t()} | {:keyring, String.t()} | :memory

  @typedoc "A login. Fields: see above."
  @type t :: %__MODULE__{
          method: method(),
          source: source() | nil,
          api_key: String.t() | nil,
          access_token: String.t() | nil,
          personal_access_token: String.t() | nil,
          agent_identity: String.t() | nil,
          account_id: String.t() | nil,
          email: String.t() | nil,
          plan: String.t() | nil,
          user_id: String.t() | nil,
          workspace_id: String.t() | nil,
          expires_at: DateTime.t() | nil,
          last_refresh: DateTime.t() | nil,
          document: String.t(),
          renewable?: boolean()
        }

  @doc """
  Returns a login with a key. Raises `ArgumentError` if the key is nil, empty or not UTF-8.

      iex> login = Codex.Auth.Credentials.api_key("sk-example")
      iex> {login.method, login.document}
      {:api_key, ~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-example"})}
      iex> inspect(login) =~ "sk-example"
      false
  """
  @spec api_key(String.t()) :: t()
  def api_key(key) do
    # The error of a guard would show the key.
    unless is_binary(key) or key == nil,
      do: raise(OptionError.argument(:key, "[redacted]", "a string"))

    if key in [nil, ""],
      do: raise(ArgumentError, "the key is nil or empty: is the variable set that it comes from?")

    # Checked here, because the failure report of a native function shows its arguments.
    unless String.valid?(key) and not String.contains?(key, "\0"),
      do: raise(ArgumentError, "expected the key to be UTF-8 without a null byte")

    {:ok, login} = parse(Native.auth_api_key_login(key))
    login
  end

  @doc """
  Parses a document. Returns `{:ok, credentials}`, or `{:error, words}` if the CLI would refuse it.
  The words name members, never values.

      iex> {:ok, login} = Codex.Auth.Credentials.parse(~s({"OPENAI_API_KEY":"sk-example"}))
      iex> login.method
      :api_key
      iex> Codex.Auth.Credentials.parse(~s({"tokens":{}}))
      {:error, "tokens.id_token is missing"}
  """
  @spec parse(String.t()) :: {:ok, t()} | {:error, String.t()}
  def parse(document) when is_binary(document) do
    with true <- String.valid?(document),
         {:ok, login} <- Native.auth_login(document) do
      {:ok, from_native(login, nil)}
    else
      false -> {:error, "it is not UTF-8"}
      error -> error
    end
  end

  def parse(_other), do: raise(OptionError.argument(:document, "[redacted]", "a string"))

  @doc false
  def from_native(login, source) do
    {renewable?, login} = Map.pop!(login, :renewable)

    login
    |> Map.merge(%{
      source: source,
      renewable?: renewable?,
      expires_at: unix(login.expires_at),
      last_refresh: time(login.last_refresh)
    })
    |> then(&struct!(__MODULE__, &1))
  end

  @doc false
  def unix(nil), do: nil

  def unix(seconds) do
    case DateTime.from_unix(seconds) do
      {:ok, time} -> time
      # The number is outside the calendar.
      {:error, _} -> nil
    end
  end

  defp time(nil), do: nil

  defp time(text) do
    case DateTime.from_iso8601(text) do
      {:ok, time, _offset} -> time
      {:error, _} -> nil
    end
  end

  @doc """
  Returns the secret that requests carry, or nil.

      iex> Codex.Auth.Credentials.secret(Codex.Auth.Credentials.api_key("sk-example"))
      "sk-example"
  """
  @spec secret(t()) :: String.t() | nil
  def secret(%__MODULE__{method: :api_key, api_key: key}), do: key

  def secret(%__MODULE__{method: method, access_token: token})
      when method in [:chatgpt, :chatgpt_auth_tokens],
      do: token

  def secret(%__MODULE__{method: :personal_access_token, personal_access_token: token}), do: token
  def secret(%__MODULE__{}), do: nil

  def secret(_other),
    do: raise(OptionError.argument(:credentials, "[redacted]", "a Codex.Auth.Credentials"))

  @doc """
  Masks a key for people, as `codex login status` does.

      iex> Codex.Auth.Credentials.mask("sk-test-aaaaaaaaaaaaaaaa1234")
      "sk-test-***a1234"
      iex> Codex.Auth.Credentials.mask("sk-short")
      "***"
  """
  @spec mask(String.t()) :: String.t()
  def mask(key) when is_binary(key) do
    if String.valid?(key) and String.length(key) > 13,
      do: String.slice(key, 0, 8) <> "***" <> String.slice(key, -5, 5),
      else: "***"
  end

  def mask(_other), do: raise(OptionError.argument(:key, "[redacted]", "a string"))

  defimpl Inspect do
    import Inspect.Algebra

    @secrets [:api_key, :access_token, :personal_access_token, :agent_identity, :document]

    def inspect(credentials, opts) do
      fields =
        for {name, value} <- Map.from_struct(credentials), value not in [nil, false] do
          {name, if(name in @secrets, do: "[redacted]", else: value)}
        end

      concat(["#Codex.Auth.Credentials<", to_doc(fields, opts), ">"])
    end
  end
end
