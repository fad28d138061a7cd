defmodule Codex.AppServer.BearerToken do
  @moduledoc false
  # Tokens for a server with `--ws-auth signed-bearer-token`: JSON Web Tokens, signed
  # with HMAC and SHA-256.

  alias Codex.Options.Schema

  @claims %{issuer: "iss", audience: "aud"}
  @schema Schema.new([
            {:expires_in, :positive, "the validity of the token in seconds", default: 300},
            {:issuer, :text, "the issuer that the server expects"},
            {:audience, :text, "the audience that the server expects"}
          ])

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Makes a token. Options: those of `Codex.AppServer.signed_token/2`."
  @spec new(String.t(), keyword()) :: String.t()
  def new(secret, options) do
    # The error of a guard would show the secret.
    if not (is_binary(secret) and secret != ""),
      do: raise(ArgumentError, "the secret must be a text, and not empty")

    options = Schema.validate!(@schema, options)
    claims = for {name, claim} <- @claims, options[name], do: {claim, options[name]}
    sign(secret, options.expires_in, claims)
  end

  @doc "Signs a token with these claims, valid for so many seconds."
  @spec sign(String.t(), integer(), [{String.t(), String.t()}]) :: String.t()
  def sign(secret, seconds, claims) do
    now = System.os_time(:second)
    claims = Map.merge(Map.new(claims), %{"iat" => now, "exp" => now + seconds})
    signed = part(%{"alg" => "HS256", "typ" => "JWT"}) <> "." <> part(claims)
    signed <> "." <> encode(:crypto.mac(:hmac, :sha256, secret, signed))
  end

  defp part(map), do: map |> Codex.JSON.encode!() |> encode()
  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)
end
