defmodule Codex.MCP.HTTP.Request do
  @moduledoc false
  # Requests on a connection that is kept: with the token of a login, whose refusals it answers, and
  # with redirects within the origin. The state is a map with the connection or nil as `conn`, and
  # with the settings of the transport as `config`.

  alias Codex.HTTP
  alias Codex.HTTP.{Connection, Head, Socket, Target}

  @type state :: %{
          required(:conn) => Connection.t() | nil,
          required(:config) => map(),
          optional(atom()) => term()
        }

  # How long the end of an answer may take, so that the connection can be used again, and its size.
  @drain 50
  @longest_rest 64 * 1024
  @most_redirects 3

  @doc """
  Sends a request and returns the head of its answer. A connection that the server has closed before
  it got the request is opened again.
  """
  @spec send(state(), map(), String.t(), [Head.header()]) ::
          {:ok, 100..999, [Head.header()], state()} | {:error, term(), state()}
  def send(state, job, method, headers),
    do: request(state, job, method, headers, state.config.auth, @most_redirects)

  defp request(state, job, method, headers, auth, redirects) do
    with {:ok, token} <- token(auth),
         {:ok, conn} <- connect(state, job.target),
         all = headers ++ bearer(token) ++ job.headers,
         {:ok, status, found, conn} <-
           Connection.request(conn, method, job.target, all, job.body, :infinity) do
      state = put(state, conn)

      cond do
        challenged?(auth, status, found) ->
          challenge(state, job, method, headers, auth, redirects, {status, found, token})

        status in [301, 302, 303, 307, 308] ->
          redirect(state, job, method, headers, auth, redirects, {status, found})

        true ->
          {:ok, status, found, state}
      end
    else
      {:error, reason} -> {:error, reason, close(state)}
    end
  end

  defp connect(%{conn: nil} = state, target) do
    deadline = Socket.deadline(state.config.connect_timeout_ms)
    Connection.open(target, deadline, Map.to_list(Map.take(state.config, [:proxy, :tls])))
  end

  defp connect(%{conn: conn} = state, target) do
    if Connection.open?(conn) and Connection.to?(conn, target),
      do: {:ok, conn},
      else: state |> close() |> connect(target)
  end

  defp bearer(nil), do: []
  defp bearer(token), do: [{"authorization", "Bearer " <> token}]

  defp token(nil), do: {:ok, nil}
  defp token({module, arg}), do: guarded(fn -> module.token(arg) end)

  defp challenged?(nil, _status, _headers), do: false
  defp challenged?(_auth, 401, _headers), do: true

  defp challenged?(_auth, 403, headers),
    do: HTTP.bearer_challenge(headers)["error"] == "insufficient_scope"

  defp challenged?(_auth, _status, _headers), do: false

  defp challenge(state, job, method, headers, {module, arg}, redirects, {status, found, token}) do
    state = drain(state)

    case guarded(fn -> module.challenge(arg, status, HTTP.bearer_challenge(found), token) end) do
      {:retry, arg} -> request(state, job, method, headers, {module, arg}, redirects)
      {:error, reason} -> {:error, reason, state}
    end
  end

  # A login calls functions of the application.
  defp guarded(call) do
    call.()
  rescue
    _error -> {:error, :crashed}
  end

  # Only a redirect to the same origin that keeps the method is followed.
  defp redirect(state, job, method, headers, auth, redirects, {status, found}) do
    with location when is_binary(location) <- Head.value(found, "location"),
         {:ok, target} <- Target.merge(job.target, location) do
      if status in [307, 308] and redirects > 0 and Target.same_origin?(target, job.target) do
        request(drain(state), %{job | target: target}, method, headers, auth, redirects - 1)
      else
        [path | _query] = String.split(target.path, "?")
        {:error, {:redirected, Target.origin(target) <> path}, close(state)}
      end
    else
      _none -> {:error, {:invalid_response, "a redirect without a valid Location"}, close(state)}
    end
  end

  # --- The connection ---------------------------------------------------------------------------

  @doc "Reads the body of an answer."
  @spec read_all(state(), pos_integer()) :: {:ok, binary(), state()} | {:error, term(), state()}
  def read_all(state, most) do
    case Connection.read_all(state.conn, most, :infinity) do
      {:ok, body, conn} -> {:ok, body, put(state, conn)}
      {:error, reason} -> {:error, reason, close(state)}
    end
  end

  @doc "Reads the end of an answer. The connection is closed if it does not come at once."
  @spec drain(state()) :: state()
  def drain(%{conn: nil} = state), do: state

  def drain(state) do
    case Connection.read_all(state.conn, @longest_rest, Socket.deadline(@drain)) do
      {:ok, _rest, conn} -> put(state, conn)
      {:error, _reason} -> close(state)
    end
  end

  defp put(state, conn), do: %{state | conn: conn}

  @spec close(state()) :: state()
  def close(%{conn: nil} = state), do: state

  def close(state) do
    :ok = Connection.close(state.conn)
    %{state | conn: nil}
  end
end
