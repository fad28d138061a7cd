defmodule Codex.Review.Session do
  @moduledoc false
  # Reads the reviewer's JSON from the session file of a thread, because the CLI only shows a text.

  alias Codex.FileSystem

  # A review is near the end of the file.
  @tail 8 * 1024 * 1024
  @marks [~s("type":"EnteredReviewMode"), ~s("type":"ExitedReviewMode")]

  @doc """
  Returns the decoded output of a review: the review that the item `exited` ended, or the last
  review of the thread.

  `:no_output` means that the review has not ended, or ended without output.
  """
  @spec output(Path.t(), String.t(), exited :: String.t() | nil) ::
          {:ok, map()} | {:error, :not_found | :no_output}
  def output(home, thread_id, exited \\ nil) do
    home
    |> files(thread_id)
    |> Enum.find_value({:error, :not_found}, fn file ->
      case FileSystem.tail(file, @tail) do
        {:ok, bytes} -> bytes |> last(exited) |> review_output()
        {:error, _reason} -> nil
      end
    end)
  end

  defp review_output(%{"type" => "ExitedReviewMode", "review_output" => %{} = output}),
    do: {:ok, output}

  defp review_output(%{}), do: {:error, :no_output}
  defp review_output(_none), do: nil

  # The id contains the time when the thread began (UUID version 7); directories are local dates. A
  # revert begins another file of the same id.
  defp files(home, thread_id) do
    with {:ok, <<ms::48, _::80>>} <-
           thread_id |> String.replace("-", "") |> Base.decode16(case: :mixed),
         {:ok, began} <- DateTime.from_unix(ms, :millisecond) do
      for folder <- ["archived_sessions" | days(began)],
          folder = Path.join(home, folder),
          {:ok, names} <- [FileSystem.list(folder)],
          name <- Enum.sort(names, :desc),
          String.starts_with?(name, "rollout-") and String.contains?(name, thread_id),
          do: Path.join(folder, name)
    else
      _ -> []
    end
  end

  defp days(began) do
    for day <- [1, 0, -1],
        date = began |> DateTime.add(day * 86_400, :second) |> DateTime.to_date(),
        do: Path.join("sessions", Calendar.strftime(date, "%Y/%m/%d"))
  end

  # The last item that enters or exits a review, or the item with this id.
  defp last(bytes, id) do
    bytes
    |> :binary.split("\n", [:global])
    |> Enum.reverse()
    |> Enum.find_value(fn line ->
      with {_, _} <- :binary.match(line, @marks),
           {:ok, %{"payload" => %{"item" => %{"type" => type} = item}}} <-
             Codex.JSON.decode(line),
           true <- type in ["EnteredReviewMode", "ExitedReviewMode"],
           true <- id == nil or item["id"] == id,
           do: item,
           else: (_ -> nil)
    end)
  end
end
