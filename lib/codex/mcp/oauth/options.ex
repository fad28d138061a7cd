defmodule Codex.MCP.OAuth.Options do
  @moduledoc false
  # The options of logins: their own, and those of `Codex.Auth` for the store.

  alias Codex.MCP.OAuth.{Browser, Identity, Metadata}
  alias Codex.OptionError
  alias Codex.Options.Schema

  @schema Schema.new([
            {:open, {:fun, 1},
             "opens the address of the authorization server. Returns `:ok`; `{:redirect, url}` " <>
               "with the address that the browser was sent to, if it cannot reach this machine; " <>
               "or `{:error, reason}`", shown: "prints the address, and opens it in a browser"},
            {:scopes, {:list, :string}, "the scopes to ask for",
             shown: "those of the server's challenge, else those that it publishes"},
            {:resource, :string, "the resource to name to the authorization server",
             shown: "the one that the MCP server publishes"},
            {:client_id, :string, "a client that is registered at the authorization server"},
            {:client_secret, :string, "the secret of that client", secret: true},
            {:private_key, :string,
             "the private key (PEM, P-256 or RSA) of that client, for `private_key_jwt`",
             secret: true},
            {:client_issuer, :string,
             "the issuer at which the client is registered; another one is an error",
             shown: "any"},
            {:client_metadata_url, :string,
             "the address of a client id metadata document, for servers that take one"},
            {:client_name, :string, "the name in a registration", default: "Codex"},
            {:grant, {:one_of, [:code, :client_credentials, :identity]},
             "`:client_credentials` logs the client in without a person; `:identity` uses the " <>
               "login of a person at an identity provider, without a browser", default: :code},
            {:identity_url, :text,
             "for `:identity`: the token endpoint of the identity provider"},
            {:identity_client_id, :string, "for `:identity`: the client at that provider"},
            {:identity_token, :id_token,
             "for `:identity`: the id token of the person, or a function that returns " <>
               "`{:ok, token}` or `{:error, reason}`",
             expected: "a token, or a function without arguments", secret: true},
            {:port, {:integer, 0, 65_535}, "the port on 127.0.0.1 to return to; 0 is a free one",
             default: 0},
            {:callback_url, :text,
             "the address to return to, if it is not `:port` itself but a proxy in front of it: " <>
               "an HTTP URL, to which the last part of `callback_path/1` is appended. An address " <>
               "on 127.0.0.1 without a port gets that of `:port`",
             shown: "`http://127.0.0.1:<port>/callback`"},
            {:login_timeout, :milliseconds, "the time that a person has", default: 300_000},
            {:request_timeout, :milliseconds, "the limit of one request", default: 30_000},
            {:login, :boolean,
             "for `bearer/3`: a refused request may start a login. With another `:grant` than " <>
               "`:code` it always may", default: false}
          ])

  @names Enum.flat_map(@schema.rows, &[&1.name, Atom.to_string(&1.name)])

  @derive {Inspect, except: [:client_secret, :private_key, :identity_token, :auth]}
  defstruct Enum.map(@schema.rows, & &1.name) ++ [:auth]

  @typedoc "Checked options. `auth` are those of `Codex.Auth`."
  @type t :: %__MODULE__{}

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks options. Raises `Codex.OptionError`."
  @spec new!(keyword() | map()) :: t()
  def new!(opts) do
    {own, auth} = opts |> Schema.pairs!() |> Enum.split_with(&(elem(&1, 0) in @names))
    own = Schema.validate!(@schema, own, &cast/2)
    :ok = Identity.check!(own)
    url = own.callback_url

    if url && not (Metadata.web?(url) and URI.parse(url).fragment == nil),
      do: raise(OptionError.invalid(:callback_url, url, "an HTTP URL without a fragment"))

    struct!(__MODULE__, Map.merge(own, %{auth: auth, open: own.open || (&Browser.open/1)}))
  end

  defp cast(:id_token, token) when is_binary(token) or is_function(token, 0), do: {:ok, token}
  defp cast(:id_token, _other), do: :error
end
