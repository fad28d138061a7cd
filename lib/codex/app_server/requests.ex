defmodule Codex.AppServer.Requests do
  @moduledoc false
  # Our requests that wait for their answers: ids from 0, each used once, whatever order the answers come in.

  defstruct [:most, next: 0, waiting: %{}]

  @typedoc "A request, who asked, and when it is over. `retry_at` is set while it waits to be sent again."
  @type entry :: %{
          from: term(),
          method: String.t(),
          params: map() | nil,
          timeout: pos_integer() | :infinity,
          deadline: integer() | :infinity,
          attempt: non_neg_integer(),
          retry_at: integer() | nil
        }
  @type t :: %__MODULE__{
          most: pos_integer(),
          next: non_neg_integer(),
          waiting: %{non_neg_integer() => entry()}
        }

  # Parameters may hold keys.
  defimpl Inspect do
    def inspect(requests, _opts) do
      methods = requests.waiting |> Map.values() |> Enum.map(& &1.method) |> Enum.frequencies()
      "#Codex.AppServer.Requests<next: #{requests.next}, waiting: #{Kernel.inspect(methods)}>"
    end
  end

  @spec new(pos_integer()) :: t()
  def new(most), do: %__MODULE__{most: most}

  @doc "Gives a request its id."
  @spec add(t(), entry()) ::
          {:ok, non_neg_integer(), t()} | {:error, {:overflow, :requests, pos_integer()}}
  def add(requests, _entry) when map_size(requests.waiting) >= requests.most,
    do: {:error, {:overflow, :requests, requests.most}}

  def add(%{next: id} = requests, entry),
    do: {:ok, id, %{requests | next: id + 1, waiting: Map.put(requests.waiting, id, entry)}}

  @doc """
  Takes the request of an answer. `:late` is one that had its answer, or whose time was over; `:never_sent` an id that is none of
  ours.
  """
  @spec take(t(), term()) :: {:ok, entry(), t()} | :late | :never_sent
  def take(requests, id) do
    case requests.waiting do
      %{^id => entry} -> {:ok, entry, %{requests | waiting: Map.delete(requests.waiting, id)}}
      _ when is_integer(id) and id >= 0 and id < requests.next -> :late
      _ -> :never_sent
    end
  end
end
