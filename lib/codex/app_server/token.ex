defmodule Codex.AppServer.Token do
  @moduledoc false
  # Tokens that a server started with `--ws-auth signed-bearer-token` takes (0.169): JSON Web Tokens, signed with HMAC and SHA-256.

  @doc "A token that holds so many seconds."
  @spec sign(binary(), pos_integer(), [{String.t(), String.t()}]) :: String.t()
  def sign(secret, seconds, claims) do
    now = System.os_time(:second)
    claims = Map.merge(Map.new(claims), %{"iat" => now, "exp" => now + seconds})
    signed = part(%{"alg" => "HS256", "typ" => "JWT"}) <> "." <> part(claims)
    signed <> "." <> encode(:crypto.mac(:hmac, :sha256, secret, signed))
  end

  defp part(map), do: map |> Codex.JSON.encode!() |> encode()
  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)
end
