defmodule Codex.AppServer.Connection do
  @moduledoc false
  # Calls to the process of a connection.

  alias Codex.OptionError
  alias Codex.Options.Type
  alias Codex.Telemetry.Trace

  @type conn :: GenServer.server()
  @type down :: %{
          optional(:exit_status) => integer() | nil,
          optional(:signal) => atom() | integer() | nil,
          optional(:stderr) => String.t(),
          optional(:reason) => term()
        }

  @doc """
  Sends a request and waits for its answer. The process of the connection times it.

  Options: `:timeout_ms` (positive integer or `:infinity`, default 30_000), `:experimental` (the
  parts of the parameters that need `experimental_api: true`, default `[]`), `:follow` (the caller
  reads the turn that the request starts), `:trace` (a trace context; default that of the caller).
  """
  @spec request(conn(), String.t(), map() | nil, keyword()) ::
          {:ok, term()} | {:error, Codex.AppServer.reason()}
  def request(conn, method, params \\ nil, opts \\ []) do
    opts = Keyword.put_new_lazy(opts, :trace, &Trace.current/0)

    with {:ok, answer} <- call(conn, {:request, method, params, opts}), do: answer
  end

  # How often a request checks whether its answer is still wanted.
  @slice 100

  @doc """
  Sends a request as `request/4`, but gives up with `:unwanted` when `unwanted?` returns true and no
  answer comes within `grace` ms after that. The server may act on the request all the same.
  """
  @spec request_while_wanted(
          conn(),
          String.t(),
          map() | nil,
          keyword(),
          (... -> boolean()),
          non_neg_integer()
        ) :: {:ok, term()} | {:error, Codex.AppServer.reason()} | :unwanted
  def request_while_wanted(conn, method, params, opts, unwanted?, grace \\ 0) do
    request = :gen_server.send_request(conn, {:request, method, params, opts})

    case await(request, unwanted?) do
      :unwanted -> abandon(request, grace)
      answer -> answer
    end
  end

  defp await(request, unwanted?) do
    case answer(:gen_server.wait_response(request, @slice)) do
      :timeout -> if unwanted?.(), do: :unwanted, else: await(request, unwanted?)
      answer -> answer
    end
  end

  # From here on, an answer does not reach the mailbox.
  defp abandon(request, grace) do
    case answer(:gen_server.receive_response(request, grace)) do
      :timeout -> :unwanted
      answer -> answer
    end
  end

  defp answer(response) do
    case response do
      {:reply, answer} ->
        answer

      {:error, {{:shutdown, {:app_server_down, info}}, _conn}} ->
        {:error, {:app_server_down, info}}

      {:error, {reason, _conn}} ->
        {:error, {:app_server_down, %{reason: reason}}}

      :timeout ->
        :timeout
    end
  end

  @doc "Returns the process of a connection, or nil."
  @spec whereis(term()) :: pid() | {atom(), node()} | nil
  def whereis(conn), do: if(Type.server?(conn), do: GenServer.whereis(conn))

  @doc "Checks that a term can be a connection."
  @spec check(term()) :: :ok | {:error, OptionError.t()}
  def check(conn) do
    if Type.server?(conn),
      do: :ok,
      else: {:error, OptionError.argument(:conn, conn, "a connection: its pid or its name")}
  end

  @doc "Calls the process of a connection. If the process is gone, returns an error."
  @spec call(conn(), term()) ::
          {:ok, term()}
          | {:error, {:app_server_down, down()} | OptionError.t()}
  def call(conn, request), do: with(:ok <- check(conn), do: call_process(conn, request))

  defp call_process(conn, request) do
    {:ok, GenServer.call(conn, request, :infinity)}
  catch
    :exit, {{:shutdown, {:app_server_down, info}}, {GenServer, :call, _}} ->
      {:error, {:app_server_down, info}}

    :exit, {reason, {GenServer, :call, _}} ->
      {:error, {:app_server_down, %{reason: reason}}}
  end
end
