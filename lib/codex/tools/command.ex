defmodule Codex.Tools.Command do
  @moduledoc false
  # Runs commands for the shell tools: argument forms, approval, environment, results.

  alias Codex.Subprocess.Signal
  alias Codex.Tools.{Hosted, Terminal, Terminals}

  @timeout 60_000
  @most 10_000
  @sensitive ~r/KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL/i

  @doc "The schema of the arguments that both shell tools have, beside the command."
  @spec properties() :: map()
  def properties do
    %{
      "workdir" => %{"type" => "string", "description" => "the working directory"},
      "timeout_ms" => %{"type" => "integer", "description" => "the time limit in ms"},
      "yield_time_ms" => %{
        "type" => "integer",
        "description" =>
          "return after this time in ms; if the command still runs, the result has a session_id"
      },
      "sandbox_permissions" => %{"type" => "string"},
      "justification" => %{"type" => "string"}
    }
  end

  @doc """
  Runs a command, given as text for a shell or as a list of words, if the approval allows it.
  `argv` makes the words of a text.
  """
  @spec run(String.t() | [String.t()], (String.t() -> [String.t()]), map(), map()) ::
          {:ok, term()} | {:error, term()}
  def run(command, argv, args, context) do
    options = Hosted.options(context)
    whole = &(is_integer(&1) and &1 in 0..0xFFFFFFFF)

    with {:ok, dir} <- workdir(args, context),
         {:ok, timeout} <-
           Hosted.optional(args, ["timeout_ms", "timeout"], :timeout_ms, nil, whole),
         {:ok, yield} <- Hosted.optional(args, ["yield_time_ms"], :yield_time_ms, nil, whole),
         :ok <- approved(options, command, context) do
      limits = {timeout || options[:timeout_ms] || @timeout, yield}
      start(options[:executor], {command, argv}, dir, limits, args, context)
    end
  end

  defp start(nil, {command, argv}, dir, limits, _args, context) do
    words = if is_binary(command), do: argv.(command), else: command
    execute(words, dir, limits, context)
  end

  defp start(_executor, {command, _argv}, dir, {timeout, _yield}, args, context) do
    call = %{"command" => command, "workdir" => dir, "timeout_ms" => timeout}
    Hosted.callback(:executor, Map.merge(args, call), context)
  end

  defp workdir(args, context) do
    with {:ok, base} <- Hosted.directory(context, :cwd),
         {:ok, dir} <- Hosted.optional(args, ["workdir", "cwd"], :workdir, base, &is_binary/1),
         do: {:ok, Path.expand(dir, base)}
  end

  # An executor is the host's own code, and decides by itself.
  defp approved(%{executor: executor} = options, _command, _context)
       when executor != nil and not is_map_key(options, :approval),
       do: :ok

  defp approved(options, command, context),
    do: Hosted.approve(options[:approval], :review_tool, text(command), context)

  defp text(command) when is_binary(command), do: command
  defp text(words), do: Enum.join(words, " ")

  defp execute(words, dir, {timeout, yield}, context) do
    options = Hosted.options(context)

    # A command without a session has nobody who writes to it.
    input = if yield == nil, do: [input: ""], else: []
    child = input ++ [cwd: dir, env: environment(options[:env])]
    start = [owner: self(), most: options[:max_output_bytes] || @most, child: child]

    case Terminal.start(words, start) do
      {:ok, terminal} ->
        terminal |> Terminal.wait(yield || timeout) |> result(terminal, yield, context)

      {:error, error} ->
        {:error, {:exec_start_failed, error}}
    end
  end

  # Without credentials of the VM.
  defp environment(given) do
    hidden = for {name, _value} <- System.get_env(), name =~ @sensitive, do: {name, nil}
    given = for {name, value} <- given || [], do: {to_string(name), value && to_string(value)}
    hidden |> Map.new() |> Map.merge(Map.new(given))
  end

  defp result({_output, nil}, terminal, nil, _context) do
    Terminal.stop(terminal)
    {:error, :timeout}
  end

  defp result({output, nil}, terminal, _yield, context) do
    scope = Terminals.scope(context)

    with true <- Terminals.room?(scope),
         {:ok, id} <- Terminal.keep(terminal, Terminals.owner(context), scope) do
      {:ok, %{"output" => output, "session_id" => id}}
    else
      _full ->
        Terminal.stop(terminal)
        {:error, :too_many_sessions}
    end
  end

  defp result(ended, _terminal, _yield, _context), do: ended(ended)

  @doc "Returns the result of a command that has ended, or of one that goes on with its session."
  @spec ended(Terminal.answer() | :gone) :: {:ok, map()} | {:error, term()}
  def ended({:failed, error}), do: {:error, {:exec_start_failed, error}}
  def ended(:gone), do: {:error, :not_found}

  def ended({output, exit}) do
    code = exit.status || 128 + number(exit.signal)
    {:ok, %{"output" => output, "exit_code" => code, "success" => code == 0}}
  end

  defp number(signal) when is_integer(signal), do: signal
  defp number(signal), do: Signal.number!(signal)

  @doc "Returns the words of a command for a shell: that of the user with `login?`, else sh."
  @spec shell(String.t(), boolean()) :: [String.t()]
  def shell(command, false), do: ["/bin/sh", "-c", command]

  def shell(command, true) do
    shell = System.get_env("SHELL") || "/bin/sh"
    [if(System.find_executable(shell), do: shell, else: "/bin/sh"), "-l", "-c", command]
  end
end
