defmodule Codex.Error.OAuthWords do
  @moduledoc false
  # The sentences of `Codex.MCP.OAuth`. The parts of a reason that a server wrote are cut lines, and
  # hold no token.

  @problems %{
    resource_mismatch: "its resource is not that of the MCP server",
    issuer_mismatch: "its issuer is not the one that was asked",
    no_pkce: "the server does not support PKCE with S256",
    insecure_url: "it has an address that is neither HTTPS nor on this machine",
    missing_endpoint: "it has no token endpoint"
  }

  @answers %{
    state_mismatch: "its state is not that of this login",
    issuer_mismatch: "its issuer is not the one that was asked",
    missing_issuer: "it has no issuer, which the server promises",
    missing_code: "it has no code"
  }

  @doc "Returns a sentence about a reason, or nil for another term."
  @spec reason(term()) :: String.t() | nil
  def reason(:oauth_discovery_failed),
    do: "no document describes the authorization server: check the URL of the MCP server"

  def reason(:oauth_client_required),
    do: "the authorization server registers no clients: give the option client_id"

  def reason(:invalid_oauth_response),
    do: "the authorization server sent no usable bearer token"

  def reason({:missing_oauth_field, name}),
    do: "#{text(name)} is missing in the answer of the authorization server, or in the tokens"

  def reason({:oauth_metadata, url, problem}),
    do: "the document #{text(url)} cannot be used: #{@problems[problem] || text(problem)}"

  def reason({:oauth_issuer_changed, expected, found}) do
    "the login or the client belongs to #{text(expected)}, but the MCP server now names " <>
      "#{text(found)}: log in again"
  end

  def reason({:oauth_registration_failed, status, words}) do
    "the authorization server refused to register a client (status #{text(status)}#{more(words)})"
  end

  def reason({:oauth_client_key, words}),
    do: "the option private_key cannot be used: #{text(words)}"

  def reason({:oauth_port, port, reason}),
    do: "port #{text(port)} of 127.0.0.1 cannot be opened: #{text(reason)}"

  def reason({:oauth_browser, reason}), do: "the browser was not opened: #{text(reason)}"

  def reason({:oauth_denied, error, description}),
    do: "the authorization server answered #{text(error)}#{more(description)}"

  def reason({:oauth_callback, problem}) do
    "the answer in the browser was rejected: #{@answers[problem] || text(problem)}"
  end

  def reason({:oauth_identity, reason}),
    do: "there is no id token for the login to the MCP server: #{text(reason)}"

  def reason({:oauth_token_failed, status, code}),
    do: "the authorization server gave no token (status #{text(status)}#{more(code)})"

  def reason({:oauth_refresh_failed, status, code}) do
    "the authorization server did not renew the token (status #{text(status)}#{more(code)}): " <>
      "the login is kept, try again"
  end

  def reason({:oauth_login_required, server}),
    do: "the MCP server #{text(server)} needs a login: call Codex.MCP.OAuth.login/3"

  def reason({:oauth_login_expired, server}) do
    "the authorization server ended the login of the MCP server #{text(server)}, which was " <>
      "removed: call Codex.MCP.OAuth.login/3"
  end

  def reason({:oauth_insufficient_scope, scope}),
    do: "the MCP server needs a login with the scope #{text(scope)}"

  def reason({:oauth_refused, status, attempts}) do
    "the MCP server still answered #{text(status)} after #{text(attempts)} attempts to log in " <>
      "or to renew the token"
  end

  def reason(_other), do: nil

  defp more(""), do: ""
  defp more(words), do: ": #{text(words)}"

  defp text(text) when is_binary(text), do: text |> Codex.Text.line() |> String.slice(0, 300)
  defp text(number) when is_integer(number), do: Integer.to_string(number)
  defp text(other), do: inspect(other, limit: 10, printable_limit: 200)
end
