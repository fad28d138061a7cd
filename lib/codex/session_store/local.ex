defmodule Codex.SessionStore.Local do
  @moduledoc false
  # The session files of a home as bytes. A file that moved (archive, compression) is found at its
  # new place.

  alias Codex.{JSON, Native, NativePool}
  alias Codex.Sessions.Store

  # The first line has the instructions of the model, which may be long.
  @longest_meta 16 * 1024 * 1024

  @type file :: Store.file()

  @doc "Returns the files of a thread, or the file of a rollout, the oldest first."
  @spec files(Path.t(), String.t()) :: {:ok, [file()]} | {:error, {:native, String.t()}}
  defdelegate files(home, id), to: Store

  @doc "Reads whole lines from the beginning of a line on."
  @spec lines(Path.t(), file(), non_neg_integer(), pos_integer(), pos_integer()) ::
          {:ok, binary(), file()} | {:error, term()}
  def lines(home, file, offset, most, longest),
    do: at(home, file, &Native.rollout_raw(&1, &2, &3, offset, most, longest))

  @doc "Reads bytes from any offset on."
  @spec bytes(Path.t(), file(), non_neg_integer(), pos_integer()) ::
          {:ok, binary(), file()} | {:error, term()}
  def bytes(home, file, offset, most),
    do: at(home, file, &Native.rollout_raw(&1, &2, &3, offset, most, 0))

  @doc "Returns the size of the plain content."
  @spec size(Path.t(), file()) :: {:ok, non_neg_integer(), file()} | {:error, term()}
  def size(home, file), do: at(home, file, &Native.rollout_size/3)

  defp at(home, file, read) do
    case try_at(home, file, read) do
      {:error, :enoent} -> moved(home, file, read)
      result -> result
    end
  end

  # While a file is written in its other form, there are two, and one of them is not whole.
  defp moved(home, file, read) do
    Enum.reduce_while(Store.moved(%{home: home}, file), {:error, :enoent}, fn place, _last ->
      case try_at(home, place, read) do
        {:error, _reason} = error -> {:cont, error}
        read -> {:halt, read}
      end
    end)
  end

  defp try_at(home, file, read) do
    path = Path.join(home, file.path)

    with {:ok, value} <- NativePool.call(&read.(&1, &2, path)), do: {:ok, value, file}
  end

  @typedoc """
  The first line: the id of its thread, and of the history before it the rollout, its thread and the
  byte at which it ends.
  """
  @type meta :: %{
          id: String.t() | nil,
          base: {String.t(), String.t() | nil, non_neg_integer()} | nil
        }

  @doc "Reads the first line, or nil if there is no whole line that has an id."
  @spec meta(Path.t(), file()) :: {:ok, meta() | nil} | {:error, term()}
  def meta(home, file) do
    with {:ok, line, _file} <- lines(home, file, 0, 1, @longest_meta), do: {:ok, parse(line)}
  end

  @doc "Parses a first line; more lines may follow."
  @spec parse(binary()) :: meta() | nil
  def parse(bytes) do
    [line | _rest] = :binary.split(bytes, "\n")

    case JSON.decode(line) do
      {:ok, %{"payload" => %{} = payload}} -> of(payload)
      {:ok, %{"id" => _} = bare} -> of(bare)
      _no_meta -> nil
    end
  end

  defp of(%{"id" => id} = payload) when is_binary(id), do: %{id: id, base: base(payload)}
  defp of(_payload), do: nil

  defp base(%{"history_base" => %{"thread_id" => rollout} = base} = payload)
       when is_binary(rollout) do
    ended = base["end_byte_offset"]
    parent = payload["forked_from_id"]

    {rollout, if(is_binary(parent), do: parent),
     if(is_integer(ended) and ended >= 0, do: ended, else: 0)}
  end

  defp base(_payload), do: nil
end
