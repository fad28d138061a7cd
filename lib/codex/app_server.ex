defmodule Codex.AppServer do
  @moduledoc """
  The methods of `codex app-server`, one function each.

      {:ok, %{"thread" => %{"id" => id}}} = Codex.AppServer.thread_start(conn, cwd: "/srv/app", sandbox: :read_only)
      {:ok, %{"turn" => turn}} = Codex.AppServer.turn_start(conn, id, "What is in here?")

  The functions are made from the protocol of CLI #{Codex.Protocol.cli_version()}. Options are a keyword list or a map, keys and words in snake_case
  (`approval_policy: :on_request`) or as on the wire (`"approvalPolicy" => "on-request"`). They are checked before anything is sent; what
  comes back is the server's own map, with string keys. nil stands for null where the protocol has one, and for "not given"
  elsewhere. `request/4` sends a method that this version does not know.

  The last argument of each function are options of the request:

    * `:timeout_ms` - how long the answer may take, in ms, or `:infinity` (default 30_000; 10_000 for the configuration, 300_000 for
      `turn_start` and `review_start`, 5_000 more than its own `timeout_ms` for a command)

  Experimental methods and options need a connection with `experimental_api: true`.

  ## Errors

  Before anything is sent:

    * `{:unknown_option, key, nearest}` - there is no such option; `nearest` is the one that may have been meant, or nil
    * `{:missing_option, key}` - it has to be given
    * `{:invalid_option, key, value, expected}` - the value is not what is expected, which is a text
    * `{:invalid_options, value}` - the options are no keyword list or map
    * `{:experimental, names}` - the method, or options of it as `"thread/start.dynamicTools"`, need `experimental_api: true`
    * `:not_ready` - the server has not said hello
    * `{:overflow, :requests, limit}` - so many requests wait for their answers

  Inside an option, `key` is the way there: `[:input, 0, :text]`. Values under names that sound like secrets are `[redacted]`.

  After that:

    * a map with `"code"`, `"message"` and sometimes `"data"` - the server's error. It is tried again by itself while the server is
      overloaded (-32001)
    * `{:timeout, method, ms}` - no answer in time; one that comes later is dropped
    * `{:app_server_down, map}` - the server ended; the map tells what is known of that

  `Codex.Error.normalize/1` takes the server's error.
  """

  alias Codex.AppServer.{Calls, Connection, Docs}
  alias Codex.{Protocol, Suggest}

  @typedoc "The process of a connection."
  @type conn :: GenServer.server()

  @typedoc "Options of a method. See the documentation of its function."
  @type options :: keyword() | map() | nil

  @type request_option :: {:timeout_ms, pos_integer() | :infinity}

  @type where :: term() | [term()]
  @type reason ::
          {:unknown_option, where(), atom() | nil}
          | {:missing_option, where()}
          | {:invalid_option, where(), term(), String.t()}
          | {:invalid_options, term()}
          | {:experimental, [String.t()]}
          | :not_ready
          | {:overflow, :requests, pos_integer()}
          | {:timeout, String.t(), pos_integer()}
          | {:app_server_down, map()}
          | %{String.t() => term()}

  for row <- Calls.rows(Protocol.methods()) do
    args = Enum.map(row.args, &Macro.var(&1, __MODULE__))
    types = Enum.map(row.args, fn _ -> quote(do: term()) end)
    pairs = Enum.zip(row.args, args)
    result = if row.returns == :ok, do: :ok, else: quote(do: {:ok, map()})

    @doc Docs.of(row)
    @spec unquote(row.name)(conn(), unquote_splicing(types), options(), [request_option()]) ::
            unquote(result) | {:error, reason()}
    def unquote(row.name)(conn, unquote_splicing(args), options \\ [], request_options \\ []),
      do: call(conn, unquote(Macro.escape(row)), unquote(pairs), options, request_options)
  end

  defp call(conn, row, args, options, request_options) do
    with {:ok, params, experimental} <- Calls.params(row, args, options),
         {:ok, timeout} <- timeout(request_options, Calls.timeout(row, params)),
         opts = [timeout_ms: timeout, experimental: experimental],
         {:ok, result} <- Connection.request(conn, row.method, params, opts) do
      if row.returns == :ok, do: :ok, else: {:ok, result}
    end
  end

  @doc """
  Sends any method with parameters as they stand, unchecked but for being JSON: for what this version does not know.

      Codex.AppServer.request(conn, "thread/clone", %{"threadId" => id})

  Option: `:timeout_ms` (default 30_000). Returns `{:ok, result}` or `{:error, reason}`; an unknown method is the server's error.
  """
  @spec request(conn(), String.t(), map() | nil, [request_option()]) ::
          {:ok, term()} | {:error, reason()}
  def request(conn, method, params \\ nil, request_options \\ []) when is_binary(method) do
    with :ok <- json(params), {:ok, timeout} <- timeout(request_options, 30_000) do
      Connection.request(conn, method, params, timeout_ms: timeout)
    end
  end

  defp json(params) when is_map(params) or params == nil do
    case Codex.JSON.encode(params) do
      {:ok, _} ->
        :ok

      {:error, {:not_encodable, value, path}} ->
        invalid(path, value, "a value that JSON has a form for")
    end
  end

  defp json(params), do: {:error, {:invalid_options, params}}

  defp timeout([], default), do: {:ok, default}
  defp timeout([{:timeout_ms, :infinity}], _default), do: {:ok, :infinity}
  defp timeout([{:timeout_ms, nil}], default), do: {:ok, default}

  defp timeout([{:timeout_ms, ms}], _default) when is_integer(ms) and ms in 1..0xFFFFFFFF,
    do: {:ok, ms}

  defp timeout([{:timeout_ms, ms}], _default),
    do: invalid(:timeout_ms, ms, "a positive integer in milliseconds or :infinity")

  defp timeout([{key, _} | _], _default),
    do: {:error, {:unknown_option, key, Suggest.nearest(key, [:timeout_ms])}}

  defp timeout(other, _default), do: {:error, {:invalid_options, other}}

  defp invalid(where, value, expected), do: {:error, {:invalid_option, where, value, expected}}
end
