defmodule Codex.AppServer.Opening do
  @moduledoc false
  # How a turn of `Codex.AppServer.Run` begins: which requests, in which order, until the server has named thread and turn. It sends nothing
  # by itself: `ask` does, with method, parameters and options, and says what came of it.

  alias Codex.AppServer.Skills
  alias Codex.Error

  @type ask ::
          (String.t(), map(), keyword() -> {:ok, term()} | {:error, Codex.AppServer.reason()})
  @type reason ::
          {:no_id, String.t(), term()} | {:skill, String.t()} | Codex.AppServer.reason()

  @doc "Begins the turn of a job: the ids of thread and turn."
  @spec open(Codex.AppServer.Run.job(), ask()) ::
          {:ok, {String.t(), String.t()}} | {:error, reason()}
  def open(job, ask) do
    with {:ok, thread_id} <- thread(job.thread, job, ask),
         {:ok, turn_id} <- begin(job, thread_id, ask),
         do: {:ok, {thread_id, turn_id}}
  end

  defp thread({:loaded, id}, _job, _ask), do: {:ok, id}
  defp thread(:start, job, ask), do: new(job, "thread/start", %{}, ask)
  defp thread({:resume, id}, job, ask), do: new(job, "thread/resume", %{"threadId" => id}, ask)
  defp thread({:fork, id}, job, ask), do: new(job, "thread/fork", %{"threadId" => id}, ask)

  defp thread({:last, cwd}, job, ask) do
    params = %{"limit" => 1, "sortKey" => "updated_at"}
    params = if cwd, do: Map.put(params, "cwd", cwd), else: params

    case ask.("thread/list", params, []) do
      {:ok, %{"data" => [%{"id" => id} | _]}} -> thread({:resume, id}, job, ask)
      {:ok, _none} -> thread(:start, job, ask)
      {:error, reason} -> {:error, reason}
    end
  end

  defp new(job, method, ids, ask) do
    params = Map.merge(Map.fetch!(job.reach.threads, method), ids)
    # Turns are read one by one, where somebody wants them.
    params = if method == "thread/start", do: params, else: Map.put(params, "excludeTurns", true)

    case ask.(method, params, []) do
      {:ok, %{"thread" => %{"id" => id}}} -> {:ok, id}
      {:ok, other} -> {:error, {:no_id, method, other}}
      {:error, reason} -> {:error, reason}
    end
  end

  # A thread that this connection had may have been closed since.
  defp begin(%{thread: {:loaded, id}} = job, id, ask) do
    case turn(job, id, ask) do
      {:error, %{"message" => _} = error} ->
        if Error.normalize(error).kind == :thread_not_found do
          with {:ok, ^id} <- thread({:resume, id}, job, ask), do: turn(job, id, ask)
        else
          {:error, error}
        end

      result ->
        result
    end
  end

  defp begin(job, id, ask), do: turn(job, id, ask)

  defp turn(%{begin: {method, params}} = job, id, ask) do
    with {:ok, more} <- settings(job, id, ask),
         params = more |> Map.merge(params) |> Map.put("threadId", id) do
      case ask.(method, params, follow: :own) do
        {:ok, %{"turn" => %{"id" => turn_id}}} -> {:ok, turn_id}
        {:ok, other} -> {:error, {:no_id, method, other}}
        {:error, reason} -> {:error, reason}
      end
    end
  end

  # What a turn is told besides its input; a review is told nothing.
  defp settings(%{begin: {"turn/start", %{"input" => input}}} = job, id, ask) do
    with {:ok, turn} <- with_model(job.reach.turn, id, ask),
         :ok <- skills(input, job.settings, id, ask),
         do: {:ok, turn}
  end

  defp settings(_review, _id, _ask), do: {:ok, %{}}

  # A collaboration mode names a model; where the host named none, it is the thread's.
  defp with_model(%{"collaborationMode" => %{"settings" => %{"model" => ""}}} = turn, id, ask) do
    with {:ok, model} <- read(id, "model", ask),
         do: {:ok, put_in(turn["collaborationMode"]["settings"]["model"], model)}
  end

  defp with_model(turn, _id, _ask), do: {:ok, turn}

  @doc "Whether the server knows the skills of an input: it would leave out others without a word."
  @spec skills([map()], map(), String.t(), ask()) :: :ok | {:error, reason()}
  def skills(input, settings, id, ask) do
    with [_ | _] = paths <- Skills.paths(input),
         {:ok, cwd} <- where(settings, id, ask),
         {:ok, listed} <- ask.("skills/list", %{"cwds" => [cwd]}, []) do
      if missing = Skills.missing(paths, listed), do: {:error, {:skill, missing}}, else: :ok
    else
      [] -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  defp where(%{working_directory: dir}, _id, _ask) when is_binary(dir),
    do: {:ok, Path.expand(dir)}

  defp where(_settings, id, ask), do: read(id, "cwd", ask)

  defp read(id, field, ask) do
    case ask.("thread/read", %{"threadId" => id}, []) do
      {:ok, %{"thread" => %{^field => text}}} when is_binary(text) -> {:ok, text}
      {:ok, other} -> {:error, {:no_id, "thread/read", other}}
      {:error, reason} -> {:error, reason}
    end
  end
end
