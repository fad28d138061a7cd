defmodule Codex.Review.Finding do
  @moduledoc """
  One finding of a `Codex.Review`.

    * `title` - often begins with the priority, as `[P1]`
    * `body` - what is wrong, and why
    * `priority` - 0 (drop everything) to 3 (nice to have), or nil
    * `confidence` - how sure the model is, 0.0 to 1.0, or nil
    * `location` - `%{path: path, start_line: n, end_line: n}`, lines from 1; the path as the model gave it (it is asked for an absolute one); or nil
  """

  defstruct [:title, :body, :priority, :confidence, :location]

  @type location :: %{path: String.t(), start_line: pos_integer(), end_line: pos_integer()}
  @type t :: %__MODULE__{
          title: String.t() | nil,
          body: String.t() | nil,
          priority: 0..3 | nil,
          confidence: float() | nil,
          location: location() | nil
        }

  @doc false
  @spec new(map()) :: t()
  def new(finding) do
    title = text(finding["title"])

    %__MODULE__{
      title: title,
      body: text(finding["body"]),
      priority: priority(finding["priority"]) || named(title),
      confidence: score(finding["confidence_score"]),
      location: location(finding["code_location"])
    }
  end

  @head ~r/\A(?<title>.*) — (?<path>.+):(?<first>\d{1,9})-(?<last>\d{1,9})\z/us

  @doc false
  # As the CLI shows it: `title — path:first-last`, and the body indented.
  @spec rendered(String.t()) :: t() | nil
  def rendered(text) do
    [head | body] = text |> String.trim_trailing() |> String.split("\n")

    case Regex.named_captures(@head, head) do
      %{"title" => title, "path" => path, "first" => first, "last" => last} ->
        %__MODULE__{
          title: title,
          body: body |> Enum.map_join("\n", &String.replace_prefix(&1, "  ", "")) |> text(),
          priority: named(title),
          location: %{
            path: path,
            start_line: String.to_integer(first),
            end_line: String.to_integer(last)
          }
        }

      nil ->
        nil
    end
  end

  @doc false
  @spec text(term()) :: String.t() | nil
  def text(text) when is_binary(text) and text != "", do: text
  def text(_none), do: nil

  @doc false
  @spec score(term()) :: float() | nil
  def score(n) when is_number(n) and n >= 0 and n <= 1, do: n / 1
  def score(_none), do: nil

  defp priority(n) when n in 0..3, do: n
  defp priority(_none), do: nil

  defp named(<<"[P", n, "]", _::binary>>) when n in ?0..?3, do: n - ?0
  defp named(_title), do: nil

  defp location(%{
         "absolute_file_path" => path,
         "line_range" => %{"start" => first, "end" => last}
       })
       when is_binary(path) and is_integer(first) and is_integer(last),
       do: %{path: path, start_line: first, end_line: last}

  defp location(_none), do: nil
end
