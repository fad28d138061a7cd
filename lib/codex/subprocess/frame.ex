defmodule Codex.Subprocess.Frame do
  @moduledoc false
  # The frames between the VM and `codex_launcher`: one byte of tag, then the payload. The port's
  # `{:packet, 4}` adds the length. Numbers are big-endian, byte strings have a 32-bit length. The
  # Rust twin is native/codex_launcher/src/frame.rs; equal values of @version mean equal formats.

  alias Codex.Subprocess.{Error, Exit, Options, Signal}

  @version 4
  # Bytes of stdin that may be under way before the launcher gives credit.
  @stdin_window 256 * 1024
  # Frame and header together fill a default pipe exactly.
  @chunk 65_536 - 5
  # The launcher refuses longer frames. Only START comes near.
  @max_frame 16 * 1024 * 1024

  @type up ::
          {:started, non_neg_integer}
          | {:stdin_credit, non_neg_integer}
          | {:stdout, binary}
          | {:stderr, binary}
          | {:eof, :stdout | :stderr}
          | {:exit, Exit.t()}
          | {:error, Error.t()}

  @doc "Returns the maximum number of bytes of a stream in one frame."
  @spec chunk() :: pos_integer
  def chunk, do: @chunk

  @doc "Returns the number of bytes of stdin that a launcher accepts without credit, with START's."
  @spec stdin_window() :: pos_integer
  def stdin_window, do: @stdin_window

  @doc """
  Builds START; with `input_ends?`, stdin is closed after the input. Returns an error if it is
  longer than any system allows.
  """
  @spec start(Options.t(), boolean()) :: {:ok, iodata} | {:error, Error.t()}
  def start(start, input_ends?) do
    frame = [
      <<1, @version, start.window::64, start.stderr_limit::32,
        flag(start.descendants == :leave)>>,
      <<start.sweep_grace::32, length(start.ladder)>>,
      Enum.map(start.ladder, &rung/1),
      if(start.cwd, do: [1, string(start.cwd)], else: 0),
      strings(start.argv),
      strings(Enum.map(start.env, fn {name, value} -> [name, ?=, value] end)),
      [<<length(start.files)::32>> | Enum.map(start.files, &file/1)],
      string(start.input),
      flag(input_ends?),
      if(start.terminal, do: [1, size(start.terminal)], else: 0)
    ]

    cond do
      null_byte?(start) ->
        {:error, %Error{reason: :einval, text: "a null byte in argv, env or cwd"}}

      IO.iodata_length(frame) > @max_frame ->
        {:error, %Error{reason: :e2big, text: "argv, env and files are longer than 16 MiB"}}

      true ->
        {:ok, frame}
    end
  end

  defp null_byte?(%{argv: argv, env: env, cwd: cwd, files: files}) do
    paths = for {path, _content} <- files, do: path
    env = for {name, value} <- env, do: [name, value]
    strings = IO.iodata_to_binary([cwd || "", argv, paths, env])
    :binary.match(strings, <<0>>) != :nomatch
  end

  defp flag(true), do: 1
  defp flag(false), do: 0

  defp size({rows, cols}), do: <<rows::16, cols::16>>

  defp rung({:close_stdin, grace}), do: <<0, 0, grace::32>>
  defp rung({:signal, number, grace}), do: <<1, number, grace::32>>

  defp file({path, content}), do: [string(path), string(content)]

  defp strings(list), do: [<<length(list)::32>> | Enum.map(list, &string/1)]
  defp string(iodata), do: [<<IO.iodata_length(iodata)::32>>, iodata]

  @spec stdin(binary) :: iolist
  def stdin(bytes), do: [2, bytes]

  @spec stdin_eof() :: binary
  def stdin_eof, do: <<3>>

  @spec credit(:stdout | :stderr, non_neg_integer) :: binary
  def credit(:stdout, bytes), do: <<4, 1, bytes::64>>
  def credit(:stderr, bytes), do: <<4, 2, bytes::64>>

  @spec signal(1..64) :: binary
  def signal(number), do: <<5, number>>

  @spec stop() :: binary
  def stop, do: <<6>>

  @spec bye() :: binary
  def bye, do: <<7>>

  @spec seen(pos_integer) :: binary
  def seen(frames), do: <<8, frames::32>>

  @doc """
  Builds KEEP: the launcher runs no child, but removes these directories when the port closes.
  """
  @spec keep([Path.t()]) :: iolist
  def keep(paths), do: [9 | strings(paths)]

  @doc "Builds WINDOW: the new size of the child's terminal."
  @spec window({0..0xFFFF, 0..0xFFFF}) :: iolist
  def window(size), do: [10, size(size)]

  @doc "Parses a frame of the launcher."
  @spec parse(binary) :: up
  def parse(<<0x83, bytes::binary>>), do: {:stdout, bytes}
  def parse(<<0x84, bytes::binary>>), do: {:stderr, bytes}
  def parse(<<0x82, bytes::32>>), do: {:stdin_credit, bytes}
  def parse(<<0x81, os_pid::32>>), do: {:started, os_pid}
  def parse(<<0x85, 1>>), do: {:eof, :stdout}
  def parse(<<0x85, 2>>), do: {:eof, :stderr}

  def parse(<<0x86, 0, status, dropped::64>>),
    do: {:exit, %Exit{status: status, stderr_dropped: dropped}}

  def parse(<<0x86, 1, number, dropped::64>>),
    do: {:exit, %Exit{signal: Signal.name(number), stderr_dropped: dropped}}

  def parse(<<0x87, size, code::binary-size(size), text::binary>>),
    do: {:error, Error.from_code(code, text)}

  def parse(_), do: {:error, %Error{reason: :protocol, text: "unknown frame from the launcher"}}
end
