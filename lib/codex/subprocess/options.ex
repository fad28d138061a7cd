defmodule Codex.Subprocess.Options do
  @moduledoc false
  # The options of `Codex.Subprocess.open/2`: one entry each, from which defaults, checks and docs
  # are made.

  alias Codex.FileSystem
  alias Codex.Options.{Schema, Type}
  alias Codex.Subprocess.Signal

  @max_u32 0xFFFFFFFF
  @sweep_grace 200

  @typedoc """
  All that says how a child is run: options checked, defaults filled in, signals as numbers.
  """
  @type t :: %{
          argv: [String.t(), ...],
          env: [{String.t(), String.t()}],
          cwd: nil | String.t(),
          window: non_neg_integer,
          stderr_limit: non_neg_integer,
          ladder: [{:close_stdin, non_neg_integer} | {:signal, 1..64, non_neg_integer}],
          sweep_grace: non_neg_integer,
          descendants: :sweep | :leave,
          files: [{String.t(), iodata()}],
          input: nil | iodata(),
          terminal: nil | {rows :: 0..0xFFFF, cols :: 0..0xFFFF},
          start_timeout: non_neg_integer
        }

  @schema Schema.new([
            {:env, :variables,
             "map or list of `{name, value}`: set these variables; a value of `nil` removes one",
             default: [],
             secret: true,
             expected:
               "a map or list of `{name, value}` with string names, and strings or nil as values"},
            {:clear_env, :boolean,
             "start from an empty environment. Otherwise from the VM's own, less the variables " <>
               "that a release sets for itself: `RELEASE_*`, `ERL_*`, `ROOTDIR`, `BINDIR`, " <>
               "`EMU` and `PROGNAME`", default: false},
            {:cwd, :path,
             "the working directory. A program given as `./name` is looked for in it",
             shown: "that of the VM"},
            {:window, :count,
             "bytes of stdout that may come before the first `grant/2`; 0 is allowed",
             default: 1_048_576, expected: "a number of bytes"},
            {:stderr_limit, {:integer, 0, @max_u32},
             "bytes of stderr that are kept: by the launcher while the owner does not read, and " <>
               "by `stderr/1`. The oldest bytes over it are dropped, and counted",
             default: 65_536, expected: "a number of bytes"},
            {:ladder, :ladder,
             "the steps, in order, that end the child before SIGKILL: `{:close_stdin, ms}` or " <>
               "`{:signal, signal, ms}`, with the milliseconds the child then gets. Signals go " <>
               "to the child's process group",
             default: [{:close_stdin, 100}, {:signal, :term, 1_000}],
             expected: "at most 255 steps `{:close_stdin, ms}` or `{:signal, signal, ms}`"},
            {:descendants, {:one_of, [:sweep, :leave]},
             "the end of processes that outlive the child: `:sweep` ends them (SIGTERM, 200 ms, " <>
               "SIGKILL), `:leave` leaves them, and stops reading their output 100 ms after the " <>
               "child's exit", default: :sweep},
            {:files, :files,
             "files that exist while the program runs: the launcher makes them, with mode 0600, " <>
               "each in a directory of mode 0700 if that is missing, and removes them when all " <>
               "is over, also if the VM is killed. A file that exists already is an error",
             default: [], secret: true, expected: "a list of `{path, content}`"},
            {:input, :iodata,
             "bytes for the child's stdin, which is closed after them; the child finds them " <>
               "when it begins. With `nil`, stdin stays open for `write/2`",
             secret: true, expected: "a string or iodata"},
            {:terminal, :window,
             "`{rows, cols}`: the child gets a pseudo-terminal of this size instead of pipes, " <>
               "see *Terminals*", expected: "`{rows, cols}`, both from 1 to 65_535"},
            {:start_timeout, :wait, "the limit until the program runs", default: 5_000}
          ])

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks argv and options and fills in the defaults. Raises `Codex.OptionError`."
  @spec new!([String.t(), ...], keyword | map) :: t
  def new!(argv, opts) do
    unless match?([_ | _], argv) and not List.improper?(argv) and Enum.all?(argv, &is_binary/1),
      do: raise(ArgumentError, "expected argv to be a non-empty list of strings")

    opts = Schema.validate!(@schema, opts, &cast/2)

    %{
      argv: argv,
      env: env(opts),
      cwd: cwd(opts.cwd),
      window: opts.window,
      stderr_limit: opts.stderr_limit,
      ladder: Enum.map(opts.ladder, &step/1),
      sweep_grace: @sweep_grace,
      descendants: opts.descendants,
      files: for({path, content} <- opts.files, do: {FileSystem.expand(path), content}),
      input: opts.input,
      terminal: opts.terminal,
      start_timeout: opts.start_timeout
    }
  end

  @stop Schema.new([
          {:timeout, :limit, "the limit of the whole stop",
           expected: "0, a positive integer in milliseconds or `:infinity`"}
        ])

  @stop_soon Schema.new([
               {:grace, :wait, "the time to wait for the end of the child", default: 700},
               {:finally, {:fun, 1}, "called with the result of `stop/2`"}
             ])

  @doc "Checks the options of `Codex.Subprocess.stop/2`. Raises `Codex.OptionError`."
  @spec stop!(term()) :: %{timeout: timeout() | nil}
  def stop!(opts), do: Schema.validate!(@stop, opts, &cast/2)

  @doc "Checks the options of `Codex.Subprocess.stop_soon/2`. Raises `Codex.OptionError`."
  @spec stop_soon!(term()) :: %{grace: non_neg_integer(), finally: (term() -> term()) | nil}
  def stop_soon!(opts), do: Schema.validate!(@stop_soon, opts)

  defp cast(:limit, ms) when ms == :infinity or (is_integer(ms) and ms >= 0), do: {:ok, ms}
  defp cast(:limit, _other), do: :error
  defp cast(:variables, env), do: pairs(env, &variable?/1)

  defp cast(:window, size), do: if(window?(size), do: {:ok, size}, else: :error)

  defp cast(:iodata, input),
    do: if(is_binary(input) or is_list(input), do: {:ok, input}, else: :error)

  defp cast(:files, files), do: pairs(files, &file?/1)

  defp cast(:ladder, steps) do
    valid? =
      is_list(steps) and not List.improper?(steps) and length(steps) < 256 and
        Enum.all?(steps, &step?/1)

    if valid?, do: {:ok, steps}, else: :error
  end

  @doc "Returns whether a term is the size of a terminal."
  @spec window?(term()) :: boolean()
  def window?({rows, cols}), do: rows in 1..0xFFFF and cols in 1..0xFFFF
  def window?(_other), do: false

  defp pairs(value, valid?) do
    with {:ok, pairs} <- Type.pairs(value),
         do: if(Enum.all?(pairs, valid?), do: {:ok, pairs}, else: :error)
  end

  defp variable?({name, value}) when is_binary(name) and (is_binary(value) or is_nil(value)),
    do: name != "" and not String.contains?(name, "=")

  defp variable?(_), do: false

  defp file?({path, content}), do: is_binary(path) and (is_binary(content) or is_list(content))
  defp file?(_other), do: false

  defp step?({:close_stdin, ms}), do: ms in 0..@max_u32
  defp step?({:signal, signal, ms}), do: Signal.number!(signal) in 1..64 and ms in 0..@max_u32
  defp step?(_), do: false

  defp step({:signal, signal, ms}), do: {:signal, Signal.number!(signal), ms}
  defp step(step), do: step

  # A launcher that was started ahead may stand in another directory than the VM does now.
  defp cwd(nil) do
    case FileSystem.cwd() do
      {:ok, dir} -> dir
      {:error, _reason} -> nil
    end
  end

  defp cwd(dir), do: FileSystem.expand(dir)

  defp env(opts) do
    base = if opts.clear_env, do: %{}, else: Map.reject(System.get_env(), &leaked?/1)

    opts.env
    |> Enum.reduce(base, fn
      {name, nil}, env -> Map.delete(env, name)
      {name, value}, env -> Map.put(env, name, value)
    end)
    |> Map.to_list()
  end

  defp leaked?({"RELEASE_" <> _, _}), do: true
  defp leaked?({"ERL_" <> _, _}), do: true
  defp leaked?({name, _}), do: name in ~w(ROOTDIR BINDIR EMU PROGNAME)
end
