defmodule Codex.AppServer.BearerToken do
  @moduledoc false
  # Tokens for a server with `--ws-auth signed-bearer-token` (CLI 0.169): JSON Web Tokens, signed with
  # HMAC and SHA-256.

  alias Codex.Options.Keywords

  @claims %{issuer: "iss", audience: "aud"}

  @doc "Makes a token. Options: those of `Codex.AppServer.signed_token/2`."
  @spec new(String.t(), keyword()) :: String.t()
  def new(secret, options) do
    # The error of a guard would show the secret.
    if not (is_binary(secret) and secret != ""),
      do: raise(ArgumentError, "the secret must be a text, and not empty")

    {seconds, options} = Keyword.pop(Keywords.list!(options), :expires_in, 300)

    if not (is_integer(seconds) and seconds > 0) do
      shown = Keywords.shown(seconds)
      raise ArgumentError, "expires_in must be a positive integer, got: #{shown}"
    end

    sign(
      secret,
      seconds,
      for({name, value} <- options, value != nil, do: {claim!(name, value), value})
    )
  end

  @doc "Signs a token with these claims, valid for so many seconds."
  @spec sign(String.t(), integer(), [{String.t(), String.t()}]) :: String.t()
  def sign(secret, seconds, claims) do
    now = System.os_time(:second)
    claims = Map.merge(Map.new(claims), %{"iat" => now, "exp" => now + seconds})
    signed = part(%{"alg" => "HS256", "typ" => "JWT"}) <> "." <> part(claims)
    signed <> "." <> encode(:crypto.mac(:hmac, :sha256, secret, signed))
  end

  defp claim!(name, value) do
    cond do
      not is_map_key(@claims, name) ->
        known = [:expires_in | Map.keys(@claims)]
        raise ArgumentError, Codex.Suggest.unknown_key(name, known)

      not is_binary(value) ->
        raise ArgumentError, "#{name} must be a text, got: #{Keywords.shown(value)}"

      true ->
        @claims[name]
    end
  end

  defp part(map), do: map |> Codex.JSON.encode!() |> encode()
  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)
end
