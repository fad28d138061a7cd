defmodule Codex.Home.Logs do
  @moduledoc false
  # The log files that the CLI writes to its home.

  alias Codex.{FileSystem, Text}

  @type log_file :: %{path: Path.t(), size: non_neg_integer(), modified: integer()}

  # Bytes of one read, and of the longest line.
  @chunk 64 * 1024

  @doc "Lists the files of a folder of logs, the last changed first."
  @spec list(Path.t()) :: {:ok, [log_file()]} | {:error, {:unreadable, Path.t(), String.t()}}
  def list(folder) do
    case FileSystem.list(folder) do
      {:ok, names} -> {:ok, names |> Enum.map(&Path.join(folder, &1)) |> regular()}
      {:error, :enoent} -> {:ok, []}
      {:error, reason} -> {:error, {:unreadable, folder, FileSystem.message(reason)}}
    end
  end

  defp regular(paths) do
    stats = Enum.zip(paths, FileSystem.stat_all(paths))

    for(
      {path, {:ok, %{kind: :regular, size: size, modified: modified}}} <- stats,
      do: %{path: path, size: size, modified: modified}
    )
    |> Enum.sort_by(& &1.modified, :desc)
  end

  @doc "Streams the lines of a growing file. See `Codex.Home.tail_log/2`."
  @spec tail(Path.t(), :start | :end, pos_integer()) :: Enumerable.t()
  def tail(path, from, poll_ms) do
    Stream.resource(
      fn ->
        begin(%{path: path, poll: poll_ms, device: nil, inode: nil, at: 0, rest: ""}, from)
      end,
      &next/1,
      &close/1
    )
  end

  defp begin(tail, from) do
    case open(tail, from) do
      %{device: nil} -> raise ArgumentError, "cannot read the log file #{tail.path}"
      tail -> tail
    end
  end

  # While a file is rotated, there may be none.
  defp open(tail, from) do
    with {:ok, device} <- :file.open(tail.path, [:read, :raw, :binary]),
         {:ok, at} <- :file.position(device, if(from == :end, do: :eof, else: :bof)) do
      %{tail | device: device, inode: inode(tail.path), at: at, rest: ""}
    else
      {:error, _reason} -> %{tail | device: nil}
    end
  end

  defp next(%{device: nil} = tail) do
    Process.sleep(tail.poll)
    {[], open(tail, :start)}
  end

  defp next(tail) do
    case :file.read(tail.device, @chunk) do
      {:ok, bytes} ->
        {lines, rest} = lines(tail.rest <> bytes)
        {lines, %{tail | at: tail.at + byte_size(bytes), rest: rest}}

      _end ->
        if replaced?(tail), do: {[], tail |> close() |> open(:start)}, else: {[], pause(tail)}
    end
  end

  defp pause(tail) do
    Process.sleep(tail.poll)
    tail
  end

  # A rotated file has another inode, an emptied one is shorter.
  defp replaced?(tail) do
    case File.stat(tail.path) do
      {:ok, stat} -> stat.inode != tail.inode or stat.size < tail.at
      {:error, _reason} -> false
    end
  end

  defp inode(path), do: with({:ok, stat} <- File.stat(path), do: stat.inode)

  defp lines(bytes) do
    {rest, lines} = bytes |> String.split("\n") |> List.pop_at(-1)

    if byte_size(rest) > @chunk,
      do: {Enum.map(lines ++ [rest], &Text.line/1), ""},
      else: {Enum.map(lines, &Text.line/1), rest}
  end

  defp close(%{device: nil} = tail), do: tail

  defp close(tail) do
    _ = :file.close(tail.device)
    %{tail | device: nil}
  end
end
