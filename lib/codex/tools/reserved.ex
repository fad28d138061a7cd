defmodule Codex.Tools.Reserved do
  @moduledoc false
  # The names that host tools cannot have, because the CLI uses them itself: `priv/cli/tools.exs`,
  # and the prefix of tools of MCP servers.

  @path Path.expand("../../../priv/cli/tools.exs", __DIR__)
  @external_resource @path
  {cli, _} = @path |> File.read!() |> Code.eval_string()
  @names cli.names
  @namespaces cli.namespaces

  @doc "Returns the names of the CLI's own tools."
  @spec names() :: [String.t()]
  def names, do: @names

  @doc """
  Returns why a tool cannot have a name, or nil.

      iex> Codex.Tools.Reserved.reason(nil, "view_image")
      {:reserved_name, "view_image"}
      iex> Codex.Tools.Reserved.reason("shop", "wait")
      nil
      iex> Codex.Tools.Reserved.reason("functions", "order")
      {:reserved_namespace, "functions"}
  """
  @spec reason(String.t() | nil, String.t()) ::
          nil | {:reserved_name, String.t()} | {:reserved_namespace, String.t()}
  def reason(_namespace, "mcp__" <> _ = name), do: {:reserved_name, name}
  def reason(nil, name), do: if(name in @names, do: {:reserved_name, name})

  def reason(namespace, _name) do
    if namespace in @namespaces or String.starts_with?(namespace, "mcp__"),
      do: {:reserved_namespace, namespace}
  end
end
