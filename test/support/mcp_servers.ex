defmodule Codex.MCPServers do
  @moduledoc "MCP servers of npm, which bin/conformance installs into .codex-cli/."

  @folder ".codex-cli/conformance/0.2.0-alpha.12/node_modules"

  @doc "Returns Node and the script of `server-everything`, or nil."
  def everything do
    node = Path.expand(@folder <> "/.bin/node")
    script = Path.expand(@folder <> "/@modelcontextprotocol/server-everything/dist/index.js")
    if File.exists?(node) and File.exists?(script), do: {node, script}
  end
end
