defmodule Codex.Review.Finding do
  @moduledoc """
  A finding of a `Codex.Review`.

    * `title` - often begins with the priority, as `[P1]`
    * `body` - the explanation of the problem
    * `priority` - 0 (drop everything) to 3 (nice to have), from the reviewer's field or from the
      title; nil if neither names a priority. Treat nil as urgent
    * `confidence` - how sure the reviewer is, 0.0 to 1.0, or nil
    * `location` - `%{path: path, start_line: n, end_line: n}`, each of them nil if unknown. The
      path is the reviewer's (the CLI asks for an absolute path). nil if nothing is known
    * `problem` - the defects of the reviewer's finding, such as a missing title or an invalid
      line, as text; nil if the finding is complete

  A finding with defects keeps all that is known. `to_string/1` makes one line of a finding, safe
  for terminals and logs.
  """

  defstruct [:title, :body, :priority, :confidence, :location, :problem]

  @typedoc "The place of a finding. Lines begin with 1; unknown parts are nil."
  @type location :: %{
          path: String.t() | nil,
          start_line: non_neg_integer() | nil,
          end_line: non_neg_integer() | nil
        }
  @typedoc "A finding. Fields: see above."
  @type t :: %__MODULE__{
          title: String.t() | nil,
          body: String.t() | nil,
          priority: 0..3 | nil,
          confidence: float() | nil,
          location: location() | nil,
          problem: String.t() | nil
        }

  @doc false
  # Reads one element of the reviewer's list, whatever it is.
  @spec new(term()) :: t()
  def new(%{} = finding) do
    title = text(finding["title"])
    priority = priority(finding["priority"])
    confidence = score(finding["confidence_score"])
    {location, missing} = location(finding["code_location"])

    problems = [
      if(title == nil, do: "the title is missing"),
      invalid("priority", finding["priority"], priority),
      invalid("confidence_score", finding["confidence_score"], confidence)
      | missing
    ]

    %__MODULE__{
      title: title,
      body: text(finding["body"]),
      priority: priority || named(title),
      confidence: confidence,
      location: location,
      problem: problem(problems)
    }
  end

  def new(other) do
    title = text(other)
    problem = "expected an object, got: #{shown(other)}"
    %__MODULE__{title: title, priority: named(title), problem: problem}
  end

  @doc false
  # Text that is not blank, else nil.
  @spec text(term()) :: String.t() | nil
  def text(text) when is_binary(text), do: if(String.trim(text) != "", do: text)
  def text(_none), do: nil

  @doc false
  @spec score(term()) :: float() | nil
  def score(n) when is_number(n) and n >= 0 and n <= 1, do: n / 1
  def score(_none), do: nil

  @doc false
  # The priority that a title names.
  @spec named(String.t() | nil) :: 0..3 | nil
  def named(nil), do: nil

  def named(title) do
    case Regex.run(~r/\[P([0-3])\]/i, title) do
      [_, digit] -> String.to_integer(digit)
      nil -> nil
    end
  end

  defp priority(n) when n in 0..3, do: n
  defp priority(n) when is_float(n) and n >= 0 and n <= 3 and trunc(n) == n, do: trunc(n)

  defp priority(text) when is_binary(text) do
    case Regex.run(~r/\A\s*\[?P?([0-3])\]?\s*\z/i, text) do
      [_, digit] -> String.to_integer(digit)
      nil -> nil
    end
  end

  defp priority(_none), do: nil

  defp location(%{} = place) do
    path = text(place["absolute_file_path"])
    range = if is_map(place["line_range"]), do: place["line_range"], else: %{}
    {first, last} = {line(range["start"]), line(range["end"])}

    missing = [
      if(path == nil, do: "the path is missing"),
      if(first == nil, do: missing("first line", range["start"])),
      if(last == nil, do: missing("last line", range["end"]))
    ]

    location =
      if path || first || last, do: %{path: path, start_line: first, end_line: last}, else: nil

    {location, missing}
  end

  defp location(_none), do: {nil, ["the location is missing"]}

  # Longer numbers name no line.
  defp line(n) when is_integer(n) and n in 0..0xFFFFFFFF, do: n
  defp line(n) when is_float(n) and n >= 0 and n <= 0xFFFFFFFF, do: trunc(n)

  defp line(text) when is_binary(text) and byte_size(text) <= 16 do
    case Integer.parse(String.trim(text)) do
      {n, ""} -> line(n)
      _ -> nil
    end
  end

  defp line(_none), do: nil

  defp missing(name, nil), do: "the #{name} is missing"
  defp missing(name, value), do: "the #{name} is invalid: #{shown(value)}"

  defp invalid(_name, nil, _read), do: nil
  defp invalid(name, value, nil), do: "#{name} is invalid: #{shown(value)}"
  defp invalid(_name, _value, _read), do: nil

  defp problem(problems) do
    case Enum.reject(problems, &is_nil/1) do
      [] -> nil
      problems -> Enum.join(problems, "; ")
    end
  end

  defp shown(value), do: inspect(value, limit: 5, printable_limit: 100)

  defimpl String.Chars do
    def to_string(finding) do
      [place(finding.location), finding.title || "(no title)"]
      |> Enum.reject(&is_nil/1)
      |> Enum.join(" ")
      |> Codex.Text.line()
    end

    defp place(%{path: path, start_line: line}) when path != nil and line != nil,
      do: "#{path}:#{line}"

    defp place(%{path: path}), do: path
    defp place(nil), do: nil
  end
end
