defmodule Codex.Subprocess.Launcher do
  @moduledoc false
  # The port of a `codex_launcher`: opening it, sending frames, closing it.

  alias Codex.Subprocess.{Error, Frame}

  @doc "Returns the absolute path of the program."
  @spec path() :: Path.t()
  def path,
    do: :codex_sdk |> :code.priv_dir() |> Path.join("native/codex_launcher") |> Path.expand()

  @doc "Starts a launcher. Its port is owned by the calling process, and linked to it."
  @spec open() :: {:ok, port()} | {:error, Error.t()}
  def open do
    # With :eof the port outlives the launcher's output, so a write at that moment finds a port.
    # :exit_status would delay the message until the launcher's guard has ended as well.
    opts = [:binary, :use_stdio, :hide, :eof, packet: 4]
    {:ok, Port.open({:spawn_executable, path()}, opts)}
  rescue
    # Port.open raises the posix reason, or SystemLimitError.
    error in ErlangError -> {:error, error(error.original)}
    _ in SystemLimitError -> {:error, %Error{reason: :emfile, text: "the VM has no port left"}}
  end

  defp error(reason) when reason in [:emfile, :enfile], do: %Error{reason: :emfile}
  defp error(reason) when reason in [:eagain, :enomem], do: %Error{reason: reason}
  defp error(reason), do: %Error{reason: :launcher_missing, text: inspect(reason)}

  @doc "Sends a frame; false if the port is closed."
  @spec send(port(), iodata()) :: boolean()
  def send(port, frame) do
    Port.command(port, frame)
  rescue
    ArgumentError -> false
  end

  @doc """
  Closes the port. Unlinks it first, so that no exit signal comes; afterwards nothing of the port is
  left in the caller's mailbox.
  """
  @spec close(port()) :: :ok
  def close(port) do
    Process.unlink(port)
    _ = __MODULE__.send(port, Frame.bye())
    close_port(port)
    flush(port)
  end

  defp close_port(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end

  defp flush(port) do
    receive do
      {^port, _} -> flush(port)
      {:EXIT, ^port, _} -> flush(port)
    after
      0 -> :ok
    end
  end
end
