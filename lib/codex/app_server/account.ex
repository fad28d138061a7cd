defmodule Codex.AppServer.Account do
  @moduledoc false
  # Logins of an app-server. The server refuses a login that the configuration forbids; the kind of
  # that error is `:login_forbidden`, see `Codex.Error.normalize/1`.

  alias Codex.{AppServer, OptionError}
  alias Codex.Options.{Schema, Table}

  @type error ::
          {:error, AppServer.reason() | {:invalid_login_type, term()}}

  # Other names of types.
  @types %{"api" => "apiKey", "api_key" => "apiKey", "apikey" => "apiKey"}

  @doc """
  Begins a login: `:chatgpt`, `{:api_key, key}`, or a map with a `type` and its members. The server
  does not check a key. The login with ChatGPT answers with `"loginId"` and `"authUrl"`. A key that
  is nil or empty (a variable that is not set) is a `Codex.OptionError`.
  """
  @spec login_start(AppServer.conn(), term()) :: {:ok, map()} | error()
  def login_start(conn, {:api_key, key}), do: login_start(conn, %{type: "apiKey", api_key: key})

  def login_start(conn, type) when is_atom(type) or is_binary(type),
    do: login_start(conn, %{type: type})

  def login_start(conn, login) do
    with {:ok, pairs} <- pairs(login),
         :ok <- key(pairs),
         {:error, %OptionError{reason: :invalid, path: [:type], value: type}} <-
           AppServer.account_login_start(conn, Enum.map(pairs, &typed/1)),
         do: {:error, {:invalid_login_type, type}}
  end

  @keys [:api_key, "api_key", "apiKey"]

  # An empty key is refused with the call.
  defp key(pairs) do
    if Enum.any?(pairs, fn {name, key} -> name in @keys and key == nil end),
      do: Table.check(:global, api_key: nil),
      else: :ok
  end

  # The value may be a key.
  defp pairs(login) do
    with {:error, error} <- Schema.pairs(login), do: {:error, OptionError.redact(error)}
  end

  defp typed({key, type}) when key in [:type, "type"] and (is_atom(type) or is_binary(type)),
    do: {:type, Map.get(@types, to_string(type), type)}

  defp typed({key, type}) when key in [:type, "type"], do: {:type, type}
  defp typed(pair), do: pair

  @doc ~S(Cancels a login. `"status"` of the result is `"canceled"` or `"notFound"`.)
  @spec login_cancel(AppServer.conn(), String.t()) :: {:ok, map()} | error()
  def login_cancel(conn, login_id), do: AppServer.account_login_cancel(conn, login_id: login_id)

  @doc "Removes the login."
  @spec logout(AppServer.conn()) :: {:ok, map()} | error()
  def logout(conn), do: AppServer.account_logout(conn)

  @doc "Returns the account that is logged in. Option: `:refresh_token` (default false)."
  @spec read(AppServer.conn(), AppServer.options()) :: {:ok, map()} | error()
  def read(conn, opts \\ []), do: AppServer.account_read(conn, opts)

  @doc "Returns the rate limits of a login with ChatGPT, or an error for other logins."
  @spec rate_limits(AppServer.conn()) :: {:ok, map()} | error()
  def rate_limits(conn), do: AppServer.account_rate_limits_read(conn)
end
