defmodule Codex.Review do
  @moduledoc """
  The outcome of a code review: findings, verdict and explanation.

  `Codex.Thread.review/3` and `Codex.Exec.review/2` have it as the `review` of their result:

      {:ok, %{review: review}} = Codex.Thread.review(thread, {:base_branch, "main"})
      Enum.each(review.findings, &IO.puts/1)

  ## Unreadable reviews

  A `Codex.Review` exists only if the reviewing model returned a review. An empty list of findings
  means that the reviewer's JSON has an empty list and a verdict. Any other answer (prose, truncated
  JSON, no answer) is an error of each function here and of each function that runs a review:

      {:error, {:review_unreadable, error}}

  The `Codex.Error` has the kind `:protocol`, the answer in `details.raw`, and in `result` the
  result of the function without a review.

  A review with an invalid finding stays readable: the finding is kept, and its `problem` names the
  defect.

  ## Sources

  The reviewing model answers with JSON. The CLI shows a text made of it, and keeps the JSON in the
  session file of the thread. `source` is the source of the review:

    * `:json` - the reviewer's JSON: all fields
    * `:rendered` - the text alone: findings with title, body, location and the priority that the
      title names; no verdict

  A thread with `ephemeral: true` has no session file, and the file of a server on another machine
  cannot be read. In both cases a review without findings cannot be distinguished from prose, and is
  unreadable. Over an app-server, `experimental_raw_events: true` provides the JSON without a file.
  """

  alias Codex.{Error, Events, Items}
  alias Codex.Review.{Answer, Finding, Rendered, Session}

  defstruct [:verdict, :correctness, :explanation, :confidence, :text, :source, findings: []]

  @typedoc """
    * `findings` - in the order of the reviewer
    * `verdict` - the reviewer's words: `"patch is correct"`, `"patch is incorrect"` or others
    * `correctness` - the verdict as an atom; nil if it is missing or unclear
    * `explanation` - the reviewer's reasons
    * `confidence` - how sure the reviewer is, 0.0 to 1.0
    * `text` - the whole text as the CLI shows it; nil from `find/2` and `new/1`
  """
  @type t :: %__MODULE__{
          findings: [Finding.t()],
          verdict: String.t() | nil,
          correctness: :correct | :incorrect | nil,
          explanation: String.t() | nil,
          confidence: float() | nil,
          text: String.t() | nil,
          source: :json | :rendered
        }

  @typedoc "An answer that is not a review. `error.details.raw` has its text."
  @type unreadable :: {:review_unreadable, Error.t()}

  @typedoc "The subject of a review."
  @type target ::
          :uncommitted_changes
          | {:uncommitted_changes}
          | {:base_branch, String.t()}
          | {:commit, sha :: String.t()}
          | {:commit, sha :: String.t(), title :: String.t() | nil}
          | {:custom, instructions :: String.t()}
          | String.t()

  @doc """
  Reads a review from a text: the JSON of a reviewing model, or the text that the CLI makes of it.

  The JSON may stand in a fence or between prose.

      iex> comment = "- [P1] Off by one — /srv/a.ex:3-4\\n  The last\\n  is lost."
      iex> {:ok, review} = Codex.Review.parse("It breaks.\\n\\nReview comment:\\n\\n" <> comment)
      iex> {review.source, review.explanation, hd(review.findings).title}
      {:rendered, "It breaks.", "[P1] Off by one"}
      iex> [%{body: body, priority: priority, location: location}] = review.findings
      iex> {body, priority, location}
      {"The last\\nis lost.", 1, %{path: "/srv/a.ex", start_line: 3, end_line: 4}}

      iex> json = ~s({"findings": [], "overall_correctness": "patch is correct"})
      iex> {:ok, review} = Codex.Review.parse(json)
      iex> {review.findings, review.correctness}
      {[], :correct}

      iex> {:error, {:review_unreadable, error}} = Codex.Review.parse("Looks good.")
      iex> {error.kind, error.details.raw}
      {:protocol, "Looks good."}
  """
  @spec parse(String.t()) :: {:ok, t()} | {:error, unreadable()}
  def parse(text) when is_binary(text) do
    text = Codex.Text.utf8(text)

    case {Answer.output(text), Rendered.read(text)} do
      {{:whole, output}, _comments} -> output |> new() |> from(text)
      {{:part, output}, nil} -> output |> new() |> from(text)
      {nil, nil} -> unreadable(text, "the answer is neither JSON nor a list of comments")
      {json, comments} -> comments(json, comments, text)
    end
  end

  defp from({:ok, review}, text), do: {:ok, %{review | text: text}}

  defp from({:error, {tag, error}}, text),
    do: {:error, {tag, put_in(error.details.raw, text)}}

  # JSON may be quoted in the text of a review. Findings of both are kept.
  defp comments(json, {explanation, findings}, text) do
    review = %__MODULE__{
      source: :rendered,
      explanation: explanation,
      findings: findings,
      text: text
    }

    with {:part, output} <- json, {:ok, %{findings: more}} <- new(output) do
      {:ok, %{review | findings: more ++ findings}}
    else
      _ -> {:ok, review}
    end
  end

  @doc """
  Reads a review from the decoded JSON of a reviewing model.

      iex> output = %{"findings" => [%{"title" => "Slow", "priority" => 2}]}
      iex> {:ok, %{findings: [finding]}} = Codex.Review.new(output)
      iex> {finding.priority, finding.location, finding.problem}
      {2, nil, "the location is missing"}

      iex> {:error, {:review_unreadable, error}} = Codex.Review.new(%{"findings" => []})
      iex> error.message
      "the review is unreadable: it has neither findings nor a verdict"
  """
  @spec new(map()) :: {:ok, t()} | {:error, unreadable()}
  def new(%{} = output) when not is_struct(output) do
    findings = output["findings"]
    verdict = Finding.text(output["overall_correctness"])

    cond do
      not is_list(findings) or List.improper?(findings) ->
        unreadable(output, "it has no list of findings")

      findings == [] and verdict == nil ->
        unreadable(output, "it has neither findings nor a verdict")

      true ->
        {:ok,
         %__MODULE__{
           source: :json,
           findings: Enum.map(findings, &Finding.new/1),
           verdict: verdict,
           correctness: correctness(verdict),
           explanation: Finding.text(output["overall_explanation"]),
           confidence: Finding.score(output["overall_confidence_score"])
         }}
    end
  end

  # A positive verdict has to be unmistakable.
  defp correctness(nil), do: nil

  defp correctness(verdict) do
    words = verdict |> String.downcase() |> String.split(~r/[^a-z]+/, trim: true)

    cond do
      "incorrect" in words or ("not" in words and "correct" in words) -> :incorrect
      (words -- ["the"]) in [~w(patch is correct), ~w(correct)] -> :correct
      true -> nil
    end
  end

  @doc """
  Reads the last review of a thread from its session file.

  Options: those of `Codex.Home.resolve/1`. Returns `{:ok, review}` or `{:error, reason}`:

    * `:not_found` - there is no session file, or no review in its last 8 MiB
    * `{:review_unreadable, error}` - the last review has not ended, was interrupted, or is
      unreadable
    * `%Codex.Config.Error{}` - the home is missing or invalid
  """
  @spec find(String.t(), keyword()) ::
          {:ok, t()} | {:error, :not_found | unreadable() | Codex.Config.Error.t()}
  def find(thread_id, opts \\ []) when is_binary(thread_id) do
    with {:ok, home} <- Codex.Home.resolve(opts),
         {:ok, output} <- Session.output(home, thread_id) do
      from_output(output)
    else
      {:error, :no_output} -> unreadable(nil, "the review has not ended, or was interrupted")
      {:error, reason} -> {:error, reason}
    end
  end

  @doc false
  # The review of a turn that has just ended: from the session file, from raw events, or from the
  # text.
  @spec of([Events.t()], String.t() | nil, Path.t() | nil) :: {:ok, t()} | {:error, unreadable()}
  def of(events, thread_id, home) do
    events = last_attempt(events)
    text = last_message(events)

    case from_session(events, thread_id, home) || raw(events) || from_text(text) do
      {:ok, review} -> {:ok, %{review | text: text}}
      {:error, _} = error -> error
    end
  end

  @doc false
  # The events that `of/3` needs, newest first.
  @spec keep(Events.t(), [Events.t()]) :: [Events.t()]
  def keep(event, kept) do
    cond do
      begin?(event) -> [event]
      match?(%Events.ItemCompleted{item: %Items.AgentMessage{}}, event) -> [event | kept]
      match?(%{item: %Items.ReviewMode{}}, event) -> [event | kept]
      raw_text(event) -> [event | kept]
      true -> kept
    end
  end

  # A repeated review starts anew: in another thread, or in another turn.
  defp last_attempt(events) do
    events
    |> Enum.reverse()
    |> Enum.take_while(&(not begin?(&1)))
    |> Enum.reverse()
  end

  defp begin?(%Events.ThreadStarted{}), do: true
  defp begin?(%Events.ItemStarted{item: %Items.ReviewMode{entered: true}}), do: true
  defp begin?(_event), do: false

  defp last_message(events) do
    for %Events.ItemCompleted{item: %Items.AgentMessage{text: text}} <- events, reduce: nil do
      _earlier -> text
    end
  end

  defp from_session(events, thread_id, home) when is_binary(thread_id) and is_binary(home) do
    # `codex exec` has no such item, but its thread has only one review.
    exited =
      Enum.find_value(events, fn
        %Events.ItemCompleted{item: %Items.ReviewMode{entered: false, id: id}} -> id
        _other -> nil
      end)

    case Session.output(home, thread_id, exited) do
      {:ok, output} -> from_output(output)
      {:error, :no_output} -> unreadable(last_message(events), "the reviewer gave no answer")
      {:error, :not_found} -> nil
    end
  end

  defp from_session(_events, _thread_id, _home), do: nil

  # If the answer is not the expected JSON, the CLI keeps the text as the explanation.
  defp from_output(%{"findings" => [], "overall_explanation" => text} = output)
       when is_binary(text) do
    if Finding.text(output["overall_correctness"]) do
      new(output)
    else
      with {:ok, review} <- parse(text), do: {:ok, %{review | text: nil}}
    end
  end

  defp from_output(output), do: new(output)

  # The last message of the reviewer; the thread's own message comes after the end of the review.
  defp raw(events) do
    events
    |> Enum.take_while(&(not match?(%{item: %Items.ReviewMode{entered: false}}, &1)))
    |> Enum.reverse()
    |> Enum.find_value(&raw_text/1)
    |> then(&(&1 && parse(&1)))
  end

  defp raw_text(%Events.RawResponseItemCompleted{
         item: %Items.RawResponseItem{
           type: "message",
           payload: %{"role" => "assistant", "content" => [_ | _] = content}
         }
       }) do
    text = for %{"type" => "output_text", "text" => text} <- content, into: "", do: text
    Finding.text(text)
  end

  defp raw_text(_event), do: nil

  defp from_text(nil), do: unreadable(nil, "the reviewer gave no answer")

  defp from_text(text) do
    with {:error, {:review_unreadable, error}} <- parse(text) do
      words =
        "; its session file cannot be read here (an ephemeral thread, or a server on another " <>
          "machine), so the text may be a review without findings, or prose"

      {:error, {:review_unreadable, %{error | message: error.message <> words}}}
    end
  end

  defp unreadable(raw, why) do
    error = Error.new(:protocol, "the review is unreadable: " <> why, %{raw: raw})
    {:error, {:review_unreadable, error}}
  end
end
