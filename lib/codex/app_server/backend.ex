defmodule Codex.AppServer.Backend do
  @moduledoc false
  # Runs turns of threads over a connection: checks them before they begin, steers and interrupts
  # them. `Codex.AppServer.Turn` is the turn while it runs.

  alias Codex.{AppServer, Error, FileSystem, Input, Protocol}
  alias Codex.AppServer.{Connect, Connection, Hooks, Params, ThreadParams, TurnStart}
  alias Codex.CLI.Since
  alias Codex.Exec.Secrets
  alias Codex.Hooks.Set
  alias Codex.Options.{Merge, Overrides}
  alias Codex.Review.Target
  alias Codex.Turn.{Job, Running}

  @cleaning "thread/backgroundTerminals/clean"
  @request_timeout 30_000

  @type reason ::
          ThreadParams.reason()
          | Input.reason()
          | Codex.Reason.review_target()
          | {:invalid_working_directory, Path.t()}
          | Codex.Reason.unsupported_cli()

  ## Before a turn

  @doc """
  Checks a job and adds its plan: connection, requests, and who handles the server's requests.
  """
  @spec prepare(Job.t()) :: {:ok, Job.t()} | {:error, reason()}
  def prepare(%Job{transport: {:app_server, conn}, thread: thread, settings: settings} = job) do
    about = about(conn)
    which = which(thread, settings)

    with :ok <- matches(about, thread.codex_opts, settings),
         :ok <- takes(which, settings, job.turn_opts),
         :ok <- storable(about, settings),
         {:ok, hooks} <- hooks(which, conn, about, job),
         {:ok, begin} <- begin(job, about.files),
         :ok <- directory(settings.working_directory, about.files),
         :ok <- exists(job, about),
         {:ok, sent} <- ThreadParams.new(settings, job.turn_opts),
         {:ok, turn} <- turn_params(job.task, sent),
         {:ok, params} <- thread_params(which, sent),
         :ok <- has(about.lacks, params),
         :ok <- has(about.lacks, {elem(begin, 0), turn}) do
      start = %{
        thread: which,
        begin: begin,
        sent: sent,
        turn: turn,
        params: params,
        items: job.history,
        working_directory: settings.working_directory,
        verify: nil
      }

      handler = handler(thread, settings)
      {:ok, %{job | plan: %{conn: conn, start: start, handler: handler, hooks: hooks}}}
    end
  end

  # The session files are on another machine. If the connection is down, nothing is known.
  defp storable(about, _settings) when not is_map_key(about, :cwd), do: :ok

  defp storable(%{files: :remote}, %{session_store: store}) when store != nil,
    do: {:error, {:unsupported_option, :session_store, :remote}}

  defp storable(_about, _settings), do: :ok

  defp turn_params({:review, _target}, _sent), do: {:ok, {%{}, []}}
  defp turn_params(_run, sent), do: ThreadParams.turn(sent)

  # Nothing of a turn is sent if the CLI lacks a part of it.
  defp has(_lacks, nil), do: :ok
  defp has(lacks, {method, {params, _experimental}}), do: Since.check(lacks, method, params)

  # Only the request that will be sent is built.
  defp thread_params(:start, sent), do: thread_params("thread/start", sent)
  defp thread_params({:resume, _id}, sent), do: thread_params("thread/resume", sent)
  defp thread_params({:fork, _id}, sent), do: thread_params("thread/fork", sent)

  defp thread_params(method, sent) when is_binary(method),
    do: with({:ok, params} <- ThreadParams.thread(sent, method), do: {:ok, {method, params}})

  defp thread_params(_loaded_or_last, _sent), do: {:ok, nil}

  @doc "Returns how an attempt starts its turn."
  @spec start(Job.t(), Codex.Turn.Transport.how()) :: TurnStart.t()
  # The thread has the images of the turn.
  def start(job, {:resume, id, prompt}) do
    begin = {"turn/start", %{"input" => Params.user_input(prompt)}}
    %{job.plan.start | thread: {:loaded, id}, begin: begin}
  end

  # The newest thread may be another one by now.
  def start(%{plan: %{start: %{thread: {:last, _}} = start}}, {:repeat, id}) when is_binary(id),
    do: %{start | thread: {:loaded, id}}

  def start(job, _how), do: job.plan.start

  defp which(%{thread_id: id, transport_ref: ref, transport: {_, conn}}, _settings)
       when is_binary(id) do
    if ref != nil and ref == Connection.whereis(conn), do: {:loaded, id}, else: {:resume, id}
  end

  defp which(%{resume: :last}, settings),
    do: {:last, if(settings.resume_all != true, do: settings.working_directory)}

  defp which(%{fork_of: id}, _settings) when is_binary(id), do: {:fork, id}
  defp which(_thread, _settings), do: :start

  # The server resumes no thread as ephemeral, and a loaded thread keeps its configuration.
  defp takes({how, _}, %{ephemeral: true}, _turn) when how in [:resume, :last],
    do: {:error, {:unsupported_option, :ephemeral, :resume}}

  defp takes({:loaded, _}, _settings, turn) do
    if option = ThreadParams.not_of_loaded(turn),
      do: {:error, {:unsupported_option, option}},
      else: :ok
  end

  defp takes(_which, _settings, _turn), do: :ok

  # The server calls hooks through a socket of this machine, and knows their events since it has
  # loaded the thread.
  defp hooks(which, conn, about, %{settings: settings} = job) do
    case Codex.Hooks.Turn.hooks(settings, :app_server, %{
           telemetry_prefix: settings.telemetry_prefix
         }) do
      nil ->
        {:ok, nil}

      set ->
        # What a CLI lacks before this version says whether it runs the hooks.
        with :ok <- Since.check(about.lacks, "hooks/list", %{"threadId" => ""}),
             do: hooks(set, which, Connection.whereis(conn), about, job)
    end
  end

  defp hooks(set, {how, id}, conn, %{files: :local}, job)
       when how in [:loaded, :resume] and is_pid(conn) do
    if Hooks.whereis(conn, id) == nil or Set.events(set) -- Hooks.events(conn, id) == [],
      do: {:ok, set},
      else: {:error, {:unsupported_option, of_hooks(job), :loaded}}
  end

  defp hooks(set, _which, conn, %{files: :local}, _job) when is_pid(conn) or conn == nil,
    do: {:ok, set}

  defp hooks(_set, _which, _conn, _remote, job),
    do: {:error, {:unsupported_option, of_hooks(job), :remote}}

  @of_hooks [until: nil, budget: nil, redact: [], hooks: []]

  # Named by the turn, else by the thread.
  defp of_hooks(job) do
    all = for {name, none} <- @of_hooks, job.settings[name] != none, do: name
    Enum.find(all, hd(all), &(job.turn_opts[&1] not in [nil, []]))
  end

  # Facts of the connection. If it is down, the turn fails when it runs, and nothing is checked
  # against it.
  defp about(conn) do
    case Connection.call(conn, :about) do
      {:ok, about} -> about
      {:error, _down} -> %{client: nil, experimental_api: true, files: :remote, lacks: nil}
    end
  end

  # Options of the thread that only the start of the server could have set.
  defp matches(%{client: nil}, _client, _settings), do: :ok

  defp matches(about, client, settings),
    do: differs(about, Connect.fingerprint(client), settings.clean_background == true)

  defp differs(%{experimental_api: false}, _client, true),
    do: {:error, {:experimental, [@cleaning]}}

  defp differs(%{client: theirs}, ours, _clean?) do
    Enum.find_value(ours, :ok, fn {name, value} ->
      if theirs[name] != value, do: {:error, {:unsupported_option, name}}
    end)
  end

  # The method that begins the turn, and its parameters but for the thread.
  defp begin(%{task: {:run, :continue}}, _files), do: {:ok, {"turn/start", %{"input" => []}}}

  defp begin(%{task: {:run, input}, settings: settings}, files) do
    with {:ok, blocks} <- input(input, files),
         {:ok, images} <- images(settings.images, files) do
      images = Enum.map(images, &%{"type" => "localImage", "path" => &1})
      {:ok, {"turn/start", %{"input" => blocks ++ images}}}
    end
  end

  # A review runs with the options of its thread.
  defp begin(%{task: {:review, target}, settings: settings, turn_opts: turn_opts}, _files) do
    if option = ThreadParams.not_of_review(settings, turn_opts),
      do: {:error, {:unsupported_option, option}},
      else: {:ok, {"review/start", %{"target" => Params.review_target(target)}}}
  end

  # A remote server has other repositories. If a server is down, the turn fails when it runs.
  defp exists(%{task: {:review, target}} = job, %{files: :local, cwd: cwd}),
    do: Target.exists(target, directory(job) || cwd)

  defp exists(_job, _about), do: :ok

  # The folder of the thread: the server knows those of threads that have begun.
  defp directory(%{settings: %{working_directory: dir}}) when is_binary(dir), do: dir

  defp directory(%{thread: thread, transport: {:app_server, conn}}) do
    with id when is_binary(id) <- thread.thread_id || thread.fork_of,
         {:ok, %{"thread" => %{"cwd" => cwd}}} when is_binary(cwd) <-
           Connection.request(conn, "thread/read", %{"threadId" => id}),
         do: cwd,
         else: (_ -> nil)
  end

  defp directory(_dir, :remote), do: :ok
  defp directory(dir, :local), do: FileSystem.working_directory(dir)

  defp input(input, files) do
    with {:ok, blocks} <- Input.blocks(input),
         {:ok, _} <- Protocol.check("TurnStartParams", %{"threadId" => "", "input" => blocks}),
         paths = for(%{"type" => "localImage", "path" => path} <- blocks, do: path),
         {:ok, _} <- images(paths, files),
         do: {:ok, blocks}
  end

  # The server of `connect_remote/2` reads its own disk.
  defp images(images, :local), do: Input.existing_images(images)
  defp images(images, :remote), do: {:ok, images}

  defp handler(thread, settings) do
    %{
      policy: settings.approval_hook || settings.approval_policy,
      request_handler: settings.request_handler,
      tools: settings.tools || [],
      context: %{thread: thread, metadata: thread.metadata, transport: :app_server},
      timeout_ms: settings.approval_timeout_ms
    }
  end

  @doc "Returns the secrets of the client and the thread. The server may have others."
  @spec secrets(Job.t()) :: [String.t()]
  def secrets(%Job{settings: settings}) do
    {vars, servers} = of_servers(settings)

    System.get_env()
    |> Map.merge(settings.env)
    |> Map.put("api_key", settings.api_key)
    |> Map.merge(vars)
    |> Error.Redact.secrets(servers)
  end

  defp of_servers(settings) do
    tables =
      for name <- [:mcp_servers, :model_providers],
          {id, table} <- settings[name] || %{},
          {:ok, value} = Overrides.value(table),
          do: {[Atom.to_string(name), id], value}

    case Secrets.hide(tables ++ settings.config ++ settings.config_overrides) do
      {:ok, hidden} -> {hidden.vars, hidden.servers}
      {:error, _not_for_exec} -> {%{}, %{}}
    end
  end

  @doc "Returns the home of the connection's server, or nil."
  @spec home(Job.t()) :: Path.t() | nil
  def home(%Job{transport: {:app_server, conn}}) do
    case AppServer.server_info(conn) do
      {:ok, %{"codexHome" => home}} -> home
      _unknown -> nil
    end
  end

  @doc "Returns the account of a connection's limits; that of the client if the connection is down."
  @spec account(Job.t() | Codex.Thread.t()) :: String.t()
  def account(%Job{thread: thread}), do: account(thread)

  def account(%{transport: {:app_server, conn}, codex_opts: client}) do
    case Connection.call(conn, :account) do
      {:ok, account} -> account
      {:error, _} -> AppServer.account(client)
    end
  end

  @doc "Returns the credential that the connection's server would use for this thread."
  @spec preflight(struct()) ::
          {:ok, Codex.Auth.Preflight.t()}
          | {:error, Codex.Config.Error.t() | reason() | {:unsupported, :remote}}
  def preflight(%{transport: {:app_server, conn}} = thread) do
    with {:ok, settings} <- Merge.settings(thread.codex_opts, thread.thread_opts, %{}),
         {:ok, sent} <- ThreadParams.new(settings, %{}),
         {:ok, {params, _experimental}} <- ThreadParams.thread(sent, "thread/start"),
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
    {:ok, overrides} = params |> Map.get("config", %{}) |> Map.merge(provider) |> Overrides.new()
    {:ok, arguments} = Overrides.arguments(overrides)
    arguments
  end

  ## While a turn runs

  @type steer_reason ::
          Codex.Reason.turn() | Input.reason() | AppServer.reason()

  @doc "Sends more input to the turn that runs in a thread, within the thread's request timeout."
  @spec steer(Codex.Thread.t(), Input.t()) :: :ok | {:error, steer_reason()}
  def steer(%{transport: {:app_server, conn}} = thread, input) do
    left = left(thread)
    ask = &Connection.request(conn, &1, &2, [timeout_ms: left.()] ++ Keyword.drop(&3, [:follow]))

    with id when is_binary(id) <- Running.thread_id(thread),
         {:ok, input} <- input(input, about(conn).files),
         {:ok, {turn_id, _active}} <- running(conn, id),
         :ok <- skills(id, input, ask),
         params = %{"threadId" => id, "expectedTurnId" => turn_id, "input" => input},
         {:ok, _} <- ask.("turn/steer", params, []) do
      :ok
    else
      nil -> {:error, :missing_thread_id}
      {:error, reason} -> {:error, reason}
    end
  end

  # All requests of a call together take no longer than this.
  defp left(thread) do
    deadline = now() + (thread.thread_opts.request_timeout_ms || @request_timeout)
    fn -> max(deadline - now(), 1) end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp skills(thread_id, input, ask) do
    with {:error, {:skill, text}} <- TurnStart.skills(input, nil, thread_id, ask),
         do: {:error, {:invalid_input, text}}
  end

  defp running(conn, thread_id) do
    with {:ok, nil} <- Connection.call(conn, {:running, thread_id}),
         do: {:error, {:no_turn, thread_id}}
  end

  @doc """
  Interrupts the turn that runs in a thread, within the thread's request timeout; with `clean?`,
  also ends the commands that it left running in the background.
  """
  @spec interrupt(Codex.Thread.t(), boolean()) ::
          :ok | {:error, :missing_thread_id | {:no_turn, String.t()} | AppServer.reason()}
  def interrupt(%{transport: {:app_server, conn}} = thread, clean?) do
    left = left(thread)

    with id when is_binary(id) <- Running.thread_id(thread),
         :ok <- may_clean(conn, clean?),
         {:ok, result} <- Connection.call(conn, {:interrupt, id, [timeout_ms: left.()]}),
         {:ok, _} <- result do
      if clean?, do: clean(conn, id, left.()), else: :ok
    else
      nil -> {:error, :missing_thread_id}
      {:error, reason} -> {:error, reason}
    end
  end

  # Before anything is interrupted.
  defp may_clean(conn, true) do
    case about(conn) do
      %{experimental_api: false} -> {:error, {:experimental, [@cleaning]}}
      _other -> :ok
    end
  end

  defp may_clean(_conn, false), do: :ok

  # Commands of a thread that outlive an interrupted turn. Experimental.
  defp clean(conn, thread_id, timeout_ms) do
    {method, params} = cleaning(thread_id)
    opts = [timeout_ms: timeout_ms, experimental: [method]]
    with {:ok, _} <- Connection.request(conn, method, params, opts), do: :ok
  end

  @doc "Returns the request that ends commands which outlive an interrupted turn."
  @spec cleaning(String.t()) :: {method :: String.t(), params :: map()}
  def cleaning(thread_id), do: {@cleaning, %{"threadId" => thread_id}}
end
