defmodule Codex.MCP.OAuth.Discovery do
  @moduledoc false
  # Finds the authorization server of an MCP server, by the documents of `Metadata`.

  alias Codex.MCP.OAuth.{Endpoint, Metadata}

  @type reason ::
          Endpoint.failure()
          | :oauth_discovery_failed
          | {:oauth_metadata, url :: String.t(), Metadata.problem()}

  @doc """
  Finds the facts of a login. `challenge` are the parameters of `WWW-Authenticate`, if any;
  `issuer` is the issuer to stay with if the resource lists several.
  """
  @spec find(String.t(), map(), String.t() | nil, map()) ::
          {:ok, Metadata.t()} | {:error, reason()}
  def find(url, challenge, issuer, opts) do
    with {:ok, how, resource} <- resource(url, challenge, opts) do
      asked = if issuer in resource.issuers, do: issuer, else: hd(resource.issuers)

      with {:ok, metadata} <- server(url, asked, how, resource, opts),
           do: {:ok, %{metadata | resource: opts.resource || metadata.resource}}
    end
  end

  defp resource(url, %{"resource_metadata" => published}, opts) when is_binary(published) do
    if Metadata.secure?(published),
      do: resource_at([published], url, opts),
      else: {:error, {:oauth_metadata, published, :insecure_url}}
  end

  defp resource(url, _challenge, opts), do: resource_at(Metadata.resource_urls(url), url, opts)

  defp resource_at(urls, url, opts) do
    case first(urls, opts) do
      {:ok, at, document} ->
        case Metadata.resource(document, url) do
          {:ok, %{issuers: []} = found} ->
            {:ok, :derived,
             %{Metadata.own_issuer(url) | resource: found.resource, scopes: found.scopes}}

          {:ok, found} ->
            {:ok, :published, found}

          {:problem, problem} ->
            {:error, {:oauth_metadata, at, problem}}
        end

      :none ->
        {:ok, :derived, Metadata.own_issuer(url)}

      {:error, failure} ->
        {:error, failure}
    end
  end

  defp server(url, issuer, how, resource, opts) do
    with true <- Metadata.secure?(issuer) || {:error, {:oauth_metadata, issuer, :insecure_url}},
         {:ok, at, document} <- first(Metadata.server_urls(issuer), opts) do
      with {:problem, problem} <- Metadata.server(document, issuer, how, resource),
           do: {:error, {:oauth_metadata, at, problem}}
    else
      :none when how == :derived ->
        with {:problem, problem} <- Metadata.undescribed(url),
             do: {:error, {:oauth_metadata, issuer, problem}}

      :none ->
        {:error, :oauth_discovery_failed}

      {:error, reason} ->
        {:error, reason}
    end
  end

  # A failure counts only if no other address has the document: some servers fail for unknown paths.
  defp first(urls, opts), do: first(urls, opts, :none)
  defp first([], _opts, last), do: last

  defp first([url | rest], opts, last) do
    case Endpoint.document(url, opts) do
      {:ok, document} -> {:ok, url, document}
      :none -> first(rest, opts, last)
      {:error, {_, _, {:status, _}}} = failure -> first(rest, opts, failure)
      {:error, {_, _, :invalid_json}} -> first(rest, opts, last)
      {:error, failure} -> {:error, failure}
    end
  end
end
