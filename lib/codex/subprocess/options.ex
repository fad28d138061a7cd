defmodule Codex.Subprocess.Options do
  @moduledoc false
  # The options of `Codex.Subprocess.open/2`: one entry each, from which defaults, checks and docs are made.

  alias Codex.FileSystem
  alias Codex.Subprocess.Signal
  alias Codex.Suggest

  @max_u32 0xFFFFFFFF
  @sweep_grace 200

  @typedoc "All that says how a child is run: options checked, defaults filled in, signals as numbers."
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
          start_timeout: non_neg_integer
        }

  @table [
    env: [
      default: [],
      expected: "a map or list of {name, value} with string names, and strings or nil as values",
      doc: "map or list of `{name, value}`: set these variables; a value of `nil` removes one."
    ],
    clear_env: [
      default: false,
      expected: "a boolean",
      doc: """
      start from an empty environment. Otherwise from the VM's own, less what a release puts there for itself: \
      `RELEASE_*`, `ERL_*`, `ROOTDIR`, `BINDIR`, `EMU` and `PROGNAME`.\
      """
    ],
    cwd: [
      default: nil,
      expected: "a path",
      doc:
        "the working directory; `nil` for the VM's own. A program given as `./name` is looked for in it."
    ],
    window: [
      default: 1_048_576,
      expected: "a number of bytes",
      doc: "bytes of stdout that may come before the first `grant/2`; 0 is allowed."
    ],
    stderr_limit: [
      default: 65_536,
      expected: "a number of bytes",
      doc: """
      bytes of stderr that are kept: by the launcher while the owner does not read, and by `stderr/1`. \
      What does not fit is dropped, oldest first, and counted.\
      """
    ],
    ladder: [
      default: [{:close_stdin, 100}, {:signal, :term, 1_000}],
      expected: "at most 255 steps {:close_stdin, ms} or {:signal, signal, ms}",
      doc: """
      what is tried, in order, to end the child before SIGKILL: `{:close_stdin, ms}` or `{:signal, signal, ms}`, \
      with the milliseconds the child then gets. Signals go to the child's process group.\
      """
    ],
    descendants: [
      default: :sweep,
      expected: ":sweep or :leave",
      doc: """
      what happens to processes that outlive the child: `:sweep` ends them (SIGTERM, 200 ms, SIGKILL), \
      `:leave` lets them be, and stops reading their output 100 ms after the child's exit.\
      """
    ],
    files: [
      default: [],
      expected: "a list of {path, content}",
      doc: """
      files that exist while the program runs: the launcher makes them, with mode 0600, each in a directory of \
      mode 0700 if that is missing, and removes them when all is over, also where the VM was killed. \
      A file that exists already is an error.\
      """
    ],
    input: [
      default: nil,
      expected: "a string or iodata",
      doc: """
      bytes for the child's stdin, which is closed after them; the child finds them when it begins. \
      With `nil` stdin stays open for `write/2`.\
      """
    ],
    start_timeout: [
      default: 5_000,
      expected: "a number of milliseconds",
      doc: "milliseconds until the program must be running."
    ]
  ]

  @doc "The options as a Markdown list."
  @spec docs() :: String.t()
  def docs do
    Enum.map_join(@table, "\n", fn {key, entry} ->
      "  * `#{inspect(key)}` - #{entry[:doc]} Default `#{inspect(entry[:default])}`."
    end)
  end

  @doc "Checks argv and options and fills in the defaults; raises `ArgumentError` naming what is wrong."
  @spec new!([String.t(), ...], keyword | map) :: t
  def new!(argv, opts) do
    unless match?([_ | _], argv) and not List.improper?(argv) and Enum.all?(argv, &is_binary/1),
      do: raise(ArgumentError, "expected argv to be a non-empty list of strings")

    unless (is_map(opts) and not is_struct(opts)) or Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list or map")

    Enum.each(opts, fn {key, value} -> check!(key, value) end)
    opts = Enum.into(opts, Map.new(@table, fn {key, entry} -> {key, entry[:default]} end))

    %{
      argv: argv,
      env: env(opts),
      cwd: cwd(opts.cwd),
      window: opts.window,
      stderr_limit: opts.stderr_limit,
      ladder: Enum.map(opts.ladder, &step/1),
      sweep_grace: @sweep_grace,
      descendants: opts.descendants,
      files: for({path, content} <- opts.files, do: {Path.expand(path), content}),
      input: opts.input,
      start_timeout: opts.start_timeout
    }
  end

  defp check!(key, value) do
    case List.keyfind(@table, key, 0) do
      nil ->
        raise ArgumentError, Suggest.unknown_key(key, Keyword.keys(@table))

      {_, entry} ->
        # Never the value itself: an environment holds secrets.
        valid?(key, value) ||
          raise ArgumentError, "expected option #{inspect(key)} to be #{entry[:expected]}"
    end
  end

  defp valid?(:env, env) when is_map(env) and not is_struct(env),
    do: Enum.all?(env, &variable?/1)

  defp valid?(:env, env) when is_list(env),
    do: not List.improper?(env) and Enum.all?(env, &variable?/1)

  defp valid?(:clear_env, value), do: is_boolean(value)
  defp valid?(:cwd, cwd), do: is_nil(cwd) or (is_binary(cwd) and cwd != "")
  defp valid?(:window, n), do: is_integer(n) and n >= 0 and n < 0x8000000000000000
  defp valid?(:stderr_limit, n), do: n in 0..@max_u32

  defp valid?(:ladder, steps),
    do: is_list(steps) and length(steps) < 256 and Enum.all?(steps, &step?/1)

  defp valid?(:descendants, value), do: value in [:sweep, :leave]
  defp valid?(:files, files), do: is_list(files) and Enum.all?(files, &file?/1)
  defp valid?(:input, input), do: is_nil(input) or is_binary(input) or is_list(input)
  defp valid?(:start_timeout, ms), do: ms in 0..@max_u32
  defp valid?(_, _), do: false

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
  defp cwd(nil), do: with({:ok, dir} <- FileSystem.cwd(), do: dir, else: (_ -> nil))
  defp cwd(dir), do: Path.expand(dir)

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
