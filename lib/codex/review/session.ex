defmodule Codex.Review.Session do
  @moduledoc false
  # What a reviewing model said, in the session file of its thread: the CLI (0.169) writes it there, and shows a text only.

  # A review is near the end of the file when it is looked for.
  @tail 8 * 1024 * 1024
  @mark ~s("type":"ExitedReviewMode")

  @doc "The output of the last review of a thread, decoded."
  @spec output(Path.t(), String.t()) :: {:ok, map()} | {:error, :not_found}
  def output(home, thread_id) do
    home
    |> files(thread_id)
    |> Enum.find_value({:error, :not_found}, fn file ->
      with {:ok, bytes} <- tail(file), %{} = output <- last(bytes), do: {:ok, output}
    end)
  end

  # The id says when the thread began (UUID version 7); the folders are those of local days. A revert begins another file of the same id.
  defp files(home, thread_id) do
    with {:ok, <<ms::48, _::80>>} <-
           thread_id |> String.replace("-", "") |> Base.decode16(case: :mixed),
         {:ok, began} <- DateTime.from_unix(ms, :millisecond) do
      for day <- -1..1,
          date = began |> DateTime.add(day * 86_400, :second) |> DateTime.to_date(),
          folder = Path.join([home, "sessions", Calendar.strftime(date, "%Y/%m/%d")]),
          {:ok, names} <- [File.ls(folder)],
          name <- Enum.sort(names, :desc),
          String.starts_with?(name, "rollout-") and String.contains?(name, thread_id),
          do: Path.join(folder, name)
    else
      _ -> []
    end
  end

  defp tail(file) do
    with {:ok, %{size: size}} <- File.stat(file),
         {:ok, io} <- :file.open(file, [:read, :raw, :binary]) do
      read = :file.pread(io, max(size - @tail, 0), @tail)
      _ = :file.close(io)
      read
    end
  end

  defp last(bytes) do
    bytes
    |> :binary.split("\n", [:global])
    |> Enum.reverse()
    |> Enum.find_value(fn line ->
      with {_, _} <- :binary.match(line, @mark),
           {:ok, %{"payload" => %{"item" => %{"review_output" => %{} = output}}}} <-
             Codex.JSON.decode(line),
           do: output,
           else: (_ -> nil)
    end)
  end
end
