defmodule Codex.MCP.HTTP.Exchange do
  @moduledoc false
  # A process with one HTTP connection, which carries one job of a transport after the other: to
  # post a message and read its answer, or to listen to a stream. Tokens, sockets, streams and JSON
  # are its work, so that the process of the transport never waits.
  #
  # It sends `{tag, pid, event}` to the process of the transport. After `{:messages, …}` it reads
  # nothing more until that process sends `{tag, :grant}`.

  alias Codex.HTTP.{Connection, Head, Target}
  alias Codex.JSON
  alias Codex.JSONRPC.Message
  alias Codex.MCP.HTTP.{Events, Request}

  @typedoc """
    * `kind` - `:post`; `:listen` for messages without a request; `:endpoint` for an old server
    * `id` - the id of a request, else nil
    * `resume?` - whether a stream that ends too early is opened again
    * `session` - the session id of the headers, or nil
    * `elsewhere?` - whether the answer of a request comes on another stream
  """
  @type job :: %{
          required(:kind) => :post | :listen | :endpoint,
          required(:target) => Target.t(),
          required(:headers) => [Head.header()],
          required(:id) => Message.id() | nil,
          required(:body) => iodata() | nil,
          required(:resume?) => boolean(),
          required(:session) => String.t() | nil,
          required(:elsewhere?) => boolean(),
          optional(atom()) => term()
        }
  @type outcome :: :answered | :accepted | :no_stream | :session_lost | {:lost, term()}
  @type event ::
          {:session, String.t() | nil}
          | {:endpoint, Target.t()}
          | :listening
          | {:messages, [Message.t()], bytes :: non_neg_integer()}
          | {:ended, outcome()}

  @post [
    {"content-type", "application/json"},
    {"accept", "application/json, text/event-stream"}
  ]
  # Servers close an idle connection after some seconds: Node after five.
  @idle 2_000
  @longest_error 64 * 1024
  # The text of an error that a reason keeps.
  @longest_text 1_000
  # Attempts to open a stream again without an event in between.
  @most_attempts 5
  @retry 1_000
  @longest_wait 60_000

  @doc "Starts the process, linked to the caller, which gets the events."
  @spec start(map(), reference()) :: pid()
  def start(config, tag) do
    owner = self()
    spawn_link(fn -> loop(%{config: config, tag: tag, owner: owner, conn: nil}) end)
  end

  @spec run(pid(), reference(), job()) :: :ok
  def run(pid, tag, job) do
    _ = send(pid, {tag, :job, job})
    :ok
  end

  defp loop(%{tag: tag} = state) do
    receive do
      {^tag, :job, job} ->
        {outcome, state} = job(state, job)
        tell(state, {:ended, outcome})
        state |> Request.drain() |> loop()

      {^tag, :grant} ->
        loop(state)
    after
      if(state.conn, do: @idle, else: :infinity) -> state |> Request.close() |> loop()
    end
  end

  defp tell(state, event), do: send(state.owner, {state.tag, self(), event})

  # --- Jobs -------------------------------------------------------------------------------------

  defp job(state, %{kind: :post} = job) do
    case Request.send(state, job, "POST", @post) do
      {:ok, status, headers, state} when status in 200..299 -> accepted(state, job, headers)
      {:ok, status, _headers, state} -> refused(state, job, status)
      {:error, reason, state} -> {{:lost, reason}, state}
    end
  end

  defp job(state, job) do
    case open_stream(state, job, Events.new(state.config)) do
      {:ok, events, state} ->
        _ = if job.kind == :listen, do: tell(state, :listening)
        read(state, job, events)

      # A server without such a stream answers with 405.
      {_failed, _reason, state} when job.kind == :listen ->
        {:no_stream, state}

      {:refused, status, state} ->
        {{:lost, {:http_error, status, ""}}, state}

      {:error, reason, state} ->
        {{:lost, reason}, state}
    end
  end

  defp accepted(state, job, headers) do
    _ =
      if job[:method] == "initialize",
        do: tell(state, {:session, Head.value(headers, "mcp-session-id")})

    case {job.id, type(headers)} do
      {nil, _type} ->
        {:accepted, state}

      {_id, _none} when job.elsewhere? ->
        {:accepted, state}

      {_id, "text/event-stream"} ->
        read(state, job, Events.new(state.config))

      {_id, "application/json"} ->
        json(state, job)

      {_id, type} ->
        words = "content type #{inspect(type)} in place of JSON or an event stream"
        {{:lost, {:invalid_response, words}}, Request.close(state)}
    end
  end

  defp type(headers) do
    with value when is_binary(value) <- Head.value(headers, "content-type"),
         do: value |> String.split(";") |> hd() |> String.trim() |> String.downcase()
  end

  defp json(state, job) do
    case Request.read_all(state, state.config.max_message_bytes) do
      {:ok, body, state} ->
        message = Events.message(body, state.config)
        tell(state, {:messages, [message], byte_size(body)})
        if Events.answer?(message, job.id), do: {:answered, state}, else: {no_answer(), state}

      {:error, reason, state} ->
        {{:lost, reason}, state}
    end
  end

  defp no_answer, do: {:lost, {:invalid_response, "no answer to the request"}}

  # --- Refusals ---------------------------------------------------------------------------------

  defp refused(state, job, status) do
    {body, state} =
      case Request.read_all(state, @longest_error) do
        {:ok, body, state} -> {body, state}
        {:error, _reason, state} -> {"", state}
      end

    error = rpc_error(body)

    cond do
      session_lost?(job, status, error) ->
        {:session_lost, state}

      error != nil and job.id != nil ->
        tell(state, {:messages, [{:error, job.id, error}], byte_size(body)})
        {:answered, state}

      true ->
        text = body |> Codex.Text.printable() |> String.slice(0, @longest_text)
        {{:lost, {:http_error, status, state.config.redact.(text)}}, state}
    end
  end

  # The reference server of npm answers with 400 in place of 404.
  defp session_lost?(%{session: nil}, _status, _error), do: false
  defp session_lost?(_job, 404, _error), do: true

  defp session_lost?(_job, 400, %{"code" => -32_000, "message" => text}) when is_binary(text),
    do: text =~ ~r/session/i

  defp session_lost?(_job, _status, _error), do: false

  defp rpc_error(body) do
    case JSON.decode(body, 10_000) do
      {:ok, %{"error" => %{"code" => code} = error}} when is_integer(code) -> error
      _other -> nil
    end
  end

  # --- Streams ----------------------------------------------------------------------------------

  defp open_stream(state, job, events) do
    resumed = if events.last_id, do: [{"last-event-id", events.last_id}], else: []
    get = %{job | body: nil}

    case Request.send(state, get, "GET", [{"accept", "text/event-stream"} | resumed]) do
      {:ok, status, headers, state} ->
        if status == 200 and type(headers) == "text/event-stream",
          do: {:ok, Events.reopened(events, state.config), state},
          else: {:refused, status, Request.close(state)}

      error ->
        error
    end
  end

  # Reads a stream up to the answer of the job's request.
  defp read(state, job, events) do
    case Connection.read(state.conn, :infinity) do
      {:data, bytes, conn} ->
        %{state | conn: conn} |> took(job, Events.feed(events, bytes, state.config))

      {:done, conn} ->
        %{state | conn: conn} |> broken(job, events, :closed)

      {:error, reason} ->
        state |> Request.close() |> broken(job, events, reason)
    end
  end

  defp took(state, job, {:ok, found, events}) do
    _ = endpoints(state, job, found)
    messages = for {:message, message} <- found, do: message
    _ = if messages != [], do: tell(state, {:messages, messages, events.unread})

    case ending(state, job, messages) do
      nil when messages == [] -> read(state, job, events)
      nil -> state |> await_grant() |> read(job, %{events | unread: 0})
      :answered -> {:answered, state}
      lost -> {lost, Request.close(state)}
    end
  end

  defp ending(_state, %{id: nil}, _messages), do: nil

  defp ending(state, job, messages) do
    cond do
      Enum.any?(messages, &Events.answer?(&1, job.id)) -> :answered
      Enum.any?(messages, &match?({:malformed, {:oversized, _}}, &1)) -> too_large(state)
      true -> nil
    end
  end

  defp too_large(state), do: {:lost, {:response_too_large, state.config.max_message_bytes}}

  # An old server names the URL to post to. It must be of its own origin.
  defp endpoints(state, %{kind: :endpoint} = job, found) do
    for {:endpoint, reference} <- found,
        {:ok, target} <- [Target.merge(job.target, reference)],
        Target.same_origin?(target, job.target),
        do: tell(state, {:endpoint, target})
  end

  defp endpoints(_state, _job, _found), do: []

  defp await_grant(%{tag: tag} = state), do: receive(do: ({^tag, :grant} -> state))

  defp broken(state, %{resume?: true} = job, %{last_id: id} = events, reason)
       when id != nil or job.kind == :listen,
       do: resume(state, job, events, reason)

  defp broken(state, _job, _events, reason), do: {{:lost, reason}, state}

  defp resume(state, _job, %{attempts: @most_attempts}, reason), do: {{:lost, reason}, state}

  defp resume(state, job, events, reason) do
    wait = (events.retry || @retry) * Integer.pow(2, events.attempts)
    Process.sleep(min(wait, max(events.retry || 0, @longest_wait)))
    events = %{events | attempts: events.attempts + 1}

    case open_stream(state, job, events) do
      {:ok, events, state} -> read(state, job, events)
      {:refused, status, state} -> {gone(job, status), state}
      {:error, _reason, state} -> resume(state, job, events, reason)
    end
  end

  # The server may have executed the request, so it is not sent again as refused ones are.
  defp gone(%{kind: :listen, session: session}, 404) when session != nil, do: :session_lost

  defp gone(%{session: session}, status) when session != nil and status in [400, 404],
    do: {:lost, :session_lost}

  defp gone(_job, status), do: {:lost, {:http_error, status, ""}}
end
