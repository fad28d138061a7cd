defmodule Codex.Mirrored do
  @moduledoc "Session stores for tests, and what homes and stores hold."

  alias Codex.SessionStore
  alias Codex.SessionStore.{Local, Memory, Name}

  defmodule Wrong do
    @moduledoc "The adapter in memory, with a function that is called before each call."
    @behaviour SessionStore

    @impl true
    def append(opts, key, offset, bytes),
      do: wrong(opts, :append, fn -> Memory.append(opts, key, offset, bytes) end)

    @impl true
    def read(opts, key, offset, most),
      do: wrong(opts, :read, fn -> Memory.read(opts, key, offset, most) end)

    @impl true
    def files(opts, thread), do: wrong(opts, :files, fn -> Memory.files(opts, thread) end)

    @impl true
    def threads(opts, after_id, limit), do: Memory.threads(opts, after_id, limit)
    @impl true
    def delete(opts, thread), do: Memory.delete(opts, thread)

    defp wrong(opts, name, fun) do
      case opts[:before].(name) do
        :ok -> fun.()
        {:after, result} -> fun.() && result
        other -> other
      end
    end
  end

  @doc "A store in memory, which ends with the test."
  def memory!(settings \\ []) do
    pid = ExUnit.Callbacks.start_supervised!({Memory, []}, id: make_ref())
    {Memory, [name: pid], settings}
  end

  @doc "A store in the memory of another one that calls a function first."
  def wrong({Memory, opts, settings}, before, more \\ []),
    do: {Wrong, opts ++ [before: before], Keyword.merge(settings, more)}

  @doc "The files of a thread in a home, by their plain names."
  def in_home(home, id) do
    {:ok, files} = Local.files(home, id)

    for file <- files, into: %{} do
      {:ok, bytes, _file} = Local.bytes(home, file, 0, 100_000_000)
      {Name.of(file.path), bytes}
    end
  end

  @doc "The files of a thread in a store."
  def in_store(store, id) do
    {:ok, files} = SessionStore.files(store, id)
    {:ok, %{module: module, opts: opts}} = SessionStore.new(store)
    for {file, size} <- files, into: %{}, do: {file, all(module, opts, {id, file}, size, "")}
  end

  defp all(_module, _opts, _key, size, bytes) when byte_size(bytes) == size, do: bytes

  defp all(module, opts, key, size, bytes) do
    {:ok, more} = module.read(opts, key, byte_size(bytes), size)
    all(module, opts, key, size, bytes <> more)
  end

  @doc "The texts of a request to the model."
  def texts(%{body: %{"input" => input}}) do
    for %{"content" => content} <- input, %{"text" => text} <- content, do: text
  end
end
