defmodule Codex.Auth.MCP do
  @moduledoc """
  Tokens of MCP servers that speak HTTP and ask for OAuth, where the CLI (0.169) keeps them.

      {:ok, tokens} = Codex.Auth.MCP.read("github", "https://mcp.example.com/mcp")
      tokens.expires_at
      #=> ~U[2026-11-20 12:00:00.000Z]

  `mcp_oauth_credentials_store` of the configuration says where: `auto` (the CLI's default: the keyring, or the file where none can be
  reached), `keyring` or `file`. A keyring has one entry for each server, under the service `Codex MCP Credentials`;
  the file is `.credentials.json` in the home. A server is known by its name in the configuration and its address together.

  Options and errors are those of `Codex.Auth`. `codex mcp login` gets tokens; the CLI renews them.
  """

  alias Codex.Auth.{Context, Store}
  alias Codex.{JSON, Native}
  alias Codex.Options.Keywords

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
    * `source` - the place where the tokens were; it does not count when they are written
    * `document` - everything that was read, as JSON. Members of it that this struct does not have are
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

  @doc "The tokens of a server: `{:ok, tokens}`, `{:ok, nil}` where there are none, or `{:error, reason}`."
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
  Keeps tokens, instead of those that are there. Returns `:ok` or `{:error, reason}`.

  An `issuer` that is nil, and members of an entry that this module does not know, stay as they were:
  in `tokens.document` if the tokens were read, and in the entry of `.credentials.json`.

  Raises `ArgumentError` if a member is not UTF-8; the message names the member.
  """
  @spec write(t(), keyword()) :: :ok | {:error, Codex.Auth.reason()}
  def write(%__MODULE__{} = tokens, opts \\ []) do
    document = document(tokens)

    with {:ok, context} <- context(opts),
         {:ok, document} <- renew(tokens.document, document, context),
         :ok <- Context.make_home(context),
         {:ok, source, fault} <-
           Store.save({:mcp, tokens.server, tokens.url}, document, context) do
      Store.warn_once(fault, "#{inspect(source)} is used instead")
    end
  end

  @doc "Removes the tokens of a server, from the keyring and from the file. Returns `{:ok, removed?}` or `{:error, reason}`."
  @spec delete(String.t(), String.t(), keyword()) ::
          {:ok, boolean()} | {:error, Codex.Auth.reason()}
  def delete(server, url, opts \\ []) do
    with {:ok, context} <- context(opts),
         {:ok, keyring?, file?, fault} <- Store.delete({:mcp, server, url}, context) do
      :ok = Store.warn_once(fault, "an entry in it, if any, was not removed")
      {:ok, keyring? or file?}
    end
  end

  @doc "The servers whose tokens are in the file, by name and address. A keyring cannot be asked for all of them."
  @spec in_file(keyword()) :: {:ok, [{String.t(), String.t()}]} | {:error, Codex.Auth.reason()}
  def in_file(opts \\ []) do
    with {:ok, context} <- context(opts), do: Store.mcp_servers(context)
  end

  @doc """
  The key of a server in both stores: its name, and a digest of its address.

      iex> Codex.Auth.MCP.account("github", "https://mcp.example.com/mcp")
      "github|4282f2a9112820d2"
  """
  @spec account(String.t(), String.t()) :: String.t()
  def account(server, url), do: Native.auth_mcp_account(server, url)

  # There is no such mode for these: what the CLI keeps for itself alone is kept in a file here.
  defp context(opts) do
    if Keywords.list!(opts)[:store] == :ephemeral,
      do: raise(ArgumentError, "expected :store to be :file, :keyring or :auto, got: :ephemeral")

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
    # Said here: an error of the encoder shows the value.
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
