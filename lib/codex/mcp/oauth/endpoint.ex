defmodule Codex.MCP.OAuth.Endpoint do
  @moduledoc false
  # Requests of a login: documents, registration, tokens. Answers are JSON and short.

  alias Codex.{HTTP, JSON}
  alias Codex.MCP.OAuth.Authorization

  @max_bytes 1024 * 1024
  @challenge_ms 10_000
  @version "2025-06-18"

  @typedoc "A request that got no answer; `reason` is that of `Codex.HTTP.request/5`."
  @type failure :: {:oauth_request_failed, url :: String.t(), reason :: term()}

  @doc "Gets a document: `{:ok, map}`, `:none` if the server has no such document, or a failure."
  @spec document(String.t(), map()) :: {:ok, map()} | :none | {:error, failure()}
  def document(url, opts) do
    headers = [{"accept", "application/json"}, {"mcp-protocol-version", @version}]

    case request("GET", url, headers, "", opts) do
      {:ok, 200, %{} = document} -> {:ok, document}
      {:ok, 200, _no_object} -> {:error, {:oauth_request_failed, show(url), :invalid_json}}
      {:ok, status, _body} when status in 500..599 -> {:error, status(url, status)}
      {:ok, 429, _body} -> {:error, status(url, 429)}
      {:ok, _status, _body} -> :none
      {:error, failure} -> {:error, failure}
    end
  end

  @doc "Posts JSON. Returns the status and the object of the answer."
  @spec json(String.t(), map(), map()) :: {:ok, integer(), map()} | {:error, failure()}
  def json(url, body, opts) do
    headers = [{"accept", "application/json"}, {"content-type", "application/json"}]
    object(request("POST", url, headers, JSON.encode!(body), opts))
  end

  @doc "Posts a form. Returns the status and the object of the answer."
  @spec form(String.t(), [{String.t(), String.t()}], keyword(), map()) ::
          {:ok, integer(), map()} | {:error, failure()}
  def form(url, headers, fields, opts) do
    own = [
      {"accept", "application/json"},
      {"content-type", "application/x-www-form-urlencoded"}
    ]

    object(request("POST", url, own ++ headers, URI.encode_query(fields), opts))
  end

  @doc """
  Asks an MCP server without a token, and returns the parameters of its challenge, `%{}` without
  one.
  """
  @spec challenge(String.t(), map()) :: map()
  def challenge(url, opts) do
    # Not text/event-stream: a server without authorization would open a stream.
    headers = [{"accept", "application/json"}, {"mcp-protocol-version", @version}]
    opts = %{request_timeout: min(opts.request_timeout, @challenge_ms)}

    # If the server does not answer, neither do its documents.
    case send_request("GET", url, headers, "", opts) do
      {:ok, answer} -> HTTP.bearer_challenge(answer.headers)
      {:error, _failure} -> %{}
    end
  end

  @doc "Returns the error code of an answer as a text that may be shown."
  @spec code(map()) :: String.t()
  def code(%{"error" => code}) when is_binary(code), do: Authorization.short(code)
  def code(_answer), do: ""

  defp object({:ok, status, %{} = body}), do: {:ok, status, body}
  defp object({:ok, status, _other}), do: {:ok, status, %{}}
  defp object({:error, failure}), do: {:error, failure}

  defp request(method, url, headers, body, opts) do
    with {:ok, answer} <- send_request(method, url, headers, body, opts) do
      case JSON.decode(answer.body) do
        {:ok, value} -> {:ok, answer.status, value}
        {:error, _reason} -> {:ok, answer.status, nil}
      end
    end
  end

  defp send_request(method, url, headers, body, opts) do
    limits = [timeout_ms: opts.request_timeout, max_body_bytes: @max_bytes]

    with {:error, reason} <- HTTP.request(method, url, headers, body, limits),
         do: {:error, {:oauth_request_failed, show(url), reason}}
  end

  defp status(url, status), do: {:oauth_request_failed, show(url), {:status, status}}

  # Without a query, which may hold a code.
  defp show(url), do: url |> String.split(["?", "#"], parts: 2) |> hd()
end
