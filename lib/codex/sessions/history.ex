defmodule Codex.Sessions.History do
  @moduledoc false
  # `history.jsonl` of a home: prompts that people typed into the CLI's terminal interface, a line
  # `{"session_id":…,"ts":seconds,"text":…}` each. The CLI locks the file while it writes.

  alias Codex.{Config, FileSystem, Home, JSON}
  alias Codex.Sessions.Problem

  @name "history.jsonl"

  # More than that is not read: the newest prompts are at the end.
  @most 64 * 1024 * 1024

  # The CLI cuts a file that is too large down to this share of its limit.
  @kept 0.8

  @lock_ms 2_000

  @type entry :: %{session_id: String.t(), time: DateTime.t(), text: String.t()}

  @doc "Reads the prompts, the oldest first. Lines that are no prompts are a problem."
  @spec read(Path.t()) :: {:ok, [entry()], [Problem.t()]} | {:error, Codex.Reason.file()}
  def read(home) do
    path = Home.path(home, :history)

    with {:ok, %{size: size}} <- FileSystem.stat(path),
         {:ok, text} <- FileSystem.tail(path, @most) do
      lines = String.split(text, "\n", trim: true)
      # The first line is cut if the file is longer.
      lines = if size > @most, do: Enum.drop(lines, 1), else: lines
      {entries, bad} = lines |> Enum.map(&entry/1) |> Enum.split_with(&is_map/1)
      {:ok, entries, problem(length(bad))}
    else
      {:error, reason} when reason in [:enoent, :enotdir] -> {:ok, [], []}
      {:error, reason} -> {:error, {:unreadable, path, reason}}
    end
  end

  defp problem(0), do: []
  defp problem(count), do: [%Problem{kind: :bad_lines, path: @name, count: count}]

  defp entry(line) do
    with {:ok, %{"session_id" => id, "ts" => ts, "text" => text}}
         when is_binary(id) and is_integer(ts) and is_binary(text) <- JSON.decode(line),
         {:ok, time} <- DateTime.from_unix(ts) do
      %{session_id: id, time: time, text: text}
    else
      _ -> :bad
    end
  end

  @doc """
  Appends a prompt, unless `history.persistence` is `"none"`. A file that grows beyond
  `history.max_bytes` loses its oldest prompts.
  """
  @spec append(Path.t(), entry()) ::
          {:ok, :recorded | :disabled}
          | {:error,
             Config.Error.t()
             | {:lock_held, Path.t()}
             | {:write_failed, Path.t(), Codex.Reason.file()}}
  def append(home, entry) do
    with {:ok, config} <- Config.load(codex_home: home, cwd: false) do
      case Config.Core.history(config) do
        %{persistence: :none} -> {:ok, :disabled}
        %{max_bytes: most} -> append(home, line(entry), most)
      end
    end
  end

  # Keys in the order of the CLI.
  defp line(%{session_id: id, time: time, text: text}) do
    ts = DateTime.to_unix(time)
    [~s({"session_id":), JSON.encode!(id), ~s(,"ts":#{ts},"text":), JSON.encode!(text), "}\n"]
  end

  defp append(home, line, most) do
    path = Home.path(home, :history)

    line = IO.iodata_to_binary(line)

    case FileSystem.with_lock(path, @lock_ms, fn -> write(path, line, most) end) do
      {:ok, :ok} -> {:ok, :recorded}
      {:error, :held} -> {:error, {:lock_held, path}}
      {:ok, {:error, reason}} -> {:error, {:write_failed, path, reason}}
      {:error, reason} -> {:error, {:write_failed, path, reason}}
    end
  end

  # A writer that was killed may have left half a line.
  defp write(path, line, most) do
    with {:ok, file} <- :file.open(path, [:read, :write, :raw, :binary]) do
      try do
        with {:ok, size} <- :file.position(file, :eof),
             {:ok, newline} <- newline(file, size),
             :ok <- :file.pwrite(file, size, [newline, line]),
             :ok <- :file.change_mode(path, 0o600),
             do: cut(file, size + byte_size(newline) + byte_size(line), byte_size(line), most)
      after
        :file.close(file)
      end
    end
  end

  defp newline(_file, 0), do: {:ok, ""}

  defp newline(file, size) do
    with {:ok, last} <- :file.pread(file, size - 1, 1),
         do: {:ok, if(last == "\n", do: "", else: "\n")}
  end

  defp cut(_file, size, _last, most) when most == nil or most == 0 or size <= most, do: :ok

  # The newest prompt stays, however long it is.
  defp cut(file, size, last, most) do
    keep = max(trunc(most * @kept), last)

    with {:ok, tail} <- :file.pread(file, size - min(keep + 1, size), keep + 1),
         [_cut, rest] <- :binary.split(tail, "\n"),
         :ok <- :file.pwrite(file, 0, rest),
         {:ok, _} <- :file.position(file, byte_size(rest)) do
      :file.truncate(file)
    else
      {:error, reason} -> {:error, reason}
      _ -> :ok
    end
  end
end
