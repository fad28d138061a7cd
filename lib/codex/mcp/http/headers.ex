defmodule Codex.MCP.HTTP.Headers do
  @moduledoc false
  # Headers of the messages to a server: those of the protocol, and those of the configuration.

  alias Codex.HTTP
  alias Codex.MCP.HTTP.Parameters

  @type headers :: [{String.t(), String.t()}]

  @version "io.modelcontextprotocol/protocolVersion"

  @doc "Returns whether a message is one of version 2026-07-28 or newer, without a session."
  @spec modern?(:legacy | :modern, map()) :: boolean()
  def modern?(era, message), do: era == :modern or version(message) != nil

  defp version(%{"params" => %{"_meta" => %{@version => version}}}), do: version
  defp version(_message), do: nil

  @doc "Returns the headers of a modern message. They repeat parts of its body."
  @spec modern(map(), map(), String.t() | nil, headers()) :: headers()
  def modern(message, meta, version, given) do
    own = [
      {"mcp-protocol-version", version(message) || version},
      {"mcp-method", message["method"]},
      {"mcp-name", name(message)}
    ]

    merge(own ++ parameters(message, meta), given)
  end

  defp name(%{"method" => "resources/read", "params" => %{"uri" => uri}}) when is_binary(uri),
    do: HTTP.header_value(uri)

  defp name(%{"method" => method, "params" => %{"name" => name}})
       when method in ["tools/call", "prompts/get"] and is_binary(name),
       do: HTTP.header_value(name)

  defp name(_message), do: nil

  defp parameters(%{"method" => "tools/call", "params" => params}, %{tool: tool}),
    do: Parameters.headers(tool, params["arguments"] || %{})

  defp parameters(_message, _meta), do: []

  @doc "Returns the headers of a message in a session."
  @spec legacy(String.t() | nil, String.t() | nil, headers()) :: headers()
  def legacy(version, session, given) do
    # The header of the version exists since this one.
    version = if version && version >= "2025-06-18", do: version
    merge([{"mcp-protocol-version", version}, {"mcp-session-id", session}], given)
  end

  # The headers of the protocol are not replaced.
  defp merge(own, given) do
    own = for {name, value} <- own, is_binary(value), do: {name, value}

    own ++
      for {name, value} <- given,
          not List.keymember?(own, String.downcase(name), 0),
          do: {name, value}
  end
end
