defmodule Codex.Threads do
  @moduledoc """
  Lists, reads and manages the threads stored on an app-server.

      conn |> Codex.Threads.list(cwd: "/srv/app") |> Enum.take(20)

      # Continues the newest thread.
      [%{"id" => id} | _] = conn |> Codex.Threads.list() |> Enum.take(1)
      {:ok, thread} = Codex.resume_thread(id, [], transport: {:app_server, conn})
      {:ok, result} = Codex.Thread.run(thread, "And then?")

      :ok = Codex.Threads.rename(thread, "Release notes")
      :ok = Codex.Threads.archive(thread)

  A `thread` is a `Codex.Thread` with the transport `{:app_server, conn}` or `{:pool, name}` that
  has begun, or `{conn, thread_id}`. Methods that need a loaded thread resume it first.

  ## Errors

  Functions return `{:error, reason}`:

    * `:missing_thread_id` - the thread has not begun
    * `Codex.OptionError` - the argument is not a thread, or an option is invalid
    * `{:unsupported, :exec}` - the thread runs its turns with `codex exec`
    * a map with `"code"` and `"message"` - the server's error: the thread does not exist, is
      archived, …
    * the reasons of `Codex.AppServer` for options, timeouts and a lost connection

  The lazy lists raise `Codex.Error`: immediately for an invalid thread or invalid options,
  otherwise when they are read.
  """

  alias Codex.{AppServer, Error, OptionError, Thread}
  alias Codex.AppServer.{Compaction, Connection, SearchStream, TurnStart}
  alias Codex.Options.Schema
  alias Codex.Pool.Turn, as: PoolTurn

  @typedoc "A thread over an app-server, or a connection and the id of a thread."
  @type thread :: Thread.t() | {AppServer.conn(), String.t()}
  @typedoc "Why a call failed: a thread without id, a thread of `codex exec`, or a failed request."
  @type reason :: :missing_thread_id | {:unsupported, :exec} | AppServer.reason()

  # --- Lists --------------------------------------------------------------------------------------

  @doc """
  Streams the threads of a server lazily, the newest first, each once. The next page is requested
  when it is read.

  A thread is a map with string keys: `"id"`, `"name"` (nil without a name), `"preview"` (the first
  words of the user), `"cwd"`, `"createdAt"` and `"updatedAt"` (seconds since 1970), `"source"`
  (`"cli"`, `"exec"`, `"appServer"`, `"vscode"`, or a map for an agent's own thread), and more. The
  CLI names threads that this package began over an app-server `"vscode"`.

  Options are those of `Codex.AppServer.thread_list/3`: `:cwd`, `:archived`, `:search_term`,
  `:sort_key`, `:sort_direction`, `:model_providers`, …; `:limit` is the size of a page.

  Lists threads of every source unless `:source_kinds` names some (`:cli`, `:exec`, `:app_server`,
  `:sub_agent`, …). `Codex.AppServer.thread_list/3` follows the server's default, which leaves out
  the threads of `codex exec`.
  """
  @spec list(AppServer.conn(), keyword() | map()) :: Enumerable.t()
  def list(conn, options \\ []) do
    conn
    |> AppServer.pages("thread/list", every_source(options))
    |> Stream.uniq_by(&Map.get(&1, "id"))
  end

  @source_kinds for {:word, word} <- elem(Codex.Protocol.types()["ThreadSourceKind"], 1), do: word

  # Invalid options are left to the check of the method.
  defp every_source(options) do
    with {:ok, pairs} <- Schema.pairs(options),
         false <- Enum.any?(pairs, &source_kinds?/1) do
      [{:source_kinds, @source_kinds} | pairs]
    else
      _ -> options
    end
  end

  defp source_kinds?({key, value}),
    do: key in [:source_kinds, "source_kinds", "sourceKinds", :sourceKinds] and value != nil

  @doc """
  Streams the turns of a thread lazily, newest first, as maps. Options are those of
  `Codex.AppServer.thread_turns_list/3`: `:sort_direction` (`:asc`, `:desc`), `:items_view`,
  `:limit`.
  """
  @spec turns(thread(), keyword() | map()) :: Enumerable.t()
  def turns(thread, options \\ []), do: pages(thread, "thread/turns/list", options)

  @doc """
  Streams the items of a thread lazily, the oldest first, as maps with `"item"` and `"turnId"`:

      for %{"item" => item} <- Codex.Threads.items(thread) do
        case item do
          %{"type" => "userMessage", "content" => content} -> {:user, content}
          %{"type" => "agentMessage", "text" => text} -> {:agent, text}
          _command_or_other -> :skip
        end
      end

  The content of a user's message is a list of maps such as `%{"type" => "text", "text" => text}`.
  Options are those of `Codex.AppServer.thread_items_list/3`: `:turn_id`, `:sort_direction`,
  `:limit`. If an older version of the CLI wrote the thread, its items are read from its turns. The
  server keeps no items of a thread with `ephemeral: true`.
  """
  @spec items(thread(), keyword() | map()) :: Enumerable.t()
  def items(thread, options \\ []) do
    paged = pages(thread, "thread/items/list", options)

    Stream.flat_map([thread], fn thread ->
      case read(thread) do
        {:ok, %{"historyMode" => "legacy"}} -> items_of_turns(thread, options)
        {:ok, %{"ephemeral" => true}} -> items_of_turns(thread, options)
        {:ok, _paginated} -> paged
        {:error, reason} -> raise Error.normalize(reason)
      end
    end)
  end

  # The server lists only the turns of such a thread.
  defp items_of_turns(thread, options) do
    {:ok, _conn, id} = ids(thread)
    {:ok, options} = pairs(options)
    options = Map.put(options, :thread_id, id)
    {:ok, wanted, _experimental} = Codex.Protocol.params("thread/items/list", options)
    direction = wanted["sortDirection"] || "asc"

    thread
    |> turns(items_view: :full, sort_direction: direction)
    |> Stream.filter(&(wanted["turnId"] in [nil, &1["id"]]))
    |> Stream.flat_map(fn %{"id" => turn, "items" => items} ->
      items = if direction == "desc", do: Enum.reverse(items), else: items
      Enum.map(items, &%{"item" => &1, "turnId" => turn})
    end)
  end

  @doc """
  Streams the threads that contain a term lazily, as the server finds them: maps with `"thread"` (as
  `list/2` has it) and `"snippet"`, each thread once. Needs CLI 0.171 or newer and a connection with
  `experimental_api: true`. Options are those of `Codex.AppServer.thread_search_stream/3`;
  `:limit` is the size of a page. A stream that is not read to its end cancels the search.

      conn |> Codex.Threads.search("release notes") |> Enum.take(3)
  """
  @spec search(AppServer.conn(), String.t(), keyword() | map()) :: Enumerable.t()
  def search(conn, term, options \\ []) do
    case Schema.pairs(options) do
      {:ok, pairs} -> SearchStream.stream(conn, Map.put(Map.new(pairs), :search_term, term))
      {:error, error} -> raise Error.normalize(error)
    end
  end

  defp pages(thread, method, options) do
    case ids(thread) do
      {:ok, conn, id} -> AppServer.pages(conn, method, options, %{"threadId" => id})
      {:error, reason} -> raise Error.normalize(reason)
    end
  end

  @doc "Reads a thread as a map, without its turns."
  @spec read(thread()) :: {:ok, map()} | {:error, reason()}
  def read(thread) do
    with {:ok, %{"thread" => known}} <- call(thread, "thread/read", %{}), do: {:ok, known}
  end

  # --- Changes ------------------------------------------------------------------------------------

  @doc "Names a thread. `Codex.resume_thread/3` takes the name in place of the id on `codex exec`."
  @spec rename(thread(), String.t()) :: :ok | {:error, reason()}
  def rename(thread, name) when is_binary(name),
    do: done(loaded(thread, "thread/name/set", %{"name" => name}))

  @doc """
  Archives a thread. Only lists with `archived: true` show it, and it cannot be resumed before
  `unarchive/1`.
  """
  @spec archive(thread()) :: :ok | {:error, reason()}
  def archive(thread), do: done(call(thread, "thread/archive", %{}))

  @doc "Restores an archived thread."
  @spec unarchive(thread()) :: :ok | {:error, reason()}
  def unarchive(thread), do: done(call(thread, "thread/unarchive", %{}))

  @doc """
  Deletes a thread and its session file permanently. The server refuses this while the thread has
  forks.
  """
  @spec delete(thread()) :: :ok | {:error, reason()}
  def delete(thread), do: done(call(thread, "thread/delete", %{}))

  @doc """
  Removes a turn and all turns after it, so that the thread continues from before that turn. Changes
  to files are not undone.

  Turn ids are in events and in `turns/2`. Returns `{:ok, map}` with the thread as in `read/1`.
  """
  @spec revert(thread(), before_turn_id :: String.t()) :: {:ok, map()} | {:error, reason()}
  def revert(thread, before_turn_id) when is_binary(before_turn_id) do
    with {:ok, %{"thread" => known}} <-
           loaded(thread, "thread/revert", %{"beforeTurnId" => before_turn_id}),
         do: {:ok, known}
  end

  @doc """
  Makes a new thread with the history of this one, up to the end of the turn `:last_turn_id` if
  given. Other options are those of `Codex.AppServer.thread_fork/3`.

  Returns `{:ok, thread}`: a `Codex.Thread` with the options of this one, or `{conn, thread_id}`.
  `Codex.fork_thread/3` forks with the first turn instead.
  """
  @spec fork(thread(), keyword() | map()) :: {:ok, thread()} | {:error, reason()}
  def fork(thread, options \\ []) do
    with {:ok, conn, id} <- ids(thread),
         {:ok, options} <- pairs(options),
         options = options |> Map.put_new(:exclude_turns, true) |> Map.put(:thread_id, id),
         {:ok, %{"thread" => %{"id" => new}}} <- AppServer.thread_fork(conn, options) do
      {:ok, forked(thread, conn, new)}
    end
  end

  @doc """
  Loads a stored thread with other settings or from another source: `:path` (a session file) or
  `:history` (response items to use instead of the stored ones), both experimental, and the other
  options of `Codex.AppServer.thread_resume/4`.

  Returns `{:ok, thread}` as `fork/2`. A `Codex.Thread` needs no call: its next turn resumes it.
  """
  @spec resume(thread(), keyword() | map()) :: {:ok, thread()} | {:error, reason()}
  def resume(thread, options \\ []) do
    with {:ok, conn, id} <- ids(thread),
         {:ok, options} <- pairs(options),
         options = Map.put_new(options, :exclude_turns, true),
         {:ok, %{"thread" => %{"id" => id}}} <- AppServer.thread_resume(conn, id, options) do
      {:ok, begun(thread, conn, id)}
    end
  end

  defp begun(%Thread{} = thread, conn, id) do
    :ok = PoolTurn.loaded(thread, conn, id)
    %{thread | thread_id: id, transport_ref: Connection.whereis(conn)}
  end

  defp begun(_pair, conn, id), do: {conn, id}

  # The usage of the new thread is not known yet.
  defp forked(%Thread{} = thread, conn, id), do: begun(Codex.Turn.reset(thread), conn, id)

  defp forked(pair, conn, id), do: begun(pair, conn, id)

  @doc """
  Compacts a thread and waits for the end: the model summarizes the history so that more fits into
  its context.

  Option: `:timeout_ms` (positive integer, default 300_000). After that time the compaction is
  interrupted, and the result is `{:error, {:timeout, "thread/compact/start", ms}}`. It is also
  interrupted when the caller ends.

  The server would interrupt a running turn, so while a turn of this connection runs in the thread,
  the result is `{:error, {:turn_running, thread_id, turn_id}}`, with `:starting` as its id before
  the server has named it. If the model fails, it is `{:error, {:turn_failed, error}}` with a
  `Codex.Error`.
  """
  @spec compact(thread(), timeout_ms: pos_integer()) ::
          :ok
          | {:error,
             reason()
             | {:turn_running, String.t(), String.t() | :starting}
             | {:turn_failed, Error.t()}}
  def compact(thread, options \\ []) do
    with {:ok, conn, id} <- ids(thread),
         {:ok, timeout} <- Compaction.timeout(options) do
      start = fn ms ->
        loaded(thread, "thread/compact/start", %{}, timeout_ms: div(ms, 3) + 1, alone: true)
      end

      Compaction.run(conn, id, timeout, start)
    end
  end

  # --- Goal and settings --------------------------------------------------------------------------

  @doc ~S[Returns the goal of a thread as a map (`"objective"`, `"status"`, …), or nil.]
  @spec goal(thread()) :: {:ok, map() | nil} | {:error, reason()}
  def goal(thread) do
    with {:ok, %{"goal" => goal}} <- loaded(thread, "thread/goal/get", %{}), do: {:ok, goal}
  end

  @doc """
  Sets the goal of a thread. The agent **begins to work on it immediately**, turn after turn, until
  the goal is complete, without a call of `Codex.Thread.run/3`. Processes that subscribed get the
  events and requests of these turns; policies and tools of a `Codex.Thread` apply only to turns
  that are run with it.

  Options: `:objective` (string), `:status` (`:active`, `:paused`, `:complete`, …), `:token_budget`
  (tokens). Returns `{:ok, goal}`.
  """
  @spec set_goal(thread(), keyword() | map()) :: {:ok, map()} | {:error, reason()}
  def set_goal(thread, options) do
    with {:ok, %{"goal" => goal}} <- checked(thread, "thread/goal/set", options),
         do: {:ok, goal}
  end

  @doc "Removes the goal."
  @spec clear_goal(thread()) :: :ok | {:error, reason()}
  def clear_goal(thread), do: done(loaded(thread, "thread/goal/clear", %{}))

  @doc """
  Changes the settings that the server keeps for a thread: `:model`, `:effort`, `:summary`, `:cwd`,
  `:approval_policy`, … as in `Codex.AppServer.thread_settings_update/3`. Needs a connection with
  `experimental_api: true`.

  `effort: :default` restores the effort of the model and the default collaboration mode. Options
  that are set in a `Codex.Thread` are sent with each turn and win.
  """
  @spec update_settings(thread(), keyword() | map()) :: :ok | {:error, reason()}
  def update_settings(thread, options) do
    with {:ok, _conn, _id} <- ids(thread), {:ok, options} <- pairs(options) do
      case options do
        %{effort: :default, collaboration_mode: _} ->
          expected =
            "an effort; beside a collaboration_mode, that has it: settings.reasoning_effort"

          {:error, OptionError.invalid(:effort, :default, expected)}

        %{effort: :default} ->
          default_effort(thread, Map.delete(options, :effort))

        _ ->
          done(checked(thread, "thread/settings/update", options))
      end
    end
  end

  # The server ignores null here; a collaboration mode resets the effort.
  defp default_effort(thread, options) do
    with {:ok, model} <- model(thread, options) do
      settings = %{model: model, reasoning_effort: nil, developer_instructions: ""}
      options = Map.put(options, :collaboration_mode, %{mode: "default", settings: settings})
      done(checked(thread, "thread/settings/update", options))
    end
  end

  defp model(_thread, %{model: model}) when model != nil, do: {:ok, model}

  defp model(thread, _options) do
    with {:ok, conn, id} <- ids(thread),
         do: TurnStart.model(id, &Connection.request(conn, &1, &2, &3))
  end

  # --- Calls --------------------------------------------------------------------------------------

  defp ids(%Thread{transport: {_app_server, _}, thread_id: nil}), do: {:error, :missing_thread_id}

  defp ids(%Thread{transport: {_app_server, _}, thread_id: id} = thread),
    do: with({:ok, conn} <- PoolTurn.connection(thread), do: {:ok, conn, id})

  defp ids(%Thread{}), do: {:error, {:unsupported, :exec}}
  defp ids({conn, id}) when is_binary(id), do: {:ok, conn, id}

  defp ids(other),
    do: {:error, OptionError.argument(:thread, other, "a Codex.Thread, or {conn, thread_id}")}

  defp call(thread, method, params, opts \\ []) do
    with {:ok, conn, id} <- ids(thread),
         do: Connection.request(conn, method, Map.put(params, "threadId", id), opts)
  end

  defp checked(thread, method, options) do
    with {:ok, _conn, id} <- ids(thread),
         {:ok, options} <- pairs(options),
         options = Map.put(options, :thread_id, id),
         {:ok, params, experimental} <- Codex.Protocol.params(method, options),
         do: loaded(thread, method, params, experimental: experimental)
  end

  # These methods work only on loaded threads, so resume first if the server does not know the id.
  defp loaded(thread, method, params, opts \\ []) do
    with {:error, %{"message" => _} = error} <- call(thread, method, params, opts) do
      if Error.normalize(error).kind == :thread_not_found,
        do: resume_and_call(thread, method, params, opts),
        else: {:error, error}
    end
  end

  defp resume_and_call(thread, method, params, opts) do
    resume = Keyword.take(opts, [:timeout_ms])

    with {:ok, _} <- call(thread, "thread/resume", %{"excludeTurns" => true}, resume),
         do: call(thread, method, params, opts)
  end

  defp pairs(options) do
    with {:ok, pairs} <- Schema.pairs(options), do: {:ok, Map.new(pairs)}
  end

  defp done({:ok, _result}), do: :ok
  defp done({:error, reason}), do: {:error, reason}
end
