defmodule Codex.CLI.Runner do
  @moduledoc false
  # Runs commands of the CLI in the calling process: options, environment, outputs, cancellation,
  # telemetry, and errors without secrets.

  alias Codex.CLI.{Command, Commands, Failure, Output, Program, Result}
  alias Codex.{Error, FileSystem, Home, OptionError, Telemetry, Text}
  alias Codex.Error.Redact
  alias Codex.Options.{Schema, Type}
  alias Codex.Telemetry.Debug
  alias Codex.Turn.Cancellation

  # Shorter and longer inputs are no secrets of a login.
  @secret_input 6..4_096

  @plain %{label: nil, timeout: 30_000, descendants: :sweep}

  @doc "Calls the function of a row with its arguments."
  @spec call(atom(), [term()], term()) ::
          {:ok, term()} | {:error, Error.t() | {:unsupported, atom(), String.t()}}
  def call(name, values, opts) do
    row = Commands.fetch!(name)
    values = row.args |> Enum.zip(values) |> Enum.map(&argument!/1)
    opts = options!(Commands.schema(name), opts)
    facts = Map.put(row, :label, row.command)

    with {:ok, result, secrets} <- execute(Commands.argv(row, values, opts), opts, facts),
         do: value(row, result, secrets)
  end

  @doc "Runs any words. The exit status is part of the result."
  @spec run(term(), term()) :: {:ok, Result.t()} | {:error, Error.t()}
  def run(words, opts) do
    words = argument!({{:args, :argv, "a non-empty list of non-empty strings", nil}, words})
    opts = options!(Commands.schema(nil), opts)
    facts = %{@plain | label: Commands.known(words)}
    with {:ok, result, _secrets} <- execute(words, opts, facts), do: {:ok, result}
  end

  @doc "Returns the version of the CLI of these options."
  @spec version(term()) :: {:ok, String.t()} | {:error, Error.t()}
  def version(opts) do
    opts = options!(Commands.schema(nil), opts)

    with {:ok, program} <- Program.find(opts.codex_path),
         {:ok, version} <- Program.version(program) do
      {:ok, version}
    else
      {:error, reason} -> {:error, Error.normalize(reason)}
    end
  end

  defp value(row, result, secrets) do
    label = "codex " <> row.command

    with true <- success?(row.statuses, result),
         {:ok, value} <- Output.read(row.returns, result) do
      {:ok, value}
    else
      false -> {:error, Failure.of(label, result, secrets)}
      :error -> {:error, Failure.unreadable(label, result)}
    end
  end

  defp success?(:any, result), do: result.exit_status != nil
  defp success?(_statuses, %{exit_status: 0}), do: true

  # A status other than 0 is a success if it comes with the output.
  defp success?(statuses, result),
    do: result.exit_status in statuses and String.trim(Text.utf8(result.stdout)) != ""

  # --- Running ------------------------------------------------------------------------------------

  defp execute(words, opts, facts) do
    :ok = Codex.Started.check!()
    env = env(opts)
    all = if opts.clear_env?, do: env, else: Map.merge(System.get_env(), env)

    with {:ok, program} <- Program.find(opts.codex_path),
         :ok <- Home.guard(all),
         :ok <- FileSystem.working_directory(opts.cwd) do
      secrets = Redact.secrets(all) ++ input(opts.stdin)
      argv = [program | common(opts)] ++ words

      ran = spanned(argv, Program.put_path(env, program), opts, facts, fn -> secrets end)

      with {:ok, result} <- ran, do: {:ok, result, secrets}
    else
      {:error, reason} -> {:error, Error.normalize(reason)}
    end
  end

  defp spanned(argv, env, opts, facts, secrets) do
    command = facts.label
    began = System.monotonic_time()
    metadata = %{originator: :sdk, command: command}
    event(opts, :start, %{system_time: System.system_time()}, metadata)
    debug = Debug.new("cli", secrets)
    :ok = Debug.started(debug, argv, env)

    result = ended(cancellable(argv, env, opts, facts), command)
    {more, exit} = about(result)
    :ok = Debug.ended(debug, exit)
    time = Map.put(Telemetry.spent(began), :system_time, System.system_time())
    event(opts, :stop, time, Map.merge(metadata, more))
    result
  end

  defp cancellable(argv, env, opts, facts) do
    call = Cancellation.begin(List.wrap(opts.cancellation_token))

    try do
      Command.run(argv, command(env, opts, facts, call.cancel))
    after
      Cancellation.finish(call)
    end
  end

  defp command(env, opts, facts, cancel) do
    [
      env: env,
      clear_env: opts.clear_env?,
      stdin: opts.stdin,
      timeout: if(opts.timeout == nil, do: facts.timeout, else: opts.timeout),
      most: opts.stdout_limit,
      stderr_limit: opts.stderr_limit,
      descendants: facts.descendants,
      cancel: cancel,
      each: watcher(opts)
    ] ++ if(opts.cwd, do: [cwd: opts.cwd], else: [])
  end

  defp ended({:ok, ended}, _command) do
    {:ok,
     %Result{
       stdout: ended.stdout,
       stderr: ended.stderr,
       exit_status: ended.exit.status,
       signal: if(ended.exit.status == nil, do: ended.exit.signal),
       duration_ms: ended.duration_ms
     }}
  end

  defp ended({:error, reason}, command),
    do: {:error, Failure.stopped("codex #{command || "command"}", reason)}

  defp about({:ok, result}) do
    exit = %{status: result.exit_status, signal: result.signal}
    {%{result: :ok, exit_status: exit.status, signal: exit.signal, error: nil}, exit}
  end

  defp about({:error, error}),
    do: {%{result: :error, exit_status: nil, signal: nil, error: %{kind: error.kind}}, nil}

  defp event(opts, name, measurements, metadata),
    do: Telemetry.execute(opts.telemetry_prefix ++ [:cli, name], measurements, metadata)

  # --- Outputs ------------------------------------------------------------------------------------

  defp watcher(%{mirror: false, tee: nil}), do: nil

  # The state has the lines without an end, which are printed once they are complete.
  defp watcher(opts), do: {%{stdout: "", stderr: ""}, &watch(&1, &2, opts)}

  defp watch({stream, bytes} = output, lines, opts) when stream in [:stdout, :stderr] do
    _ = if opts.tee, do: opts.tee.(output)
    if opts.mirror, do: mirror(stream, lines, lines[stream] <> bytes), else: lines
  end

  defp watch({:eof, stream}, lines, %{mirror: true}), do: print(stream, lines, lines[stream], "")
  defp watch(_other, lines, _opts), do: lines

  # A line without an end is printed in parts of 64 KiB.
  defp mirror(stream, lines, text) do
    case :binary.matches(text, "\n") do
      [] when byte_size(text) > 65_536 -> print(stream, lines, text, "")
      [] -> %{lines | stream => text}
      found -> split(stream, lines, text, found |> List.last() |> elem(0))
    end
  end

  defp split(stream, lines, text, at) do
    {complete, rest} = :erlang.split_binary(text, at + 1)
    print(stream, lines, complete, rest)
  end

  defp print(stream, lines, text, rest) do
    device = if stream == :stdout, do: :stdio, else: :stderr
    _ = if text != "", do: IO.write(device, Text.printable(text))
    %{lines | stream => rest}
  end

  # --- Arguments and options ----------------------------------------------------------------------

  defp common(opts) do
    Enum.flat_map(opts.overrides, &["-c", &1]) ++
      Enum.map(opts.enable, &"--enable=#{&1}") ++ Enum.map(opts.disable, &"--disable=#{&1}")
  end

  defp env(opts) do
    home =
      if opts.codex_home, do: %{"CODEX_HOME" => FileSystem.expand(opts.codex_home)}, else: %{}

    log = if opts.log, do: %{"RUST_LOG" => opts.log}, else: %{}

    color =
      if opts.color,
        do: %{"NO_COLOR" => nil, "FORCE_COLOR" => "1"},
        else: %{"NO_COLOR" => "1"}

    home |> Map.merge(log) |> Map.merge(color) |> Map.merge(opts.env)
  end

  defp input(stdin) do
    text = stdin |> IO.iodata_to_binary() |> Text.utf8() |> String.trim()
    if byte_size(text) in @secret_input, do: [text], else: []
  end

  defp argument!({{name, type, expected, _how}, value}) do
    case cast(type, value) do
      {:ok, value} -> value
      :error -> OptionError.wrong!(name, value, expected)
    end
  end

  defp cast(:argv, list), do: filled(Type.cast({:list, :string}, list))
  defp cast(:paths, list), do: filled(Type.cast({:list, :path}, list))
  defp cast(:iodata, data) when is_binary(data), do: {:ok, data}

  defp cast(:iodata, data) when is_list(data) do
    {:ok, IO.iodata_to_binary(data)}
  rescue
    ArgumentError -> :error
  end

  defp cast(:limit, :infinity), do: {:ok, :infinity}
  defp cast(:limit, ms), do: Type.cast(:wait, ms)
  defp cast(:json, text) when is_binary(text), do: Type.cast(:string, text)

  defp cast(:json, %{} = map) when not is_struct(map) do
    with {:error, _} <- Codex.JSON.encode(map), do: :error
  end

  defp cast(type, value) do
    with :unknown <- Type.cast(type, value), do: :error
  end

  defp filled({:ok, [_ | _] = list}), do: {:ok, list}
  defp filled(_other), do: :error

  defp options!(schema, opts), do: Schema.validate!(schema, opts, &cast/2)
end
