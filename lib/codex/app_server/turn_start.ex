defmodule Codex.AppServer.TurnStart do
  @moduledoc false
  # The requests that begin a turn, in order, until the server has named thread and turn. It sends
  # nothing by itself: `ask` does, with method, parameters and options, and returns the answer.

  alias Codex.AppServer.{Skills, ThreadParams}
  alias Codex.Error

  @typedoc """
    * `thread` - how the thread begins; `{:last, cwd}` is the newest one of a folder
    * `begin` - the method that starts the turn, and its parameters but for the thread
    * `sent`, `turn` - how the options are sent, to a thread and to a turn
    * `params` - the parameters of a thread's method that were checked before, or nil
    * `items` - response items that a new thread begins with
    * `working_directory` - of the turn, or nil
    * `verify` - checks a thread before its turn begins, or nil
  """
  @type t :: %{
          thread: :start | {:loaded | :resume | :fork, String.t()} | {:last, String.t() | nil},
          begin: {method :: String.t(), params :: map()},
          sent: ThreadParams.t(),
          turn: ThreadParams.params(),
          params: {method :: String.t(), ThreadParams.params()} | nil,
          items: [map()],
          working_directory: String.t() | nil,
          verify: (String.t(), ask() -> :ok | {:error, reason()}) | nil
        }

  @type ask ::
          (String.t(), map(), keyword() -> {:ok, term()} | {:error, Codex.AppServer.reason()})
  @type reason ::
          {:no_id, String.t(), term()}
          | {:skill, String.t()}
          | {:blocked, :not_run}
          | ThreadParams.reason()
          | Codex.AppServer.reason()

  @doc "Begins a turn and returns the ids of thread and turn."
  @spec open(t(), ask()) :: {:ok, {String.t(), String.t()}} | {:error, reason()}
  def open(start, ask) do
    with {:ok, {thread_id, _model} = thread} <- thread(start.thread, start, ask),
         :ok <- verify(start, thread_id, ask),
         {:ok, turn_id} <- begin(start, thread, ask),
         do: {:ok, {thread_id, turn_id}}
  end

  defp verify(%{verify: nil}, _thread_id, _ask), do: :ok
  defp verify(start, thread_id, ask), do: start.verify.(thread_id, ask)

  # Returns the thread's id and its model, which is nil if no answer named it.
  defp thread({:loaded, id}, _start, _ask), do: {:ok, {id, nil}}

  defp thread(:start, start, ask) do
    with {:ok, {id, _model} = thread} <- new(start, "thread/start", %{}, ask),
         :ok <- inject(start.items, id, ask),
         do: {:ok, thread}
  end

  defp thread({:resume, id}, start, ask), do: new(start, "thread/resume", thread_of(id), ask)
  defp thread({:fork, id}, start, ask), do: new(start, "thread/fork", thread_of(id), ask)

  defp thread({:last, cwd}, start, ask) do
    params = %{"limit" => 1, "sortKey" => "updated_at"}
    params = if cwd, do: Map.put(params, "cwd", cwd), else: params

    case ask.("thread/list", params, []) do
      {:ok, %{"data" => [%{"id" => id} | _]}} -> thread({:resume, id}, start, ask)
      {:ok, _none} -> thread(:start, start, ask)
      {:error, reason} -> {:error, reason}
    end
  end

  defp inject([], _id, _ask), do: :ok

  defp inject(items, id, ask) do
    params = %{"threadId" => id, "items" => items}
    with {:ok, _} <- ask.("thread/inject_items", params, []), do: :ok
  end

  # The turns of a thread are read one by one, by those who want them.
  defp thread_of(id), do: %{"threadId" => id, "excludeTurns" => true}

  defp new(start, method, ids, ask) do
    with {:ok, {params, experimental}} <- params(start, method) do
      case ask.(method, Map.merge(params, ids), experimental: experimental) do
        {:ok, %{"thread" => %{"id" => id}} = answer} -> {:ok, {id, answer["model"]}}
        {:ok, other} -> {:error, {:no_id, method, other}}
        {:error, reason} -> {:error, reason}
      end
    end
  end

  defp params(%{params: {method, params}}, method), do: {:ok, params}
  defp params(start, method), do: ThreadParams.thread(start.sent, method)

  # A thread that this connection had may have been closed since.
  defp begin(%{thread: {:loaded, id}} = start, thread, ask) do
    with {:error, %{"message" => _} = error} <- turn(start, thread, ask) do
      if Error.normalize(error).kind == :thread_not_found,
        do: resume_and_begin(start, id, ask),
        else: {:error, error}
    end
  end

  defp begin(start, thread, ask), do: turn(start, thread, ask)

  defp resume_and_begin(start, id, ask) do
    with {:ok, {^id, _model} = thread} <- thread({:resume, id}, start, ask),
         :ok <- verify(start, id, ask),
         do: turn(start, thread, ask)
  end

  defp turn(%{begin: {method, params}} = start, {id, _model} = thread, ask) do
    with {:ok, {more, experimental}} <- settings(start, thread, ask) do
      params = more |> Map.merge(params) |> Map.put("threadId", id)

      case ask.(method, params, follow: :own, experimental: experimental) do
        {:ok, %{"turn" => %{"id" => turn_id}}} -> {:ok, turn_id}
        {:ok, other} -> {:error, {:no_id, method, other}}
        {:error, reason} -> {:error, reason}
      end
    end
  end

  # A review has no options.
  defp settings(%{begin: {"turn/start", %{"input" => input}}} = start, {id, _} = thread, ask) do
    {params, experimental} = start.turn

    with {:ok, params} <- with_model(params, thread, ask),
         :ok <- skills(input, start.working_directory, id, ask),
         do: {:ok, {params, experimental}}
  end

  defp settings(_review, _thread, _ask), do: {:ok, {%{}, []}}

  # A collaboration mode names a model; without one of the host's, it is the thread's.
  defp with_model(%{"collaborationMode" => %{"settings" => %{"model" => ""}}} = turn, begun, ask) do
    with {:ok, model} <- model_of(begun, ask),
         do: {:ok, put_in(turn["collaborationMode"]["settings"]["model"], model)}
  end

  defp with_model(turn, _begun, _ask), do: {:ok, turn}

  defp model_of({_id, model}, _ask) when is_binary(model), do: {:ok, model}
  defp model_of({id, _none}, ask), do: model(id, ask)

  @doc "Returns the model of a thread that the server has loaded."
  @spec model(String.t(), ask()) :: {:ok, String.t()} | {:error, reason()}
  def model(id, ask) do
    with {:error, {:no_id, _method, _thread}} <- read(id, "model", ask),
         {:ok, answer} <- ask.("thread/resume", thread_of(id), []) do
      # CLIs below 0.160 name the model only here.
      case answer do
        %{"model" => model} when is_binary(model) -> {:ok, model}
        other -> {:error, {:no_id, "thread/resume", other}}
      end
    end
  end

  @doc "Checks that the server knows the skills of an input: it ignores unknown ones."
  @spec skills([map()], String.t() | nil, String.t(), ask()) :: :ok | {:error, reason()}
  def skills(input, directory, id, ask) do
    with [_ | _] = paths <- Skills.paths(input),
         {:ok, cwd} <- cwd(directory, id, ask),
         {:ok, listed} <- ask.("skills/list", %{"cwds" => [cwd]}, []) do
      if missing = Skills.missing(paths, listed), do: {:error, {:skill, missing}}, else: :ok
    else
      [] -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  defp cwd(nil, id, ask), do: read(id, "cwd", ask)
  defp cwd(directory, _id, _ask), do: {:ok, Path.expand(directory)}

  defp read(id, field, ask) do
    case ask.("thread/read", %{"threadId" => id}, []) do
      {:ok, %{"thread" => %{^field => text}}} when is_binary(text) -> {:ok, text}
      {:ok, other} -> {:error, {:no_id, "thread/read", other}}
      {:error, reason} -> {:error, reason}
    end
  end
end
