defmodule Codex.Thread.Server.Saved do
  @moduledoc false
  # The option `state` of a server: the id of its thread, in a file or by functions of the host.

  alias Codex.{Error, FileSystem, JSON, Text}

  @type t :: Path.t() | {(... -> String.t() | nil), (String.t() -> term())} | nil

  # The longest id or name of a thread that is taken from outside, in bytes.
  @longest 1_024

  @doc "Returns the saved id, or nil."
  @spec load(t()) :: {:ok, String.t() | nil} | {:error, Error.t()}
  def load(nil), do: {:ok, nil}

  def load(path) when is_binary(path) do
    with {:ok, _text, id} <- read(path), do: {:ok, id}
  end

  def load({load, _save}) do
    case load.() do
      nil -> {:ok, nil}
      id when is_binary(id) and id != "" and byte_size(id) <= @longest -> {:ok, id}
      _other -> error("its first function returned neither the id of a thread nor nil")
    end
  catch
    kind, reason -> failed("first", kind, reason)
  end

  @doc "Saves an id, for the next server."
  @spec save(t(), String.t()) :: :ok | {:error, Error.t()}
  def save(nil, _id), do: :ok

  def save(path, id) when is_binary(path) do
    with {:ok, before, _id} <- read(path), do: swap(path, before, id)
  end

  def save({_load, save}, id) do
    _ = save.(id)
    :ok
  catch
    kind, reason -> failed("second", kind, reason)
  end

  defp read(path) do
    case FileSystem.read(path) do
      {:ok, ""} -> {:ok, "", nil}
      {:error, :enoent} -> {:ok, "", nil}
      {:ok, text} -> decode(path, text)
      {:error, reason} -> error(path, FileSystem.message(reason))
    end
  end

  defp decode(path, text) do
    case JSON.decode(text) do
      {:ok, %{"codex_thread" => id}} when is_binary(id) and id != "" -> {:ok, text, id}
      _other -> error(path, "it holds no thread of a Codex.Thread.Server; name another file")
    end
  end

  defp swap(path, before, id) do
    with {:ok, json} <- JSON.encode(%{"codex_thread" => id}),
         :ok <- FileSystem.swap(path, before, json <> "\n") do
      :ok
    else
      :moved -> error(path, "another process has changed it")
      {:error, reason} -> error(path, words(reason))
    end
  end

  defp words({:not_encodable, _value, _path}), do: "the id of the thread is not UTF-8"
  # The name of the error is not known if there is no such folder.
  defp words(:unknown), do: "it cannot be written: check its folder"
  defp words(reason), do: FileSystem.message(reason)

  defp failed(which, kind, reason) do
    banner = kind |> Exception.format_banner(reason) |> Text.line()
    error("its #{which} function failed: #{banner}")
  end

  defp error(path, why), do: error("the file #{Text.line(path)} cannot be used: #{why}")
  defp error(why), do: {:error, Error.new(:config, "option :state: #{why}")}
end
