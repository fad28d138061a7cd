defmodule Codex.MCP.Config.Shown do
  @moduledoc false
  # A server in the form of `codex mcp get --json`.

  alias Codex.Options.Schema

  @mask "*****"

  @spec of(String.t(), map(), keyword()) :: map()
  def of(name, server, opts) do
    secrets = List.keyfind(Schema.pairs!(opts), :secrets, 0, {:secrets, false}) |> elem(1)

    %{
      "name" => name,
      "enabled" => Map.get(server, "enabled", true),
      "disabled_reason" => nil,
      "transport" => transport(server, secrets),
      "enabled_tools" => server["enabled_tools"],
      "disabled_tools" => server["disabled_tools"],
      "startup_timeout_sec" => startup(server),
      "tool_timeout_sec" => seconds(server["tool_timeout_sec"])
    }
  end

  defp transport(%{"url" => url} = server, secrets) do
    server
    |> Map.take(~w(bearer_token_env_var env_http_headers http_headers_helper))
    |> filled(~w(bearer_token_env_var env_http_headers http_headers_helper))
    |> Map.merge(%{
      "type" => "streamable_http",
      "url" => url,
      "http_headers" => masked(server["http_headers"], secrets)
    })
  end

  defp transport(server, secrets) do
    %{
      "type" => "stdio",
      "command" => server["command"],
      "args" => server["args"] || [],
      "env" => masked(server["env"], secrets),
      "env_vars" => server["env_vars"] || [],
      "cwd" => server["cwd"]
    }
  end

  defp filled(map, keys), do: Map.merge(Map.new(keys, &{&1, nil}), map)

  defp masked(%{} = values, false), do: Map.new(values, fn {name, _value} -> {name, @mask} end)
  defp masked(values, _secrets), do: values

  defp startup(%{"startup_timeout_sec" => seconds}), do: seconds(seconds)
  defp startup(%{"startup_timeout_ms" => ms}) when is_number(ms), do: ms / 1000
  defp startup(_server), do: nil

  defp seconds(seconds) when is_number(seconds), do: seconds / 1
  defp seconds(_none), do: nil
end
