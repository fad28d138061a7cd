defmodule Codex.Protocol.File do
  @moduledoc false
  # `priv/protocol/app_server.txt`: one line for each method and each type, sorted, so that a difference can be read.
  #
  #     cli 0.169.0
  #     request thread/start ThreadStartParams -> ThreadStartResponse
  #     ~request memory/reset null -> MemoryResetResponse
  #     type AskForApproval 'untrusted'|'on-request'|…
  #
  # ~ is experimental. It is text and not JSON because it is read while this library is compiled, when there is no
  # native library to read JSON with.

  alias Codex.Protocol.Type

  @type method :: %{
          params: Type.t(),
          result: String.t() | nil,
          experimental: boolean()
        }
  @type data :: %{
          cli: String.t(),
          requests: %{String.t() => method()},
          client_notifications: %{String.t() => method()},
          notifications: %{String.t() => method()},
          server_requests: %{String.t() => method()},
          types: %{String.t() => Type.t()}
        }

  @kinds [
    requests: "request",
    client_notifications: "client_notification",
    notifications: "notification",
    server_requests: "server_request"
  ]

  @doc "The kinds of methods, and the word for each."
  def kinds, do: @kinds

  @doc "The text of some data; inverse of `parse!/1`."
  @spec write(data()) :: String.t()
  def write(data) do
    methods =
      for {kind, word} <- @kinds, {name, method} <- Enum.sort(data[kind]) do
        mark = if method.experimental, do: "~", else: ""
        result = if method.result, do: " -> " <> method.result, else: ""
        "#{mark}#{word} #{name} #{Type.write(method.params)}#{result}"
      end

    types = for {name, type} <- Enum.sort(data.types), do: "type #{name} #{Type.write(type)}"

    Enum.join(["cli #{data.cli}" | methods] ++ types, "\n") <> "\n"
  end

  @doc "Reads the text. Raises `ArgumentError` with the line that is none."
  @spec parse!(String.t()) :: data()
  def parse!(text) do
    empty = Map.new(@kinds, fn {kind, _} -> {kind, %{}} end)

    text
    |> String.split("\n", trim: true)
    |> Enum.reduce(Map.merge(empty, %{cli: nil, types: %{}}), fn line, data ->
      case String.split(line, " ", parts: 3) do
        ["cli", version] -> %{data | cli: version}
        ["type", name, type] -> put_in(data, [:types, name], Type.parse!(type))
        ["~" <> word, name, rest] -> method(data, line, word, name, rest, true)
        [word, name, rest] -> method(data, line, word, name, rest, false)
        _ -> odd(line)
      end
    end)
  end

  defp method(data, line, word, name, rest, experimental) do
    {params, result} =
      case String.split(rest, " -> ") do
        [params, result] -> {params, result}
        [params] -> {params, nil}
        _ -> odd(line)
      end

    case List.keyfind(@kinds, word, 1) do
      {kind, _} ->
        method = %{params: Type.parse!(params), result: result, experimental: experimental}
        put_in(data, [kind, name], method)

      nil ->
        odd(line)
    end
  end

  @spec odd(String.t()) :: no_return()
  defp odd(line),
    do: raise(ArgumentError, "not a line of protocol data: #{String.slice(line, 0, 200)}")
end
