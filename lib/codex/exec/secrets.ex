defmodule Codex.Exec.Secrets do
  @moduledoc false
  # Takes the secrets of MCP servers and model providers out of configuration overrides, because
  # every user of the machine can read the arguments of a process.
  #
  #   * The `env` of an MCP server goes into a file that only this run has (`Codex.Exec.Servers`).
  #     Each server gets its own values, and neither the CLI nor its commands get any.
  #   * Headers and bearer tokens are for the CLI itself. It takes them from variables of its
  #     environment. Their names are unique, and `shell_environment_policy.set` empties them for
  #     the commands of the agent.

  alias Codex.Config.Key
  alias Codex.Options.Overrides

  defstruct overrides: [], renamed: [], vars: %{}, servers: %{}

  @type t :: %__MODULE__{
          overrides: [Overrides.t()],
          renamed: [Overrides.t()],
          vars: %{String.t() => String.t()},
          servers: %{String.t() => %{String.t() => String.t()}}
        }

  @tables ~w(mcp_servers model_providers)

  @doc """
  Splits overrides into those that may stand in the arguments, the variables of the CLI, and the
  variables of each MCP server. An error has the path of the value that cannot be handed over.
  """
  @spec hide([Overrides.t() | tuple()]) :: {:ok, t()} | {:error, Codex.Reason.option()}
  def hide(overrides) do
    overrides
    |> Enum.reduce_while({:ok, %__MODULE__{}}, fn override, {:ok, hidden} ->
      case one(override, hidden) do
        %__MODULE__{} = hidden -> {:cont, {:ok, hidden}}
        error -> {:halt, error}
      end
    end)
    |> finish()
  end

  # A name that the caller wrote for a header wins over ours, so ours come first.
  defp finish({:ok, hidden}) do
    masks = for {name, _} <- hidden.vars, do: {["shell_environment_policy", "set", name], ""}
    overrides = Enum.reverse(hidden.renamed) ++ Enum.reverse(hidden.overrides) ++ masks
    {:ok, %{hidden | overrides: overrides, renamed: []}}
  end

  defp finish(error), do: error

  defp one({[top | _] = path, value}, hidden) when top in @tables, do: split(path, value, hidden)

  # `key=value` as the caller wrote it stays as it is, unless it holds a secret.
  defp one(raw, hidden) when is_binary(raw) do
    with {[top | _] = path, value} when top in @tables <- Overrides.read(raw),
         true <- secret?(split(path, value, %__MODULE__{})),
         do: split(path, value, hidden),
         else: (_ -> show(raw, hidden))
  end

  defp one(other, hidden), do: show(other, hidden)

  defp secret?(%__MODULE__{servers: servers, vars: vars}), do: servers != %{} or vars != %{}
  defp secret?(_error), do: true

  defp show(override, hidden), do: %{hidden | overrides: [override | hidden.overrides]}

  # --- Where secrets are ------------------------------------------------------------------------

  defp split(["mcp_servers", id, "env", name] = path, value, hidden) do
    cond do
      # The name may hold a value: it is not shown.
      not Overrides.variable?(name) -> invalid(["mcp_servers", id, "env"])
      not is_binary(value) or String.contains?(id <> value, "\0") -> invalid(path)
      true -> %{hidden | servers: put(hidden.servers, id, name, value)}
    end
  end

  defp split([top, id, "http_headers", name] = path, value, hidden) do
    cond do
      # The name may hold a value: it is not shown.
      not Overrides.header_name?(name) -> invalid([top, id, "http_headers"])
      not Overrides.header_value?(value) -> invalid(path)
      true -> rename([top, id, "env_http_headers", name], variable(top, id, name), value, hidden)
    end
  end

  defp split(["model_providers", id, "experimental_bearer_token"] = path, token, hidden) do
    if Overrides.header_value?(token) do
      var = variable("model_providers", id, "TOKEN")
      rename(["model_providers", id, "env_key"], var, token, hidden)
    else
      invalid(path)
    end
  end

  # The CLI reads these from a file or an argument only.
  defp split(["mcp_servers", _, "oauth", "client_secret"] = path, _value, _hidden),
    do: unsupported(path)

  defp split(["mcp_servers", _, "bearer_token"] = path, _value, _hidden), do: unsupported(path)

  defp split(path, {:table, [_ | _] = members}, hidden) do
    Enum.reduce_while(members, hidden, fn {name, value}, hidden ->
      case split(path ++ [name], value, hidden) do
        %__MODULE__{} = hidden -> {:cont, hidden}
        error -> {:halt, error}
      end
    end)
  end

  # Not a table of texts. The CLI would refuse it, after everyone could read the arguments.
  defp split(["mcp_servers", _, "env" | _] = path, value, _hidden) when value != {:table, []},
    do: invalid(path)

  defp split([_, _, "http_headers" | _] = path, value, _hidden) when value != {:table, []},
    do: invalid(path)

  defp split(path, value, hidden), do: show({path, value}, hidden)

  defp put(servers, id, name, value),
    do: Map.update(servers, id, %{name => value}, &Map.put(&1, name, value))

  defp rename(path, var, value, hidden) do
    vars = Map.put(hidden.vars, var, value)
    %{hidden | renamed: [{path, var} | hidden.renamed], vars: vars}
  end

  defp invalid(["mcp_servers" | path]), do: invalid(:mcp_servers, path)
  defp invalid(["model_providers" | path]), do: invalid(:model_providers, path)

  defp invalid(option, path) do
    expected = "a value that can be passed to the CLI without being shown"
    {:error, Codex.OptionError.invalid([option | path], "[redacted]", expected)}
  end

  defp unsupported(path),
    do: {:error, {:unsupported_option, :mcp_servers, Key.format(path)}}

  # A digest keeps names apart that differ only in characters that a variable cannot have.
  defp variable(top, id, name) do
    prefix = if top == "mcp_servers", do: "MCP_" <> id, else: "PROVIDER_" <> id
    digest = :crypto.hash(:sha256, [prefix, 0, name]) |> binary_part(0, 4) |> Base.encode16()

    "CODEX_SDK_" <>
      (String.upcase("#{prefix}_#{name}") |> String.replace(~r/[^A-Z0-9_]/, "_")) <> "_" <> digest
  end
end
