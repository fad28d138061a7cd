defmodule Codex.Review do
  @moduledoc """
  What a code review found: the `review` of a result of `Codex.Thread.review/3`, and of `Codex.Exec.review/2`.

      {:ok, %{review: review}} = Codex.Thread.review(thread, {:base_branch, "main"})

      for finding <- review.findings, finding.priority in [0, 1] do
        IO.puts("\#{finding.location.path}:\#{finding.location.start_line} \#{finding.title}")
      end

  The reviewing model answers with JSON. The CLI (0.169) shows of it a text, and keeps it in the session file of the thread. So there are three
  `source`s:

    * `:json` - all fields, as the model gave them
    * `:rendered` - there is no such file (an ephemeral thread, a server elsewhere, a removed home): title, body, location and the priority that
      the title names, out of the text
    * `:text` - the model gave no JSON: `text` is what it said
  """

  alias Codex.Review.{Finding, Session}

  defstruct [:verdict, :explanation, :confidence, :text, source: :text, findings: []]

  @typedoc """
    * `findings` - in the order of the model
    * `verdict` - `"patch is correct"`, `"patch is incorrect"`, or another word of the model's
    * `explanation` - its reasons
    * `confidence` - how sure it is, 0.0 to 1.0
    * `text` - the whole as the CLI shows it; nil out of `find/2`
  """
  @type t :: %__MODULE__{
          findings: [Finding.t()],
          verdict: String.t() | nil,
          explanation: String.t() | nil,
          confidence: float() | nil,
          text: String.t() | nil,
          source: :json | :rendered | :text
        }

  @typedoc "What a review looks at."
  @type target ::
          :uncommitted_changes
          | {:uncommitted_changes}
          | {:base_branch, String.t()}
          | {:commit, sha :: String.t()}
          | {:commit, sha :: String.t(), title :: String.t() | nil}
          | {:custom, instructions :: String.t()}
          | String.t()

  @heads ["Review comment:\n\n", "Full review comments:\n\n"]

  @doc """
  A review out of a text: the JSON of a reviewing model, or what the CLI makes of it.

      iex> review = Codex.Review.parse("It breaks.\\n\\nReview comment:\\n\\n- [P1] Off by one — /srv/a.ex:3-4\\n  The last\\n  is lost.")
      iex> {review.source, review.explanation, hd(review.findings).title}
      {:rendered, "It breaks.", "[P1] Off by one"}
      iex> [%{body: body, priority: priority, location: location}] = review.findings
      iex> {body, priority, location}
      {"The last\\nis lost.", 1, %{path: "/srv/a.ex", start_line: 3, end_line: 4}}
      iex> Codex.Review.parse("Looks good.")
      %Codex.Review{text: "Looks good.", source: :text}
  """
  @spec parse(String.t()) :: t()
  def parse(text) when is_binary(text) do
    case Codex.JSON.decode(text) do
      {:ok, %{"findings" => _} = output} -> %{new(output) | text: text}
      _ -> rendered(text)
    end
  end

  @doc """
  A review out of the decoded JSON of a reviewing model. What is not of the expected kind is left out.

      iex> review = Codex.Review.new(%{"findings" => [%{"title" => "Slow", "priority" => 2}], "overall_confidence_score" => 1})
      iex> {review.confidence, hd(review.findings).priority, hd(review.findings).location}
      {1.0, 2, nil}
  """
  @spec new(map()) :: t()
  def new(%{} = output) do
    %__MODULE__{
      source: :json,
      findings: for(%{} = finding <- list(output["findings"]), do: Finding.new(finding)),
      verdict: Finding.text(output["overall_correctness"]),
      explanation: Finding.text(output["overall_explanation"]),
      confidence: Finding.score(output["overall_confidence_score"])
    }
  end

  defp list(list), do: if(is_list(list) and not List.improper?(list), do: list, else: [])

  defp rendered(text) do
    with {at, size} <- :binary.match(text, @heads),
         <<explanation::binary-size(at), _head::binary-size(size), comments::binary>> = text,
         [_ | _] = findings <- findings(comments) do
      explanation = explanation |> String.trim() |> Finding.text()
      %__MODULE__{source: :rendered, text: text, explanation: explanation, findings: findings}
    else
      _ -> %__MODULE__{text: text}
    end
  end

  # The lines of a finding are indented, its title is not.
  defp findings(comments) do
    comments
    |> String.split(~r/(?:\A|\n)- /, trim: true)
    |> Enum.map(&Finding.rendered/1)
    |> then(&if(nil in &1, do: [], else: &1))
  end

  @doc """
  The last review of a thread, from its session file.

  Options: those of `Codex.Home.resolve/1`. Returns `{:ok, review}`, `{:error, :not_found}` where there is no such file or no review in its last
  8 MiB, or `{:error, %Codex.Config.Error{}}` for a home that is none.
  """
  @spec find(String.t(), keyword()) ::
          {:ok, t()} | {:error, :not_found | Codex.Config.Error.t()}
  def find(thread_id, opts \\ []) do
    with {:ok, home} <- Codex.Home.resolve(opts),
         {:ok, output} <- Session.output(home, thread_id),
         do: {:ok, new(output)}
  end

  @doc false
  # Of a turn that has just ended: what its session file has, where that is the same review as the text.
  @spec of(String.t() | nil, String.t() | nil, Path.t() | nil) :: t() | nil
  def of(nil, _thread_id, _home), do: nil

  def of(text, thread_id, home) do
    case parse(text) do
      %{source: :rendered} = review ->
        with true <- is_binary(thread_id) and is_binary(home),
             {:ok, output} <- Session.output(home, thread_id),
             %{findings: findings} = whole <- new(output),
             true <- Enum.map(findings, & &1.title) == Enum.map(review.findings, & &1.title) do
          %{whole | text: text}
        else
          _ -> review
        end

      review ->
        verdict(review, text, thread_id, home)
    end
  end

  # Without findings, the text is the explanation alone.
  defp verdict(%{source: :text} = review, text, thread_id, home)
       when is_binary(thread_id) and is_binary(home) do
    with {:ok, output} <- Session.output(home, thread_id),
         %{findings: [], explanation: ^text, verdict: verdict} = whole when verdict != nil <-
           new(output) do
      %{whole | text: text}
    else
      _ -> review
    end
  end

  defp verdict(review, _text, _thread_id, _home), do: review
end
