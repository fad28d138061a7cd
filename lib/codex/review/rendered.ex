defmodule Codex.Review.Rendered do
  @moduledoc false
  # Parses the text that the CLI makes of a review:
  #
  #     explanation
  #
  #     Full review comments:
  #
  #     - title — path:first-last
  #       body, indented
  #
  # The text has no escapes, so that an unusual title or path is ambiguous. Every comment becomes a
  # finding.

  alias Codex.Review.Finding

  @head ~r/(?:\A|\n)(?:Review comment|Full review comments):\n\n(?=- )/
  @place ~r/\A(?<head>.+):(?<first>\d{1,9})-(?<last>\d{1,9})\z/us
  @range ~r/:\d{1,9}-\d{1,9}\z/
  @dash " — "
  @absolute ~r{\A(?:/|[A-Za-z]:[\\/]|\\\\)}

  # The maximum number of heads to try.
  @most 64

  @doc "Returns the explanation and the findings of a text, or nil if it has no comments."
  @spec read(String.t()) :: {String.t() | nil, [Finding.t(), ...]} | nil
  def read(text) do
    text = String.replace(text, "\r\n", "\n")

    case @head |> Regex.scan(text, return: :index) |> Enum.map(&hd/1) do
      [] -> nil
      heads -> heads |> split(text) |> findings()
    end
  end

  # An explanation may quote the words of a head. The comments begin at the first head that is
  # followed by a comment with a location, else at the last head: too much is read as a finding
  # rather than too little.
  defp split(heads, text) do
    parts =
      for {at, size} <- Enum.take(heads, @most) ++ [List.last(heads)] do
        {before, rest} = :erlang.split_binary(text, at)
        {_head, comments} = :erlang.split_binary(rest, size)
        {before, comments}
      end

    Enum.find(parts, List.last(parts), fn {_before, comments} ->
      comments |> comments() |> hd() |> finding() |> Map.fetch!(:location)
    end)
  end

  defp findings({before, comments}),
    do:
      {before |> String.trim() |> Finding.text(), comments |> comments() |> Enum.map(&finding/1)}

  # An empty line stands before each comment, and the lines of a body are indented.
  defp comments("- " <> comments), do: String.split(comments, "\n\n- ")

  # A title may have line breaks, too: its last line has the location.
  defp finding(comment) do
    lines = comment |> String.trim_trailing() |> String.split("\n")
    {head, body} = Enum.split_while(lines, &(not String.starts_with?(&1, "  ")))

    case placed(head, body) || placed(lines) do
      {title, location, body} ->
        %Finding{
          title: title,
          body:
            body |> Enum.map_join("\n", &String.replace_prefix(&1, "  ", "")) |> Finding.text(),
          priority: Finding.named(title),
          location: location,
          problem: if(title == nil, do: "the title is missing")
        }

      nil ->
        title = Finding.text(comment)
        problem = "the location is missing"
        %Finding{title: title, priority: Finding.named(title), problem: problem}
    end
  end

  # The shortest head that ends with a location.
  defp placed(lines) do
    {n, _dash?} =
      Enum.reduce_while(lines, {0, false}, fn line, {n, dash?} ->
        dash? = dash? or String.contains?(if(n == 0, do: " " <> line, else: line), @dash)
        if dash? and line =~ @range, do: {:halt, {n + 1, true}}, else: {:cont, {n + 1, dash?}}
      end)

    {head, body} = Enum.split(lines, n)
    placed(head, body)
  end

  defp placed(head, body) do
    with %{"head" => head, "first" => first, "last" => last} <-
           Regex.named_captures(@place, Enum.join(head, "\n")),
         {title, path} <- title(head) do
      location = %{
        path: path,
        start_line: String.to_integer(first),
        end_line: String.to_integer(last)
      }

      {Finding.text(title), location, body}
    else
      _ -> nil
    end
  end

  # Title and path may contain the dash. The last absolute path counts.
  defp title(head) do
    case String.split(" " <> head, @dash) do
      [_no_dash] ->
        nil

      [_ | paths] = parts ->
        absolute = for {path, n} <- Enum.with_index(paths, 1), path =~ @absolute, do: n
        {title, path} = Enum.split(parts, List.last(absolute) || length(paths))
        {title |> Enum.join(@dash) |> String.trim(), Enum.join(path, @dash)}
    end
  end
end
