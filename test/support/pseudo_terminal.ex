defmodule Codex.PseudoTerminal do
  @moduledoc "A shell in a pseudo-terminal, as a person has it, for tests of Mix tasks."

  alias Codex.Subprocess

  @root Path.expand("../..", __DIR__)

  defstruct [:sub, text: "", exit: nil]

  @doc "The environment for `mix` with the home of a scripted model."
  def env(model) do
    options = Codex.Test.options(model)
    {:ok, path} = Codex.Test.codex_path()

    Map.merge(options[:env], %{
      "CODEX_HOME" => options[:codex_home],
      "CODEX_PATH" => path,
      "MIX_ENV" => "test"
    })
  end

  @doc "Runs `mix` without a terminal; returns `{stdout, exit status}`. stderr goes to `:stderr`."
  def mix(args, env, opts \\ []) do
    args = Enum.map_join(args, " ", &quoted/1)
    input = if opts[:input], do: "printf %s #{quoted(opts[:input])} | ", else: ""
    stderr = opts[:stderr] || "/dev/null"
    line = "#{input}mix #{args} 2>#{quoted(stderr)}"
    line = if opts[:input], do: line, else: line <> " </dev/null"
    System.cmd("/bin/sh", ["-c", line], env: env, cd: @root)
  end

  @doc "Quotes a word for the shell."
  def quoted(text), do: "'" <> String.replace(text, "'", "'\\''") <> "'"

  @doc "Runs a line of the shell in a terminal."
  def open(line, env) do
    options = [terminal: {24, 120}, env: Map.put(env, "TERM", "xterm"), cwd: @root]
    {:ok, sub} = Subprocess.open(["/bin/sh", "-c", line], options)
    %__MODULE__{sub: sub}
  end

  @doc "Types bytes."
  def type(pty, bytes) do
    {:ok, sub} = Subprocess.write(pty.sub, bytes)
    %{pty | sub: sub}
  end

  @doc "Waits until the output since the last wait matches; it is in `text`, and then forgotten."
  def await(pty, pattern) do
    case Regex.run(pattern, pty.text, return: :index) do
      [{at, size} | _] ->
        {seen, rest} = cut(pty.text, at + size)
        {seen, %{pty | text: rest}}

      nil ->
        if pty.exit, do: ExUnit.Assertions.flunk("no #{inspect(pattern)} in: #{pty.text}")
        pty |> more() |> await(pattern)
    end
  end

  defp cut(text, at), do: {binary_part(text, 0, at), binary_part(text, at, byte_size(text) - at)}

  @doc "Waits for the end of the shell; returns the rest of the output."
  def finish(%{exit: nil} = pty), do: pty |> more() |> finish()
  def finish(pty), do: pty.text

  defp more(pty) do
    case Subprocess.next(pty.sub, 90_000) do
      {:ok, sub, outputs} ->
        Enum.reduce(outputs, %{pty | sub: sub}, &output/2)

      other ->
        ExUnit.Assertions.flunk("the terminal: #{inspect(other)} after: #{pty.text}")
    end
  end

  defp output({:stdout, bytes}, pty) do
    # After a refused grant, the exit follows.
    sub =
      case Subprocess.grant(pty.sub, byte_size(bytes)) do
        {:ok, sub} -> sub
        {:error, sub, _error} -> sub
      end

    %{pty | sub: sub, text: pty.text <> bytes}
  end

  defp output({:exit, exit}, pty), do: %{pty | exit: exit}
  defp output(_other, pty), do: pty
end
