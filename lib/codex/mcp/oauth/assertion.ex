defmodule Codex.MCP.OAuth.Assertion do
  @moduledoc false
  # A signed proof of a client (RFC 7523), for `private_key_jwt`: ES256 with a P-256 key, RS256 with
  # an RSA key.

  alias Codex.JSON
  alias Codex.MCP.OAuth.Client

  @p256 {:namedCurve, {1, 2, 840, 10_045, 3, 1, 7}}
  @lifetime 300

  @doc "Returns a JWT for one request."
  @spec new(Client.t(), String.t()) ::
          {:ok, String.t()} | {:error, {:oauth_client_key, String.t()}}
  def new(client, issuer) do
    now = System.os_time(:second)

    claims = %{
      iss: client.id,
      sub: client.id,
      aud: issuer,
      iat: now,
      exp: now + @lifetime,
      jti: Base.url_encode64(:crypto.strong_rand_bytes(16), padding: false)
    }

    with {:ok, key} <- key(client.key) do
      head = encode(JSON.encode!(%{alg: algorithm(key), typ: "JWT"}))
      text = head <> "." <> encode(JSON.encode!(claims))
      {:ok, text <> "." <> encode(sign(text, key))}
    end
  end

  # The errors do not show the key.
  defp key(pem) do
    with [entry | _] <-
           pem |> :public_key.pem_decode() |> Enum.filter(&(elem(&1, 2) == :not_encrypted)),
         key = :public_key.pem_entry_decode(entry),
         true <- algorithm(key) != nil do
      {:ok, key}
    else
      _other -> {:error, {:oauth_client_key, "it is not an unencrypted P-256 or RSA key in PEM"}}
    end
  rescue
    _error -> {:error, {:oauth_client_key, "it is not a private key in PEM"}}
  end

  defp algorithm(key) when elem(key, 0) == :RSAPrivateKey, do: "RS256"
  defp algorithm(key) when elem(key, 0) == :ECPrivateKey and elem(key, 3) == @p256, do: "ES256"
  defp algorithm(_key), do: nil

  defp sign(text, key) do
    signature = :public_key.sign(text, :sha256, key)
    if algorithm(key) == "ES256", do: raw(signature), else: signature
  end

  # JWS has both numbers side by side, not DER.
  defp raw(der) do
    {_, r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
    <<r::unsigned-256, s::unsigned-256>>
  end

  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)
end
