defmodule Codex.Turn.Tee.Log do
  @moduledoc false
  # A file of mode 0600 that is rotated by its size: `raw.jsonl` becomes `raw.jsonl.1`, and so on.
  # The first write makes the file.

  @enforce_keys [:path, :max_bytes, :max_files]
  defstruct [:path, :max_bytes, :max_files, :device, size: 0]

  @type t :: %__MODULE__{
          path: Path.t(),
          max_bytes: pos_integer(),
          max_files: pos_integer(),
          device: :file.fd() | nil,
          size: non_neg_integer()
        }

  @doc "Writes lines at the end. A line is never cut, however long it is."
  @spec write(t(), [iodata()]) :: {:ok, t()} | {:error, :file.posix()}
  def write(log, []), do: {:ok, log}

  def write(log, [line | lines]) do
    with {:ok, log} <- room(log, IO.iodata_length(line)) do
      {batch, size, rest} = fill([line], log.size + IO.iodata_length(line), lines, log.max_bytes)

      with {:ok, log} <- open(log),
           :ok <- :file.write(log.device, Enum.reverse(batch)),
           do: write(%{log | size: size}, rest)
    end
  end

  # As many lines as the file has room for.
  defp fill(batch, size, [line | lines] = rest, most) do
    case size + IO.iodata_length(line) do
      more when more <= most -> fill([line | batch], more, lines, most)
      _full -> {batch, size, rest}
    end
  end

  defp fill(batch, size, [], _most), do: {batch, size, []}

  defp room(%{size: size} = log, bytes) when size == 0 or size + bytes <= log.max_bytes,
    do: {:ok, log}

  defp room(log, _bytes) do
    :ok = close(log)
    log = %{log | device: nil, size: 0}
    with :ok <- rotate(log.path, log.max_files - 1), do: {:ok, log}
  end

  defp rotate(path, 0), do: :file.delete(path)

  defp rotate(path, kept) do
    # A file that does not exist yet is not moved.
    for n <- (kept - 1)..1//-1, do: _ = :file.rename("#{path}.#{n}", "#{path}.#{n + 1}")
    :file.rename(path, "#{path}.1")
  end

  defp open(%{device: nil} = log) do
    with {:ok, device} <- :file.open(log.path, [:write, :exclusive, :raw, :binary]),
         :ok <- :file.change_mode(log.path, 0o600),
         do: {:ok, %{log | device: device}}
  end

  defp open(log), do: {:ok, log}

  @doc "Closes the file."
  @spec close(t()) :: :ok
  def close(%{device: nil}), do: :ok

  def close(log) do
    _ = :file.close(log.device)
    :ok
  end
end
