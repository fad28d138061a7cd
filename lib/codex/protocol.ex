defmodule Codex.Protocol do
  @moduledoc false
  # Knows the protocol of the app-server: its methods, and the types of their parameters and
  # results.
  #
  # The data is a literal in `priv/protocol/app_server.exs`, read while this library is compiled.
  # `mix codex.cli` generates that file, and compares it with an installed CLI.

  alias Codex.Protocol.Check

  @path Path.expand("../../priv/protocol/app_server.exs", __DIR__)
  @external_resource @path
  @data @path |> File.read!() |> Code.string_to_quoted!()

  @version_file Path.expand("../../priv/cli/version", __DIR__)
  @external_resource @version_file
  @version @version_file |> File.read!() |> String.trim()

  @types for {:type, {name, type}} <- @data, into: %{}, do: {name, Check.prepare(type)}

  @directions %{
    request: :client,
    client_notification: :client_notification,
    notification: :notification,
    server_request: :server
  }
  @methods for {kind, {name, method}} <- @data,
               direction = @directions[kind],
               into: %{},
               do:
                 {name,
                  %{
                    direction: direction,
                    params: Check.prepare(method[:params]),
                    result: method[:result],
                    experimental: method[:experimental] == true
                  }}

  # Sorted, as in the file.
  @requests for {:request, {name, _method}} <- @data, do: name
  @notifications for {:notification, {name, _method}} <- @data, do: name
  @server_requests for {:server_request, {name, _method}} <- @data, do: name

  @typedoc """
  A method: its sender (`:client` and `:server` are requests), the prepared type of its
  parameters, the name of the type of its result (nil for notifications, and if the protocol does
  not name it), and whether it needs the experimental API.
  """
  @type method :: %{
          direction: :client | :client_notification | :notification | :server,
          params: term(),
          result: String.t() | nil,
          experimental: boolean()
        }

  @type reason :: Codex.OptionError.t() | {:unknown_method, String.t()}

  @doc "Returns the path of the data."
  @spec path() :: Path.t()
  def path, do: Path.join(:code.priv_dir(:codex_sdk), "protocol/app_server.exs")

  @doc """
  Returns the version of the CLI whose protocol this is.

      iex> Codex.Protocol.cli_version() == Codex.CLI.Program.tested_version()
      true
  """
  @spec cli_version() :: String.t()
  def cli_version, do: @version

  @doc "Returns the requests of the client, sorted."
  @spec methods() :: [String.t()]
  def methods, do: @requests

  @doc "Returns the notifications of the server, sorted."
  @spec notifications() :: [String.t()]
  def notifications, do: @notifications

  @doc "Returns the requests of the server, sorted."
  @spec server_requests() :: [String.t()]
  def server_requests, do: @server_requests

  @doc """
  Returns a method by its name.

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
      iex> options = %{"threadId" => "t", turnid: "u"}
      iex> {:error, error} = Codex.Protocol.check("TurnInterruptParams", options)
      iex> {error.reason, error.key, error.nearest}
      {:unknown, :turnid, :turn_id}
      iex> {:error, error} = Codex.Protocol.check("TurnInterruptParams", thread_id: "t")
      iex> {error.reason, error.key}
      {:missing, :turn_id}
      iex> {:error, error} = Codex.Protocol.check("ThreadStartParams", sandbox: :read_ony)
      iex> error.expected
      ~S(one of "read-only", "workspace-write", "danger-full-access")

  The `path` of a value inside an option is like `[:input, 0, :text]`. Values
  under names that sound like secrets are `[redacted]`. Raises `KeyError` for an unknown type.
  """
  @spec check(String.t(), term()) :: {:ok, term()} | {:error, Codex.OptionError.t()}
  def check(type, options) do
    with {:ok, wire, _uses} <- Check.run(Map.fetch!(types(), type), options || %{}, types()),
         do: {:ok, wire}
  end

  @doc """
  Checks the parameters of a request of the client. Returns them for the wire (nil if the method has
  none), and the experimental method and fields that they use.

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
