defmodule Codex.Failures do
  @moduledoc "Every failure in the recorded runs, as the SDK gets it."

  alias Codex.{Error, Events, Fixtures, JSONL}
  alias Codex.Error.Classifier
  alias Codex.Subprocess.Signal

  @dir Path.expand("../fixtures", __DIR__)

  @doc "`{name, error}` of every recorded run of `codex exec` that did not complete its turn."
  def exec do
    for path <- Path.wildcard(Path.join(@dir, "exec/*.meta.json")),
        name = Path.basename(path, ".meta.json"),
        meta = Fixtures.meta(name),
        meta["exit_status"] != 0 or meta["signal"] != nil do
      {name, exec(JSONL.decode(Fixtures.stream(name)), meta)}
    end
  end

  defp exec(events, meta) do
    case Enum.find(events, &match?(%Events.TurnFailed{}, &1)) do
      %{} = event -> Codex.Turn.failure(event)
      nil -> ended(events, meta)
    end
  end

  defp ended(events, %{"stderr_tail" => stderr, "exit_status" => status, "signal" => signal}) do
    started? = Enum.any?(events, &match?(%Events.ThreadStarted{}, &1))
    signal = signal && signal_number(signal)

    verdict =
      Classifier.ended(stderr || "", %{status: status, signal: signal, started?: started?})

    struct!(Error, Map.put(verdict, :message, Classifier.last_words(stderr || "")))
  end

  defp signal_number("SIG" <> name),
    do: name |> String.downcase() |> String.to_existing_atom() |> Signal.number!()

  @doc "`{name, error}` of every failed turn, `error` notification and refused request of the app-server, each once."
  def app_server do
    for path <- Path.wildcard(Path.join(@dir, "app_server/*.jsonl")),
        line <- File.stream!(path),
        {:ok, %{"dir" => "in", "msg" => message}} <- [Codex.JSON.decode(line)],
        error = failure(message),
        uniq: true,
        do: {Path.basename(path, ".jsonl"), Error.normalize(error)}
  end

  defp failure(%{"error" => %{} = error}), do: error
  defp failure(%{"method" => "error", "params" => %{"error" => error}}), do: error
  defp failure(%{"method" => "turn/completed", "params" => %{"turn" => turn}}), do: turn["error"]
  defp failure(_message), do: nil
end
