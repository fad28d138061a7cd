defmodule Codex.Exec.Secrets do
  @moduledoc false
  # Tables that may hold secrets, so that none of them gets into the arguments, which every user of the machine can
  # read: the CLI takes names of environment variables instead.

  @type tables :: %{String.t() => map()}

  @doc "MCP servers: `env` becomes `env_vars`, `http_headers` becomes `env_http_headers`."
  @spec mcp_servers(tables()) :: {tables(), %{String.t() => String.t()}}
  def mcp_servers(servers),
    do: each(servers, fn id, server -> server |> own_env() |> headers("MCP_" <> id) end)

  @doc "Providers: a bearer token becomes `env_key`, `http_headers` becomes `env_http_headers`."
  @spec model_providers(tables()) :: {tables(), %{String.t() => String.t()}}
  def model_providers(providers),
    do:
      each(providers, fn id, provider -> provider |> token(id) |> headers("PROVIDER_" <> id) end)

  defp each(tables, hide) do
    Enum.reduce(tables, {%{}, %{}}, fn {id, table}, {shown, env} ->
      {table, more} = hide.(id, table)
      {Map.put(shown, id, table), Map.merge(env, more)}
    end)
  end

  # The server gets the variables that `env_vars` names from the CLI's own environment.
  defp own_env(%{"env" => %{} = env} = server) do
    {texts, others} = Enum.split_with(env, fn {_, value} -> is_binary(value) end)
    names = Enum.map(texts, &elem(&1, 0))
    server = Map.update(server, "env_vars", names, &(List.wrap(&1) ++ names))
    # What is no text is for the CLI to refuse.
    server =
      if others == [], do: Map.delete(server, "env"), else: %{server | "env" => Map.new(others)}

    {server, Map.new(texts)}
  end

  defp own_env(server), do: {server, %{}}

  defp token(%{"experimental_bearer_token" => token} = provider, id) when is_binary(token) do
    name = variable("PROVIDER_" <> id, "TOKEN")

    {provider |> Map.delete("experimental_bearer_token") |> Map.put("env_key", name),
     %{name => token}}
  end

  defp token(provider, _id), do: {provider, %{}}

  defp headers({%{"http_headers" => %{} = headers} = table, env}, prefix) do
    {texts, others} = Enum.split_with(headers, fn {_, value} -> is_binary(value) end)
    named = Map.new(texts, fn {header, _} -> {header, variable(prefix, header)} end)
    table = Map.update(table, "env_http_headers", named, &Map.merge(named, &1))

    table =
      if others == [],
        do: Map.delete(table, "http_headers"),
        else: %{table | "http_headers" => Map.new(others)}

    {table, Enum.into(texts, env, fn {header, value} -> {named[header], value} end)}
  end

  defp headers(pair, _prefix), do: pair

  # A digest keeps names apart that differ only in what a variable cannot have.
  defp variable(prefix, name) do
    digest = :crypto.hash(:sha256, [prefix, 0, name]) |> binary_part(0, 4) |> Base.encode16()

    "CODEX_SDK_" <>
      (String.upcase("#{prefix}_#{name}") |> String.replace(~r/[^A-Z0-9_]/, "_")) <> "_" <> digest
  end
end
