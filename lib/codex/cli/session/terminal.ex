defmodule Codex.CLI.Session.Terminal do
  @moduledoc false
  # The terminal of this VM, held by `codex_launcher terminal`: that program turns it raw, writes to
  # it, reports its size, and restores it however the VM ends. The keys are read by the VM, whose
  # runtime reads stdin in any case.

  alias Codex.Subprocess.Launcher

  @enforce_keys [:port, :reader, :before]
  defstruct @enforce_keys

  @type t :: %__MODULE__{port: port(), reader: pid(), before: keyword()}

  @wait 5_000

  @doc "Takes the terminal. Its messages come to the calling process."
  @spec open() :: {:ok, t()} | {:error, {:no_terminal, String.t()}}
  def open do
    if shell?() do
      no_terminal("IEx reads it")
    else
      opts = [:binary, :use_stdio, :hide, :eof, packet: 4, args: ["terminal" | path()]]
      {:spawn_executable, Launcher.path()} |> Port.open(opts) |> taken()
    end
  rescue
    error in ErlangError -> no_terminal(inspect(error.original))
  end

  # The terminal that the VM reads the keys from. Without /proc, it is that of stderr.
  defp path do
    case File.read_link("/proc/self/fd/0") do
      {:ok, path} -> [path]
      {:error, _no_proc} -> []
    end
  end

  defp shell?, do: Code.ensure_loaded?(iex()) and iex().started?()

  # A release may lack it, so it would be an unknown function to Dialyzer.
  defp iex, do: IEx

  defp taken(port) do
    receive do
      {^port, {:data, <<1, _size::binary>>}} = first ->
        # The owner resizes the session when it gets the message.
        send(self(), first)
        before = Keyword.take(:io.getopts(:user), [:binary, :encoding])
        _ = :io.setopts(:user, binary: true, encoding: :latin1)
        {:ok, %__MODULE__{port: port, reader: read(port), before: before}}

      {^port, {:data, <<2, reason::binary>>}} ->
        Launcher.close(port)
        no_terminal(reason)

      {^port, :eof} ->
        Launcher.close(port)
        no_terminal("it cannot be used")
    after
      @wait ->
        Launcher.close(port)
        no_terminal("it does not answer")
    end
  end

  defp no_terminal(reason), do: {:error, {:no_terminal, Codex.Text.line(reason)}}

  # Ends with the owner.
  defp read(port) do
    owner = self()
    spawn_link(fn -> read(port, owner) end)
  end

  defp read(port, owner) do
    case IO.binread(:user, 1) do
      <<_, _::binary>> = keys ->
        send(owner, {port, :keys, keys})
        read(port, owner)

      _end ->
        send(owner, {port, :eof})
    end
  end

  @doc "Handles a message of the owner."
  @spec stream(t(), term()) ::
          {:keys, binary()} | {:size, {pos_integer(), pos_integer()}} | :closed | :unknown
  def stream(%{port: port}, {port, :keys, keys}), do: {:keys, more(port, keys)}

  def stream(%{port: port}, {port, {:data, <<1, rows::16, cols::16>>}}),
    do: {:size, {max(rows, 1), max(cols, 1)}}

  def stream(%{port: port}, {port, :eof}), do: :closed
  def stream(%{port: port}, {:EXIT, port, _}), do: :closed
  def stream(_terminal, _message), do: :unknown

  # Pasted text comes as one write.
  defp more(port, keys) do
    receive do
      {^port, :keys, next} -> more(port, keys <> next)
    after
      0 -> keys
    end
  end

  @doc "Writes bytes to the terminal."
  @spec write(t(), binary()) :: boolean()
  def write(%{port: port}, bytes), do: Launcher.send(port, [1, bytes])

  @doc "Gives the terminal back as the program left it. Without this, `close/1` resets it."
  @spec leave(t()) :: :ok
  def leave(%{port: port}) do
    _ = Launcher.send(port, [2])

    receive do
      {^port, :eof} -> :ok
    after
      @wait -> :ok
    end
  end

  @doc "Gives the terminal back."
  @spec close(t()) :: :ok
  def close(%{port: port} = terminal) do
    Process.unlink(terminal.reader)
    Process.exit(terminal.reader, :kill)
    _ = :io.setopts(:user, terminal.before)
    Launcher.close(port)
  end
end
