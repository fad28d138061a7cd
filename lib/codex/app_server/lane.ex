defmodule Codex.AppServer.Lane do
  @moduledoc false
  # A turn of a thread over a connection, as the same stream of elements that `Codex.Exec` gives: what is checked, what is told to
  # telemetry, and what happens after a failure, is that of both lanes.

  alias Codex.{AppServer, Error, Input, Protocol, Telemetry, Tool, Turn}
  alias Codex.AppServer.{Connect, Connection, Opening, Params, Reach, Run}
  alias Codex.Exec.{Images, Secrets}
  alias Codex.Exec.Reach, as: Settings
  alias Codex.Options.Overrides
  alias Codex.Retry.Attempts
  alias Codex.Review.Target
  alias Codex.Telemetry.Span
  alias Codex.Turn.Running

  @type reason ::
          Reach.reason()
          | {:invalid_input, term()}
          | {:input_too_large, pos_integer(), pos_integer()}
          | Target.reason()
          | {:image_not_found, Path.t()}
          | {:image_too_large, Path.t(), pos_integer()}
          | {:invalid_working_directory, Path.t()}

  @doc """
  Everything is checked here; the stream only runs. As `Codex.Exec.stream/4`: a turn that is lost raises, or (`:element`) ends with
  `{:failed, exception}`, and `{:attempts, n}` before that or before the end of a failed turn.
  """
  @spec stream(
          {:run | :review, term()},
          struct(),
          map(),
          String.t() | nil,
          timeout() | nil,
          :raise | :element
        ) ::
          {:ok, Enumerable.t()} | {:error, reason()}
  def stream(what, thread, turn_opts, run_token, default_timeout, lost) do
    {:app_server, conn} = thread.transport
    settings = Settings.settings(thread.codex_opts, thread.thread_opts, turn_opts)

    about = about(conn)
    which = which(thread, settings)

    with :ok <- Turn.check_reader(turn_opts, default_timeout != nil, lost),
         :ok <- fits(about, thread.codex_opts, settings),
         :ok <- takes(which, settings, turn_opts),
         {:ok, begin} <- begin(what, settings, turn_opts, about.files),
         :ok <- directory(settings.working_directory, about.files),
         :ok <- exists(what, about, thread, settings),
         {:ok, reach} <- Reach.all(settings, turn_opts) do
      job = %{
        conn: conn,
        thread: which,
        begin: begin,
        reach: reach,
        settings: settings,
        handler: handler(thread, settings),
        tokens: List.wrap(settings.cancellation_token) ++ List.wrap(run_token),
        about: Running.about(thread.transport, thread, what, settings),
        secrets: secrets(settings)
      }

      if Telemetry.listening?() do
        run = fn _about -> attempts(job, default_timeout, :element) end
        {:ok, Span.observe(run, Span.about(:app_server, thread, elem(what, 1), settings), lost)}
      else
        {:ok, attempts(job, default_timeout, lost)}
      end
    end
  end

  @doc "Tells which credential the connection's server would use for this thread."
  @spec preflight(struct()) ::
          {:ok, Codex.Auth.Preflight.t()}
          | {:error, Codex.Config.Error.t() | reason() | {:unsupported, :remote}}
  def preflight(%{transport: {:app_server, conn}} = thread) do
    settings = Settings.settings(thread.codex_opts, thread.thread_opts, %{})

    with {:ok, %{threads: %{"thread/start" => params}}} <- Reach.all(settings, %{}),
         {:ok, surroundings} when surroundings != nil <- Connection.call(conn, :surroundings),
         {:ok, %{"codexHome" => home}} <- AppServer.server_info(conn) do
      opts = surroundings.()
      overrides = opts[:overrides] ++ overrides(params)
      cwd = settings.working_directory || opts[:cwd]

      Codex.Auth.preflight(
        [lane: :app_server, codex_home: home] ++
          Keyword.merge(opts, overrides: overrides, cwd: cwd)
      )
    else
      {:ok, _remote} -> {:error, {:unsupported, :remote}}
      error -> error
    end
  end

  # The thread's own configuration, as `-c` would set it.
  defp overrides(params) do
    provider = if id = params["modelProvider"], do: %{"model_provider" => id}, else: %{}
    {:ok, told} = params |> Map.get("config", %{}) |> Map.merge(provider) |> Overrides.new()
    {:ok, arguments} = Overrides.arguments(told)
    arguments
  end

  @doc "The process of a connection, or nil: what a thread has been begun, resumed or forked on."
  @spec connection(GenServer.server()) :: pid() | {atom(), node()} | nil
  def connection(conn), do: Connection.whereis(conn)

  @doc "The account of a connection's limits; that of the client where it is gone."
  @spec account(GenServer.server(), Codex.Options.t()) :: String.t()
  def account(conn, client) do
    case Connection.call(conn, :account) do
      {:ok, account} -> account
      {:error, _} -> AppServer.account(client)
    end
  end

  @type steer_reason ::
          :missing_thread_id
          | {:no_turn, String.t()}
          | {:invalid_input, term()}
          | {:input_too_large, pos_integer(), pos_integer()}
          | AppServer.reason()

  @doc "More input for the turn of a thread that runs, within a time; nil is that of a request."
  @spec steer(GenServer.server(), String.t() | nil, term(), pos_integer() | nil) ::
          :ok | {:error, steer_reason()}
  def steer(_conn, nil, _input, _timeout), do: {:error, :missing_thread_id}

  def steer(conn, thread_id, input, timeout) do
    ask = ask(conn, timeout)

    with {:ok, input} <- input(input, [], about(conn).files),
         {:ok, {turn_id, _active}} <- running(conn, thread_id),
         :ok <- skills(thread_id, input, ask),
         params = %{"threadId" => thread_id, "expectedTurnId" => turn_id, "input" => input},
         {:ok, _} <- ask.("turn/steer", params, []),
         do: :ok
  end

  # Requests that take no longer than this, all together.
  defp ask(conn, timeout) do
    left = left(timeout)
    &Connection.request(conn, &1, &2, [timeout_ms: left.()] ++ &3)
  end

  defp left(timeout) do
    deadline = now() + (timeout || 30_000)
    fn -> max(deadline - now(), 1) end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp skills(thread_id, input, ask) do
    with {:error, {:skill, text}} <- Opening.skills(input, %{}, thread_id, ask),
         do: {:error, {:invalid_input, text}}
  end

  defp running(conn, thread_id) do
    with {:ok, nil} <- Connection.call(conn, {:running, thread_id}),
         do: {:error, {:no_turn, thread_id}}
  end

  @doc """
  Ends the turn of a thread that runs, within a time as `steer/4`; with `clean?`, also what it left
  running in the background.
  """
  @spec interrupt(GenServer.server(), String.t() | nil, boolean(), pos_integer() | nil) ::
          :ok | {:error, :missing_thread_id | {:no_turn, String.t()} | AppServer.reason()}
  def interrupt(_conn, nil, _clean?, _timeout), do: {:error, :missing_thread_id}

  def interrupt(conn, thread_id, clean?, timeout) do
    left = left(timeout)

    with :ok <- may_clean(conn, clean?),
         {:ok, result} <- Connection.call(conn, {:interrupt, thread_id, [timeout_ms: left.()]}),
         {:ok, _} <- result,
         do: if(clean?, do: Run.clean(conn, thread_id, left.()), else: :ok)
  end

  # Before anything is interrupted.
  defp may_clean(conn, true) do
    with %{experimental_api: false} <- about(conn),
         do: {:error, {:experimental, [Run.cleaning()]}},
         else: (_ -> :ok)
  end

  defp may_clean(_conn, false), do: :ok

  # --- What to run ------------------------------------------------------------------------------------------------------

  defp which(%{thread_id: id, transport_ref: ref, transport: {_, conn}}, _settings)
       when is_binary(id) do
    if ref != nil and ref == connection(conn), do: {:loaded, id}, else: {:resume, id}
  end

  defp which(%{resume: :last}, settings),
    do: {:last, if(settings.resume_all != true, do: settings.working_directory)}

  defp which(%{fork_of: id}, _settings) when is_binary(id), do: {:fork, id}
  defp which(_thread, _settings), do: :start

  # The server resumes no thread as ephemeral, and a loaded thread keeps its configuration.
  defp takes({how, _}, %{ephemeral: true}, _turn) when how in [:resume, :last],
    do: {:error, {:unsupported_option, :ephemeral, :resume}}

  defp takes({:loaded, _}, _settings, turn) do
    if option = Reach.not_of_loaded(turn),
      do: {:error, {:unsupported_option, option}},
      else: :ok
  end

  defp takes(_which, _settings, _turn), do: :ok

  # What a connection is for. One that is gone says so when the turn runs, so nothing is checked
  # against it.
  defp about(conn) do
    case Connection.call(conn, :about) do
      {:ok, about} -> about
      {:error, _gone} -> %{client: nil, experimental_api: true, files: :remote}
    end
  end

  # What the connection's server cannot do for this thread.
  defp fits(%{client: nil}, _client, _settings), do: :ok

  defp fits(about, client, settings),
    do: differs(about, Connect.fingerprint(client), settings.clean_background == true)

  defp differs(%{experimental_api: false}, _client, true),
    do: {:error, {:experimental, [Run.cleaning()]}}

  defp differs(%{client: theirs}, ours, _clean?) do
    Enum.find_value(ours, :ok, fn {name, value} ->
      if theirs[name] != value, do: {:error, {:unsupported_option, name}}
    end)
  end

  # How the turn begins: the method, and its parameters but for the thread.
  defp begin({:run, input}, settings, _turn_opts, files) do
    with {:ok, input} <- input(input, settings.images, files),
         do: {:ok, {"turn/start", %{"input" => input}}}
  end

  # What it runs with, the thread says.
  defp begin({:review, target}, settings, turn_opts, _files) do
    cond do
      settings.images != [] ->
        {:error, {:unsupported_option, :images}}

      option = Reach.not_of_review(settings, turn_opts) ->
        {:error, {:unsupported_option, option}}

      true ->
        with :ok <- Target.form(target),
             do: {:ok, {"review/start", %{"target" => Params.review_target(target)}}}
    end
  end

  # A server elsewhere has other repositories, and one that is gone says so when the turn runs.
  defp exists({:review, target}, %{files: :local, cwd: cwd}, thread, settings),
    do: Target.exists(target, place(thread, settings) || cwd)

  defp exists(_what, _about, _thread, _settings), do: :ok

  # Where the thread works: the server knows of those that have begun.
  defp place(_thread, %{working_directory: dir}) when is_binary(dir), do: dir

  defp place(%{transport: {:app_server, conn}} = thread, _settings) do
    with id when is_binary(id) <- thread.thread_id || thread.fork_of,
         {:ok, %{"thread" => %{"cwd" => cwd}}} when is_binary(cwd) <-
           Connection.request(conn, "thread/read", %{"threadId" => id}),
         do: cwd,
         else: (_ -> nil)
  end

  defp input(input, images, files)
       when (is_binary(input) and input != "") or is_list(input) do
    blocks = Params.user_input(input)

    with :ok <- blocks(blocks, input, files),
         {:ok, images} <- images(images, files),
         do: {:ok, blocks ++ Enum.map(images, &%{"type" => "localImage", "path" => &1})}
  end

  defp input(other, _images, _files), do: {:error, {:invalid_input, other}}

  # The server of `connect_remote/2` reads its own disk.
  defp images(images, :local), do: Images.existing(images)
  defp images(images, :remote), do: {:ok, images}

  defp blocks([_ | _] = blocks, input, files) do
    cond do
      List.improper?(blocks) ->
        {:error, {:invalid_input, input}}

      Enum.any?(blocks, &not_utf8?/1) ->
        {:error, {:invalid_input, :not_utf8}}

      true ->
        with :ok <- checked(blocks, files),
             do: Input.fits(for %{"text" => text} <- blocks, do: text)
    end
  end

  defp blocks(_none, input, _files), do: {:error, {:invalid_input, input}}

  defp not_utf8?(%{"text" => text}) when is_binary(text), do: not String.valid?(text)
  defp not_utf8?(_block), do: false

  defp checked(blocks, files) do
    case Protocol.check("TurnStartParams", %{"threadId" => "", "input" => blocks}) do
      {:ok, _} ->
        paths = for %{"type" => "localImage", "path" => path} <- blocks, do: path
        with {:ok, _} <- images(paths, files), do: :ok

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp directory(dir, files) when dir == nil or files == :remote, do: :ok

  defp directory(dir, :local),
    do: if(Codex.FileSystem.dir?(dir), do: :ok, else: {:error, {:invalid_working_directory, dir}})

  defp handler(thread, settings) do
    %{
      policy: settings.approval_hook || settings.approval_policy,
      request_handler: settings.request_handler,
      tools:
        for(
          m <- settings.tools || [],
          {:ok, tool} = Tool.new(m),
          into: %{},
          do: {tool.name, tool}
        ),
      context: %{thread: thread, metadata: thread.metadata, transport: :app_server},
      timeout_ms: settings.approval_timeout_ms
    }
  end

  # What the server was started with is known here only where it is the thread's own client.
  defp secrets(settings) do
    own = %{"api_key" => settings.api_key}
    {vars, servers} = of_servers(settings)

    System.get_env()
    |> Map.merge(settings.env)
    |> Map.merge(own)
    |> Map.merge(vars)
    |> Error.Redact.secrets(servers)
  end

  defp of_servers(settings) do
    tables = Settings.tables(settings) ++ settings.config ++ settings.config_overrides

    case Secrets.hide(tables) do
      {:ok, hidden} -> {hidden.vars, hidden.servers}
      {:error, _not_for_exec} -> {%{}, %{}}
    end
  end

  # --- How often --------------------------------------------------------------------------------------------------------

  defp attempts(job, default_timeout, lost) do
    account = fn -> account(job.conn, job.handler.context.thread.codex_opts) end

    kind = if elem(job.begin, 0) == "review/start", do: :review, else: :run

    case Attempts.plan(job.settings, job.tokens, kind, account) do
      nil ->
        next = if lost == :raise, do: &Run.next/1, else: &Run.next_or_failure/1
        Stream.resource(fn -> Run.start(job, default_timeout) end, next, &Run.stop/1)

      plan ->
        Attempts.stream(source(job, default_timeout), plan, lost)
    end
  end

  defp source(job, default_timeout) do
    %{
      start: fn how, call -> {:ok, Run.start(again(how, job), default_timeout, call)} end,
      next: &Run.next_or_failure/1,
      stop: &Run.stop/1,
      about: job.about
    }
  end

  # The thread has the images of the turn.
  defp again({:resume, id}, job) do
    opts = Codex.Retry.Options.check!(job.settings.retry_opts || [])

    %{
      job
      | thread: {:loaded, id},
        begin: {"turn/start", %{"input" => Params.user_input(opts.resume_prompt)}}
    }
  end

  # The newest thread may be another one by now.
  defp again({:repeat, id}, %{thread: {:last, _}} = job) when is_binary(id),
    do: %{job | thread: {:loaded, id}}

  defp again(_how, job), do: job
end
