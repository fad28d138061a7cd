defmodule Codex.HTTP do
  @moduledoc false
  # The HTTP client of this package: `request/5` for small answers, `Codex.HTTP.Connection` for
  # streams.
  #
  # Certificates are verified, redirects are returned and not followed, proxies come from the
  # environment.

  alias Codex.HTTP.{Connection, Head, Socket, Target}
  alias Codex.Native

  @timeout 30_000
  @most 8 * 1024 * 1024

  @type answer :: %{status: 200..599, headers: [Head.header()], body: binary()}

  @doc """
  Sends a request and waits for its whole answer. Names of headers in the answer are in lower case.

  Options: `:timeout_ms` for all of it (30 seconds), `:max_body_bytes` (8 MiB), and those of
  `Codex.HTTP.Connection.open/3`.
  """
  @spec request(atom() | String.t(), String.t(), [Head.header()], iodata() | nil, keyword()) ::
          {:ok, answer()} | {:error, Connection.reason()}
  def request(method, url, headers, body \\ nil, opts \\ []) do
    {timeout, opts} = Keyword.pop(opts, :timeout_ms, @timeout)
    {most, opts} = Keyword.pop(opts, :max_body_bytes, @most)
    deadline = Socket.deadline(timeout)
    method = method |> to_string() |> String.upcase()

    with {:ok, target} <- Target.new(url),
         {:ok, conn} <- Connection.open(target, deadline, opts) do
      headers = [{"connection", "close"} | headers]

      result =
        with {:ok, status, headers, answer} <-
               Connection.request(conn, method, target, headers, body, deadline),
             {:ok, body, _conn} <- Connection.read_all(answer, most, deadline),
             do: {:ok, %{status: status, headers: headers, body: body}}

      :ok = Connection.close(conn)
      result
    end
  end

  @doc """
  Returns the parameters of the Bearer challenge in the headers of an answer, with names in lower
  case; an empty map without a challenge.

      iex> headers = [{"www-authenticate", ~s(Basic realm="a", Bearer scope="b c", error=d)}]
      iex> Codex.HTTP.bearer_challenge(headers)
      %{"error" => "d", "scope" => "b c"}
  """
  @spec bearer_challenge([Head.header()]) :: %{String.t() => String.t()}
  def bearer_challenge(headers) do
    for({"www-authenticate", value} <- headers, do: Native.http_challenges(value))
    |> List.flatten()
    |> List.keyfind("bearer", 0, {"bearer", []})
    |> then(fn {_scheme, params} -> Map.new(params) end)
  end

  @doc """
  Returns a text as the value of a header: plain ASCII as it is, other texts as `=?base64?…?=`.

      iex> Codex.HTTP.header_value("Zürich")
      "=?base64?WsO8cmljaA==?="
  """
  @spec header_value(String.t()) :: String.t()
  def header_value(text), do: Native.http_header_value(text)
end
