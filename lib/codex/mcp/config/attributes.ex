defmodule Codex.MCP.Config.Attributes do
  @moduledoc false
  # The keys of a server to write.

  alias Codex.Config.{Error, Key, Schema}
  alias Codex.{JSON, Native}

  @names ~w(env_vars bearer_token_env_var http_headers env_http_headers http_headers_helper) ++
           ~w(startup_timeout_sec tool_timeout_sec enabled_tools disabled_tools oauth_resource)
  @camel Map.new(@names, fn name ->
           [first | rest] = String.split(name, "_")
           {Enum.join([first | Enum.map(rest, &String.capitalize/1)]), name}
         end)

  @doc "Returns the server with string keys, without keys that are nil."
  @spec read(term()) ::
          {:ok, map()} | {:error, :missing_server_config | :missing_transport}
  def read(attrs) when is_map(attrs) and map_size(attrs) > 0 and not is_struct(attrs) do
    server =
      for {key, value} <- attrs,
          value != nil,
          key = to_string(key),
          into: %{},
          do: {Map.get(@camel, key, key), value}

    if text?(server["command"]) or text?(server["url"]),
      do: {:ok, server},
      else: {:error, :missing_transport}
  end

  def read([{_, _} | _] = attrs) do
    if Keyword.keyword?(attrs), do: read(Map.new(attrs)), else: {:error, :missing_server_config}
  end

  def read(_other), do: {:error, :missing_server_config}

  defp text?(value), do: is_binary(value) and String.trim(value) != ""

  @doc "Checks the server as the CLI does when it reads its configuration."
  @spec check(String.t(), map()) :: :ok | {:error, Error.t()}
  def check(name, server) do
    path = ["mcp_servers", name]

    with {:ok, json} <- JSON.encode(server),
         {:ok, text} <- Native.config_edit("", [{path, json, false}], 100_000),
         {:ok, tree} <- Native.config_parse(text, 100_000) do
      {_tree, _config, _version, problems, _dropped} =
        Native.config_prepare(Schema.ref(), tree, "/", "/")

      first_error(Enum.map(problems, &problem/1))
    else
      _no_toml -> {:error, bad_value(path)}
    end
  end

  defp first_error(problems),
    do:
      Enum.find_value(problems, :ok, fn {weight, error} -> weight == :error && {:error, error} end)

  defp problem({{reason, weight, _index, _place}, path, {message, found, expected, nearest}}) do
    error = %Error{
      reason: reason,
      path: path,
      message: message,
      found: found,
      expected: if(expected != "", do: expected),
      nearest: nearest
    }

    {weight, if(secret?(path), do: redacted(error), else: error)}
  end

  @secrets ~w(env http_headers bearer_token oauth)

  defp secret?(path), do: Enum.any?(path, &(&1 in @secrets))

  defp redacted(%{reason: :refused} = error), do: %{error | found: nil}

  defp redacted(error) do
    message = "`#{Key.format(error.path)}` has a value that the CLI would refuse: [redacted]"
    %{error | found: nil, message: message}
  end

  # The value is not shown: it may be a secret.
  defp bad_value(path) do
    message = "the server cannot be written: TOML has no form for one of its values"
    %Error{reason: :bad_value, path: path, message: message}
  end
end
