defmodule Codex.Auth.MCP do
  @moduledoc """
  Reads and writes the OAuth tokens of MCP servers over HTTP, in the CLI's own store.

      {:ok, tokens} = Codex.Auth.MCP.read("github", "https://mcp.example.com/mcp")
      tokens.expires_at
      #=> ~U[2026-11-20 12:00:00.000Z]

  The store is `mcp_oauth_credentials_store` of the configuration: `auto` (the CLI's default: the
  keyring, or the file if no keyring can be reached), `keyring` or `file`. A keyring has one entry
  for each server, under the service `Codex MCP Credentials`; the file is `.credentials.json` in the
  home. A server is identified by its name in the configuration together with its URL.

  Options and errors are those of `Codex.Auth`. `Codex.MCP.OAuth` and `codex mcp login` get tokens,
  and renew them.
  """

  alias Codex.Auth.{Context, Store}
  alias Codex.{FileSystem, JSON, Native}
  alias Codex.OptionError
  alias Codex.Options.Schema

  @derive {Inspect, except: [:access_token, :refresh_token, :document]}
  @enforce_keys [:server, :url, :client_id, :access_token]
  defstruct [
    :server,
    :url,
    :client_id,
    :access_token,
    :refresh_token,
    :expires_at,
    :issuer,
    :source,
    :document,
    scopes: []
  ]

  @typedoc """
  The tokens of a server.

    * `issuer` - the authorization server. Without it, the CLI does not renew the tokens
    * `source` - the store that the tokens were read from; ignored when they are written
    * `document` - everything that was read, as JSON. Members without a field in this struct are
      written again

  `inspect/1` shows no token.
  """
  @type t :: %__MODULE__{
          server: String.t(),
          url: String.t(),
          client_id: String.t(),
          access_token: String.t(),
          refresh_token: String.t() | nil,
          expires_at: DateTime.t() | nil,
          issuer: String.t() | nil,
          scopes: [String.t()],
          source: Codex.Auth.Credentials.source() | nil,
          document: String.t() | nil
        }

  @doc """
  Returns the tokens of a server: `{:ok, tokens}`, `{:ok, nil}` if it has no tokens, or
  `{:error, reason}`.
  """
  @spec read(String.t(), String.t(), keyword()) ::
          {:ok, t() | nil} | {:error, Codex.Auth.reason()}
  def read(server, url, opts \\ []) do
    with {:ok, context} <- context(opts) do
      case Store.load({:mcp, server, url}, context) do
        {:ok, {known, document}, source, fault} ->
          :ok = Store.warn_once(fault, "#{inspect(source)} is used instead")
          {:ok, members} = JSON.decode(known)
          {:ok, %{tokens(members, source) | document: document}}

        {:none, fault} ->
          :ok = Store.warn_once(fault, "there are no tokens in .credentials.json either")
          {:ok, nil}

        {:error, reason} ->
          {:error, reason}
      end
    end
  end

  @doc """
  Stores tokens in place of the old ones. Returns `:ok` or `{:error, reason}`.

  An `issuer` of nil, and members of an entry that this module does not know, keep their values:
  those in `tokens.document` if the tokens were read, and those in the entry of `.credentials.json`.

  Raises `ArgumentError` if a member is not UTF-8; the message names the member.
  """
  @spec write(t(), keyword()) :: :ok | {:error, Codex.Auth.reason()}
  def write(tokens, opts \\ [])

  def write(%__MODULE__{} = tokens, opts) do
    document = document(tokens)

    with {:ok, context} <- context(opts),
         {:ok, document} <- renew(tokens.document, document, context),
         :ok <- Context.make_home(context),
         {:ok, source, fault} <-
           Store.save({:mcp, tokens.server, tokens.url}, document, context) do
      Store.warn_once(fault, "#{inspect(source)} is used instead")
    end
  end

  def write(_other, _opts),
    do: raise(OptionError.argument(:tokens, "[redacted]", "a Codex.Auth.MCP"))

  @doc """
  Removes the tokens of a server from the keyring and from the file. Returns `{:ok, removed?}` or
  `{:error, reason}`.
  """
  @spec delete(String.t(), String.t(), keyword()) ::
          {:ok, boolean()} | {:error, Codex.Auth.reason()}
  def delete(server, url, opts \\ []) do
    with {:ok, context} <- context(opts),
         {:ok, keyring?, file?, fault} <- Store.delete({:mcp, server, url}, context) do
      :ok = Store.warn_once(fault, "an entry in it, if any, was not removed")
      {:ok, keyring? or file?}
    end
  end

  @doc """
  Lists the servers with tokens in the file, by name and URL. A keyring cannot list its entries.
  """
  @spec in_file(keyword()) :: {:ok, [{String.t(), String.t()}]} | {:error, Codex.Auth.reason()}
  def in_file(opts \\ []) do
    with {:ok, context} <- context(opts), do: Store.mcp_servers(context)
  end

  @doc """
  Returns the key of a server in both stores: its name, and a digest of its URL.

      iex> Codex.Auth.MCP.account("github", "https://mcp.example.com/mcp")
      "github|4282f2a9112820d2"
  """
  @spec account(String.t(), String.t()) :: String.t()
  def account(server, url), do: Native.auth_mcp_account(server, url)

  # As long as the CLI waits.
  @lock_ms 60_000
  @lock_poll 50

  @doc false
  # Calls `fun` under the lock of one login, which the CLI holds while it logs in or renews tokens.
  # `read/3`, `write/2` and `delete/3` may be called in it: they take another lock. The lock
  # `{:login, timeout}` is not the CLI's: it keeps two programs from asking one person twice.
  @spec locked(String.t(), String.t(), keyword(), lock, (... -> result)) ::
          result | {:error, Codex.Auth.reason()}
        when result: term(), lock: :tokens | {:login, pos_integer()}
  def locked(server, url, opts, lock \\ :tokens, fun) do
    with {:ok, context} <- context(opts),
         :ok <- Context.make_home(context),
         folder = Path.join(context.home, "mcp-oauth-locks"),
         :ok <- Context.make_folder(folder),
         path = Path.join(folder, lock_name(account(server, url), lock)),
         {:ok, lock} <- take(path, lock) do
      try do
        fun.()
      after
        FileSystem.unlock(lock)
      end
    end
  end

  defp lock_name(account, lock) do
    digest = Base.encode16(:crypto.hash(:sha256, account), case: :lower)
    if lock == :tokens, do: digest <> ".lock", else: digest <> ".login"
  end

  defp take(path, lock) do
    {timeout, poll} =
      case lock do
        :tokens -> {@lock_ms, @lock_poll}
        {:login, timeout} -> {timeout, 5 * @lock_poll}
      end

    case FileSystem.await_lock(path, timeout, poll) do
      {:ok, lock} -> {:ok, lock}
      {:error, :held} -> {:error, {:lock_held, path}}
      {:error, reason} -> {:error, {:unreadable, path, FileSystem.message(reason)}}
    end
  end

  # MCP tokens have no encrypted store: the CLI keeps them in the file then.
  defp context(opts) do
    opts = Schema.pairs!(opts)

    if {:store, :ephemeral} in opts,
      do: raise(OptionError.invalid(:store, :ephemeral, ":file, :keyring or :auto"))

    Context.new(opts)
  end

  defp renew(nil, document, _context), do: {:ok, document}

  defp renew(old, document, context) do
    with {:error, words} <- Native.auth_mcp_renew(old, document) do
      path = Codex.Home.path(context.home, :credentials)
      {:error, {:invalid_credentials, {:file, path}, words}}
    end
  end

  defp document(tokens) do
    # Raised here, because an error of the encoder shows the value.
    for name <- [:server, :url, :client_id, :access_token, :refresh_token, :issuer],
        value = Map.fetch!(tokens, name),
        not (is_binary(value) and String.valid?(value)),
        do: raise(ArgumentError, "expected #{inspect(name)} of the tokens to be UTF-8")

    JSON.encode!(%{
      server_name: tokens.server,
      server_url: tokens.url,
      client_id: tokens.client_id,
      access_token: tokens.access_token,
      refresh_token: tokens.refresh_token,
      issuer: tokens.issuer,
      expires_at: tokens.expires_at && DateTime.to_unix(tokens.expires_at, :millisecond),
      scopes: tokens.scopes
    })
  end

  defp tokens(document, source) do
    %__MODULE__{
      server: document["server_name"],
      url: document["server_url"],
      client_id: document["client_id"],
      access_token: document["access_token"],
      refresh_token: document["refresh_token"],
      issuer: document["issuer"],
      expires_at: time(document["expires_at"]),
      scopes: document["scopes"] || [],
      source: source
    }
  end

  defp time(nil), do: nil

  defp time(ms) do
    case DateTime.from_unix(ms, :millisecond) do
      {:ok, time} -> time
      {:error, _} -> nil
    end
  end
end
