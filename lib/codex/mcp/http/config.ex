defmodule Codex.MCP.HTTP.Config do
  @moduledoc false
  # What all requests of a transport share: headers, login and limits.

  alias Codex.Error.Redact
  alias Codex.HTTP.Target
  alias Codex.MCP.HTTP.Helper

  @typedoc """
    * `:url` (required)
    * `:headers` - for each request
    * `:headers_helper` - a `t:Codex.MCP.HTTP.Helper.t/0`, which runs for further headers
    * `:auth` - `{module, arg}`, see `Codex.MCP.OAuth.Bearer`
    * `:listen` - whether to open a stream for messages without a request (true)
    * `:connect_timeout_ms` (10 seconds), `:max_message_bytes` (32 MiB), `:max_message_nodes`
      (1,000,000)
    * `:proxy`, `:tls` - see `Codex.HTTP.Connection.open/3`
  """
  @type options :: %{required(:url) => String.t(), optional(atom()) => term()}

  @type reason :: Codex.OptionError.t() | {:headers_helper, String.t()}

  @defaults %{
    headers: [],
    headers_helper: nil,
    auth: nil,
    listen: true,
    connect_timeout_ms: 10_000,
    max_message_bytes: 32 * 1024 * 1024,
    max_message_nodes: 1_000_000,
    proxy: :environment,
    tls: []
  }

  @doc "Checks the URL, and runs the helper of headers. A header `authorization` replaces a login."
  @spec new(options()) :: {:ok, map(), Target.t()} | {:error, reason()}
  def new(options) do
    config = Map.merge(@defaults, options)

    with {:ok, target} <- Target.new(config.url), {:ok, more} <- helped(config.headers_helper) do
      headers = config.headers ++ more
      auth = if authorization?(headers), do: nil, else: config.auth
      more = %{headers: headers, auth: auth, redact: redact(headers)}
      {:ok, Map.merge(config, more), target}
    end
  end

  defp helped(nil), do: {:ok, []}
  defp helped(helper), do: Helper.headers(helper)

  defp authorization?(headers),
    do: Enum.any?(headers, fn {name, _value} -> String.downcase(name) == "authorization" end)

  # Values of headers, also without a scheme such as `Bearer`, are removed from texts of the server.
  defp redact(headers) do
    last = fn value -> value |> String.split() |> List.last("") end
    secrets = for {_name, value} <- headers, secret <- [value, last.(value)], do: secret
    secrets = Enum.reject(secrets, &(&1 == ""))
    fn text -> Redact.redact(text, secrets) end
  end
end
