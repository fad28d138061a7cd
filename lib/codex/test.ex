defmodule Codex.Test do
  @moduledoc """
  A server with a scripted model, for tests that run the real Codex CLI without login, tokens or
  network.

      defmodule MyApp.ReviewerTest do
        use ExUnit.Case, async: true
        import Codex.Test.Steps

        test "runs the tests, then reports" do
          model = Codex.Test.start!([shell("echo 3 tests, 0 failures"), "All green."])

          {:ok, thread} =
            Codex.start_thread(Codex.Test.options(model), Codex.Test.thread_options(model))

          {:ok, result} = Codex.Thread.run(thread, "Do the tests pass?")

          assert result.final_response.text == "All green."
          assert [_question, %{body: %{"input" => input}}] = Codex.Test.requests(model)
          assert List.last(input)["output"] =~ "3 tests, 0 failures"
        end
      end

  Each server listens on its own loopback port and has its own workspace and `CODEX_HOME`, whose
  configuration points the CLI to that port only. So tests can run concurrently. The configuration
  of that home applies with every `isolation` and with `ignore_user_config`, too.

  Over an app-server, pass the options of the model to the connection. Its threads may use it:

      {:ok, conn} = Codex.AppServer.connect(Codex.Test.options(model), cwd: model.workspace)
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})

  A program that makes its own client, such as a script, gets the model through its environment:

      options = Codex.Test.options(model)
      cli = %{"CODEX_HOME" => options[:codex_home], "CODEX_PATH" => options[:codex_path]}
      env = Map.merge(options[:env], cli)
      System.cmd("elixir", ["gate.exs"], cd: model.workspace, env: env)

  ## Guard

  Call `guard!/0` in `test_helper.exs`: a test without a scripted model then gets an error, and
  never uses the login, the configuration or the provider of the developer.

      Codex.Test.guard!()
      ExUnit.start()

  ## Script

  A script is a list of steps (see `Codex.Test.Steps`), one for each request of the CLI to its
  model, in order. A request after the last step is answered with status 400 and a text about it,
  which fails the turn with that text; the option `:default` gives an answer instead. `remaining/1`
  returns the number of steps left.

  Requests without a fixed place in the script (of sub-agents, compaction) are answered by
  **rules**, which are tried before the steps. A rule is a keyword list or map:

    * `:step` - the answer (required)
    * `:contains` - a string or regex that must match the request body as it was sent: JSON text
      with its escapes (default: matches all)
    * `:header` - `{name, value}` that the request must have (default: none)
    * `:times` - the number of answers of the rule, or `:infinity` (default 1)

  ## Cassettes

  A cassette is a file with the answers of a real model. `record/2` passes the requests of a live
  run on, once, and writes the file; `replay/2` answers the same requests from it, without a
  network.

      @cassette "test/cassettes/greet.jsonl"

      defp model do
        if System.get_env("RECORD"),
          do: Codex.Test.record(@cassette, upstream: "https://api.openai.com/v1", headers: login()),
          else: Codex.Test.replay(@cassette)
      end

      defp login, do: [{"authorization", "Bearer " <> System.fetch_env!("OPENAI_API_KEY")}]

  ## Lifetime

  `start/2` links the server to the caller: the server ends with the test, and ExUnit waits for
  that. At its end (or with `stop/1`) its connections are closed and its directories removed. They
  are also removed, a moment later, if the server or the VM is killed or the VM halts. To put the
  server under a supervisor instead:

      model = Codex.Test.handle(start_supervised!({Codex.Test, ["Hello"]}))
      model = Codex.Test.handle(start_supervised!({Codex.Test, {["Hello"], retries: 1}}))

  ## Options

  #{Codex.Test.Config.docs()}
  """

  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}
  alias Codex.Test.{Cassette, Config, Executable, Script, Server}

  @doc """
  Refuses every home that neither `Codex.Test` nor `Codex.Home.Isolated` made, in this VM, until
  `guard!(false)`.

  Runs, connections, logins, and reads and writes of configuration and credentials return
  `{:error, %Codex.Config.Error{reason: :foreign_home}}`; functions with errors of their own wrap
  it. Servers of `Codex.AppServer.connect_remote/2` are not checked: this VM does not start them.
  """
  @spec guard!(boolean()) :: :ok
  def guard!(on? \\ true) when is_boolean(on?),
    do: Application.put_env(:codex_sdk, :guard_homes, on?)

  @enforce_keys [:pid, :url, :home, :workspace, :env]
  defstruct [:pid, :url, :home, :workspace, :env, :codex_path]

  @typedoc """
  A running server:

    * `pid` - its process
    * `url` - the base URL of its API, `"http://127.0.0.1:<port>/v1"`
    * `home` - its `CODEX_HOME`, removed when it stops
    * `workspace` - the working directory for its threads, removed when it stops
    * `env` - environment variables for the CLI
    * `codex_path` - the CLI given as `:codex_path`, or `nil`
  """
  @type t :: %__MODULE__{
          pid: pid(),
          url: String.t(),
          home: Path.t(),
          workspace: Path.t(),
          env: %{String.t() => String.t()},
          codex_path: Path.t() | nil
        }

  @typedoc "A server, given by its handle or its pid."
  @type server :: t() | pid()

  @typedoc """
  A recorded request: `path` with its query, header names in lower case (the values of a repeated
  header are joined with `", "`), `at` in milliseconds since the server started.

  `body` is the decoded JSON, with string keys. A body that is not JSON, or that has a
  content-encoding (the CLI may compress with zstd), is the received binary; a missing body is `""`.
  Bodies over 64 MiB are refused with status 413.
  """
  @type request :: %{
          method: String.t(),
          path: String.t(),
          headers: %{String.t() => String.t()},
          body: term(),
          at: non_neg_integer()
        }

  @typedoc "A rule, see the section on the script above."
  @type rule :: keyword() | map()

  @doc """
  Starts a server with `script`, linked to the caller.

  Options: see the module. Raises `Codex.OptionError` for an invalid option, `ArgumentError` for an
  invalid step. Returns a `File.Error` or `RuntimeError` if a directory cannot be made, Git fails,
  or there is no loopback port; the error also ends a caller that does not trap exits. Returns a
  `RuntimeError` if the CLI is older than 0.80.0, which this module needs.
  """
  @spec start([Codex.Test.Steps.step()], keyword()) :: {:ok, t()} | {:error, Exception.t()}
  def start(script \\ [], opts \\ []) do
    case start_link({script, opts}) do
      {:ok, pid} ->
        wait_on_exit(pid)
        {:ok, handle(pid)}

      {:error, error} ->
        {:error, error}
    end
  end

  # ExUnit does not wait for linked processes, and may halt the VM before the directories of the
  # last test are removed. Scripts use this module without ExUnit, too.
  @compile {:no_warn_undefined, ExUnit.Callbacks}
  defp wait_on_exit(pid) do
    ExUnit.Callbacks.on_exit(fn -> await_end(pid) end)
  rescue
    _none in [ArgumentError, UndefinedFunctionError] -> :ok
  end

  defp await_end(pid) do
    ref = Process.monitor(pid)

    receive do
      {:DOWN, ^ref, :process, ^pid, _reason} -> :ok
    after
      5_000 -> :ok
    end
  end

  @doc "Starts a server like `start/2`, but returns the server alone and raises if it cannot start."
  @spec start!([Codex.Test.Steps.step()], keyword()) :: t()
  def start!(script \\ [], opts \\ []) do
    case start(script, opts) do
      {:ok, t} -> t
      {:error, error} -> raise error
    end
  end

  @doc """
  Starts a server from a script or `{script, opts}` for supervisors; `handle/1` returns its handle.
  See `start/2`.
  """
  @spec start_link([Codex.Test.Steps.step()] | {[Codex.Test.Steps.step()], keyword()}) ::
          GenServer.on_start()
  def start_link(arg) do
    {_script, config} = configured = configure(arg)
    with :ok <- Executable.check(config.codex_path), do: GenServer.start_link(Server, configured)
  end

  @doc """
  Returns a child specification without restart, because a new server would have another port. The
  id is `Codex.Test`; a second server under the same supervisor needs another id:
  `Supervisor.child_spec({Codex.Test, script}, id: :second)`.
  """
  @spec child_spec([Codex.Test.Steps.step()] | {[Codex.Test.Steps.step()], keyword()}) ::
          Supervisor.child_spec()
  def child_spec(arg) do
    # Raises here, in the caller, and not in the supervisor.
    _checked = configure(arg)
    %{id: __MODULE__, start: {__MODULE__, :start_link, [arg]}, restart: :temporary}
  end

  defp configure({script, opts}) do
    config = Config.new!(opts)
    {Script.new(script, config.rules, config.default), config}
  end

  defp configure(script), do: configure({script, []})

  @doc "Returns the handle of the server with process `pid`."
  @spec handle(server()) :: t()
  def handle(%__MODULE__{} = t), do: t
  def handle(server), do: struct!(__MODULE__, GenServer.call(pid(server), :handle))

  @doc "Stops the server. Its connections are closed and its directories removed when this returns."
  @spec stop(server()) :: :ok
  def stop(server), do: GenServer.stop(pid(server))

  @doc """
  Returns the first argument of `Codex.start_thread/2`, and of `Codex.AppServer.connect/2` for
  threads over an app-server: `:codex_home`, `:env`, and `:codex_path` if a CLI was given or found
  (see `codex_path/0`). The variables set the shell's `HOME` to an empty directory, and keep proxies
  away from loopback.
  """
  @spec options(server()) :: keyword()
  def options(server) do
    t = handle(server)

    case t.codex_path || Executable.find() do
      {:ok, path} -> [codex_home: t.home, env: t.env, codex_path: path]
      {:error, _message} -> [codex_home: t.home, env: t.env]
      given -> [codex_home: t.home, env: t.env, codex_path: Path.expand(given)]
    end
  end

  @doc """
  Returns the second argument of `Codex.start_thread/2`: the workspace, which is not a Git
  repository unless the server was started with `git: true`. Append your own options:
  `Codex.Test.thread_options(model) ++ [sandbox: :workspace_write]`.
  """
  @spec thread_options(server()) :: keyword()
  def thread_options(server),
    do: [working_directory: handle(server).workspace, skip_git_repo_check: true]

  @doc "Returns all requests so far, oldest first, also those for model lists and unknown paths."
  @spec requests(server()) :: [request()]
  def requests(server), do: GenServer.call(pid(server), :requests)

  @doc """
  Waits for the next model request (`POST …/responses`) and returns it. Each request is returned
  once, in order; a request that has arrived already is returned immediately. `timeout` is in
  milliseconds or `:infinity`.
  """
  @spec await_request(server(), timeout()) :: {:ok, request()} | {:error, :timeout}
  def await_request(server, timeout \\ 5_000),
    do: GenServer.call(pid(server), {:await, timeout}, :infinity)

  @doc "Adds a step, or a list of steps, to the end of the script."
  @spec push(server(), [Codex.Test.Steps.step()] | Codex.Test.Steps.step()) :: :ok
  def push(server, steps) do
    steps = steps |> List.wrap() |> Enum.map(&Script.step!/1)
    GenServer.call(pid(server), {:push, steps})
  end

  @doc "Returns the number of steps that were not used yet."
  @spec remaining(server()) :: non_neg_integer()
  def remaining(server), do: GenServer.call(pid(server), :remaining)

  @doc """
  Finds the Codex CLI for tests in the first of these places: the environment variable `CODEX_PATH`
  or `CODEX_BINARY`; the native program in `.codex-cli/node_modules` under the current directory;
  `codex` on the `PATH`. The error is a sentence with the command to install the CLI.
  """
  @spec codex_path() :: {:ok, Path.t()} | {:error, String.t()}
  def codex_path, do: Executable.find()

  @record Schema.new([
            {:upstream, :string, "the base URL of the provider's API", required: true},
            {:headers, {:list, :any}, "headers for the provider, such as its credential",
             default: [], secret: true, expected: "a list of `{name, value}`, both strings"}
          ])

  @doc """
  Starts a server that passes each model request on to a real provider, and writes request and
  answer to the cassette `path`. A file of that name is replaced. Returns the server, as `start!/2`.

  Options, beside those of `start/2` except `:default`:

  #{Schema.docs(@record)}

  Values of `:headers`, secrets of the environment and texts with the shape of a key become
  `[redacted]` in the file. Prompts, commands and outputs stay: read the file before you keep it.
  An answer reaches the CLI when it is complete, at most 64 MiB after at most 10 minutes. A provider
  without an answer is a status 502, which is not recorded. The model is that of the test's CLI:
  name it with `:models`.

  Raises `Codex.OptionError` for invalid options, and `File.Error` if the file cannot be written.
  """
  @spec record(Path.t(), keyword()) :: t()
  def record(path, opts) when is_binary(path) do
    {own, opts} = opts |> Schema.pairs!() |> Keyword.split([:upstream, :headers])
    %{upstream: upstream, headers: headers} = Schema.validate!(@record, own)
    :ok = check_headers!(headers)
    start!([], [default: Cassette.recorder(path, upstream, headers)] ++ opts)
  end

  defp check_headers!(headers) do
    pair? = &match?({name, value} when is_binary(name) and is_binary(value), &1)

    if Enum.all?(headers, pair?),
      do: :ok,
      else: OptionError.wrong!(:headers, headers, "a list of {name, value}, both strings")
  end

  @doc """
  Starts a server that answers model requests from the cassette `path`. Returns the server, as
  `start!/2`, with its options except `:default`.

  A request matches a recorded one if model, input and output format are equal; ids, times, places
  of temporary directories and the instructions of the CLI do not count. Each answer is given once,
  and equal requests get their answers in the recorded order. A request without an answer fails the
  turn with the difference to the nearest recorded request. In a test of ExUnit, answers that are
  left over at the end fail the test.

  Raises `ArgumentError` for a file that is missing or no cassette, and `Codex.OptionError` for
  invalid options.
  """
  @spec replay(Path.t(), keyword()) :: t()
  def replay(path, opts \\ []) when is_binary(path) do
    cassette = Cassette.read!(path)
    server = start!([], [default: Cassette.player(cassette)] ++ Schema.pairs!(opts))
    check_on_exit(cassette)
    server
  end

  defp check_on_exit(cassette) do
    ExUnit.Callbacks.on_exit(fn -> Cassette.check!(cassette) end)
  rescue
    _none in [ArgumentError, UndefinedFunctionError] -> :ok
  end

  defp pid(%__MODULE__{pid: pid}), do: pid
  defp pid(pid) when is_pid(pid), do: pid

  defp pid(other),
    do: raise(ArgumentError, "expected a server of Codex.Test.start/2, got: #{Type.kind(other)}")
end
