defmodule Codex.Protocol do
  @moduledoc false
  # The protocol of the app-server, from `priv/protocol/app_server.txt`: what methods there are, and whether options fit one.
  # `mix codex.protocol` writes that file, and compares it with an installed CLI.

  alias Codex.Protocol.Check
  alias Codex.Protocol.File, as: Data

  @path Path.expand("../../priv/protocol/app_server.txt", __DIR__)
  @external_resource @path
  @data @path |> File.read!() |> Data.parse!()

  @types Map.new(@data.types, fn {name, type} -> {name, Check.prepare(type)} end)

  @directions [
    client: :requests,
    client_notification: :client_notifications,
    notification: :notifications,
    server: :server_requests
  ]
  @methods for {direction, kind} <- @directions,
               {name, method} <- @data[kind],
               into: %{},
               do:
                 {name,
                  Map.put(%{method | params: Check.prepare(method.params)}, :direction, direction)}

  @requests @data.requests |> Map.keys() |> Enum.sort()
  @notifications @data.notifications |> Map.keys() |> Enum.sort()
  @server_requests @data.server_requests |> Map.keys() |> Enum.sort()

  @typedoc """
  A method: who sends it (`:client` and `:server` are requests), the prepared type of its parameters, the name of the type of its
  result (nil for notifications, and where the protocol does not say), and whether the connection has to ask for it.
  """
  @type method :: %{
          direction: :client | :client_notification | :notification | :server,
          params: term(),
          result: String.t() | nil,
          experimental: boolean()
        }

  @type reason :: Check.reason() | {:unknown_method, String.t()}

  @doc "The file that the data is in."
  @spec path() :: Path.t()
  def path, do: Path.join(:code.priv_dir(:codex_sdk), "protocol/app_server.txt")

  @doc """
  The version of the CLI that the data was taken from.

      iex> Codex.Protocol.cli_version() == Codex.CLI.tested_version()
      true
  """
  @spec cli_version() :: String.t()
  def cli_version, do: unquote(@data.cli)

  @doc "The requests that a client can send, sorted."
  @spec methods() :: [String.t()]
  def methods, do: @requests

  @doc "What the server tells without asking, sorted."
  @spec notifications() :: [String.t()]
  def notifications, do: @notifications

  @doc "What the server asks, sorted."
  @spec server_requests() :: [String.t()]
  def server_requests, do: @server_requests

  @doc """
  What is known of a method.

      iex> {:ok, method} = Codex.Protocol.method("memory/reset")
      iex> {method.direction, method.params, method.result, method.experimental}
      {:client, :null, "MemoryResetResponse", true}
      iex> Codex.Protocol.method("memory/forget")
      :error
  """
  @spec method(String.t()) :: {:ok, method()} | :error
  def method(name), do: Map.fetch(methods_by_name(), name)

  @doc false
  @spec types() :: %{String.t() => term()}
  def types, do: @types

  defp methods_by_name, do: @methods

  @doc """
  Checks options, given as map, keyword or nil, against a type of the protocol, by name.

      iex> Codex.Protocol.check("TurnInterruptParams", thread_id: "t", turn_id: "u")
      {:ok, %{"threadId" => "t", "turnId" => "u"}}
      iex> Codex.Protocol.check("TurnInterruptParams", %{"threadId" => "t", turnid: "u"})
      {:error, {:unknown_option, :turnid, :turn_id}}
      iex> Codex.Protocol.check("TurnInterruptParams", thread_id: "t")
      {:error, {:missing_option, :turn_id}}
      iex> Codex.Protocol.check("ThreadStartParams", sandbox: :read_ony)
      {:error,
       {:invalid_option, :sandbox, :read_ony,
        ~S(one of "read-only", "workspace-write", "danger-full-access")}}

  The path of something inside an option is a list: `{:missing_option, [:input, 0, :text]}`. Values under names that sound like
  secrets are `[redacted]`. Raises `KeyError` for a type that is none.
  """
  @spec check(String.t(), term()) :: {:ok, term()} | {:error, Check.reason()}
  def check(type, options) do
    with {:ok, wire, _uses} <- Check.run(Map.fetch!(types(), type), options || %{}, types()),
         do: {:ok, wire}
  end

  @doc """
  The parameters of a request of the client, and what in them is experimental: the method itself, or fields of it. Without any
  parameters they are nil.

      iex> Codex.Protocol.params("thread/start", cwd: "/srv", experimental_raw_events: false)
      {:ok, %{"cwd" => "/srv", "experimentalRawEvents" => false}, []}
      iex> Codex.Protocol.params("thread/start", history_mode: :paginated)
      {:ok, %{"historyMode" => "paginated"}, ["thread/start.historyMode"]}
      iex> Codex.Protocol.params("memory/reset", nil)
      {:ok, nil, ["memory/reset"]}
      iex> Codex.Protocol.params("memory/forget", nil)
      {:error, {:unknown_method, "memory/forget"}}
  """
  @spec params(String.t(), term()) ::
          {:ok, map() | nil, experimental :: [String.t()]} | {:error, reason()}
  def params(name, options) do
    case method(name) do
      {:ok, %{direction: :client} = method} ->
        own = if method.experimental, do: [name], else: []

        with {:ok, wire, uses} <- checked(method.params, options),
             do: {:ok, wire, own ++ Enum.map(uses, &"#{name}.#{&1}")}

      _none ->
        {:error, {:unknown_method, name}}
    end
  end

  defp checked(:null, none) when none in [nil, [], %{}], do: {:ok, nil, []}
  defp checked(:null, options), do: Check.run({:object, %{}, [], nil}, options, types())
  defp checked({:nullable, _type}, none) when none in [nil, [], %{}], do: {:ok, nil, []}
  defp checked(type, options), do: Check.run(type, options || %{}, types())
end
