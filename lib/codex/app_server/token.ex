defmodule Codex.AppServer.Token do
  @moduledoc false
  # Tokens that a server started with `--ws-auth signed-bearer-token` takes (0.169): JSON Web Tokens, signed with HMAC and SHA-256.

  alias Codex.Options.Keywords

  @doc "A token. Options: those of `Codex.AppServer.signed_token/2`."
  @spec new(String.t(), keyword()) :: String.t()
  def new(secret, options) do
    # Not a guard: the error of a function clause shows its arguments.
    if not (is_binary(secret) and secret != ""),
      do: raise(ArgumentError, "the secret must be a text, and not empty")

    {seconds, claims} = Keyword.pop(Keywords.list!(options), :expires_in, 300)

    if not (is_integer(seconds) and seconds > 0),
      do:
        raise(
          ArgumentError,
          "expires_in must be a positive integer, got: #{Keywords.shown(seconds)}"
        )

    names = %{issuer: "iss", audience: "aud"}

    claims =
      for {name, value} <- claims, value != nil do
        cond do
          not is_map_key(names, name) ->
            known = [:expires_in, :issuer, :audience]
            raise ArgumentError, Codex.Suggest.unknown_key(name, known)

          not is_binary(value) ->
            raise ArgumentError, "#{name} must be a text, got: #{Keywords.shown(value)}"

          true ->
            {names[name], value}
        end
      end

    sign(secret, seconds, claims)
  end

  @doc "One that holds so many seconds."
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
