defmodule Codex.SessionStore.Conformance do
  @moduledoc """
  Tests of a `Codex.SessionStore` adapter.

      defmodule MyApp.SessionStoreTest do
        use ExUnit.Case, async: true
        use Codex.SessionStore.Conformance, store: &__MODULE__.store/0

        def store, do: {MyApp.SessionStore, repo: MyApp.Repo}
      end

  `use` defines one test for each entry of `cases/0`. The option `:store` is a function without
  arguments that returns a store, in the process of the test. The tests use threads with random
  ids, so the store may have content, and delete them at the end.

  Without ExUnit, `check/2` runs one case.
  """

  alias Codex.SessionStore
  alias Codex.SessionStore.{Adapter, Conformance}

  @cases [
    append: "appended bytes are read as they are",
    offsets: "reads begin at any offset and are not longer than asked",
    conflict: "an append at another offset is refused with the size, and changes nothing",
    missing: "a missing file is empty, a missing thread has no files",
    files: "files of a thread are listed with their sizes, and only of this thread",
    threads: "threads are listed in ascending order, page by page",
    delete: "a deleted thread is gone, and begins anew; others stay",
    binary: "all bytes are kept",
    large: "a line of 5 MiB is kept",
    race: "of appends at one offset, exactly one succeeds"
  ]

  @doc "Returns the names of the cases and their titles."
  @spec cases() :: [{atom(), String.t()}]
  def cases, do: @cases

  @doc "Defines the tests. The option `:store` is a function that returns a store."
  defmacro __using__(opts) do
    store = Keyword.fetch!(opts, :store)

    for {name, title} <- @cases do
      quote do
        test unquote("session store: " <> title) do
          case Conformance.check(unquote(name), unquote(store).()) do
            :ok -> :ok
            {:error, text} -> flunk(text)
          end
        end
      end
    end
  end

  @doc """
  Runs one case against a store. Returns `{:error, text}` with the call that went wrong, its result
  and the expected result.

  Raises `Codex.OptionError` for an invalid store, and `ArgumentError` for an unknown case.
  """
  @spec check(atom(), SessionStore.t() | SessionStore.store()) :: :ok | {:error, String.t()}
  def check(name, store) when is_atom(name) do
    unless Keyword.has_key?(@cases, name),
      do:
        raise(
          ArgumentError,
          "expected one of #{inspect(Keyword.keys(@cases))}, got: #{inspect(name)}"
        )

    case SessionStore.new(store) do
      {:ok, store} -> run(name, store)
      {:error, error} -> raise error
    end
  end

  defp run(name, store) do
    threads = Enum.sort(for _ <- 1..4, do: id())

    try do
      run(name, store, threads)
    catch
      {__MODULE__, text} -> {:error, text}
    after
      Enum.each(threads, &Adapter.delete(store, &1))
    end
  end

  defp id do
    <<a::binary-size(8), b::binary-size(4), c::binary-size(4), d::binary-size(4), e::binary>> =
      Base.encode16(:crypto.strong_rand_bytes(16), case: :lower)

    Enum.join([a, b, c, d, e], "-")
  end

  defp key(thread, second \\ "03"),
    do: {thread, "rollout-2026-11-26T20-00-#{second}-#{thread}.jsonl"}

  ## Cases

  defp run(:append, store, [thread | _]) do
    key = key(thread)
    is(:ok, append(store, key, 0, "one\n"), "append at 0")
    is(:ok, append(store, key, 4, "two\nthree\n"), "append at the size")
    is("one\ntwo\nthree\n", all(store, key), "read from 0 to the end")
    is(:ok, append(store, key, 14, "four\n"), "append after a read")
    is("one\ntwo\nthree\nfour\n", all(store, key), "read from 0 to the end")
  end

  defp run(:offsets, store, [thread | _]) do
    key = key(thread)
    parts = for n <- 1..20, do: String.duplicate("line #{n}\n", rem(n, 4) + 1)
    text = Enum.join(parts)

    _ =
      for part <- parts, reduce: 0 do
        at ->
          is(:ok, append(store, key, at, part), "append at #{at}")
          at + byte_size(part)
      end

    for at <- [0, 1, 9, 10, 11, 55, byte_size(text) - 1], most <- [1, 7, 10, 1_000] do
      {:ok, read} = ok(Adapter.read(store, key, at, most), "read at #{at}, at most #{most}")
      say(read != "", "read at #{at} returned no byte before the end")
      is(binary_part(text, at, byte_size(read)), read, "read at #{at}, at most #{most}")
    end

    for at <- [byte_size(text), byte_size(text) + 1, byte_size(text) + 10_000],
        do: is({:ok, ""}, Adapter.read(store, key, at, 10), "read at #{at}, behind the end")

    :ok
  end

  defp run(:conflict, store, [thread | _]) do
    key = key(thread)
    is({:conflict, 0}, append(store, key, 4, "x\n"), "append at 4 to a missing file")
    is(:ok, append(store, key, 0, "one\n"), "append at 0")

    for at <- [0, 2, 5, 100],
        do: is({:conflict, 4}, append(store, key, at, "two\n"), "append at #{at} of 4 bytes")

    is({:conflict, 4}, append(store, key, 0, "one\n"), "the same append again")
    is("one\n", all(store, key), "read after refused appends")
    is({:ok, [{elem(key, 1), 4}]}, Adapter.files(store, thread), "files after refused appends")
  end

  defp run(:missing, store, [thread | _]) do
    is({:ok, ""}, Adapter.read(store, key(thread), 0, 10), "read of a missing file")
    is({:ok, []}, Adapter.files(store, thread), "files of a missing thread")
    is(:ok, Adapter.delete(store, thread), "delete of a missing thread")
  end

  defp run(:files, store, [thread, other | _]) do
    {_, first} = key(thread)
    {_, second} = later = key(thread, "59")
    is(:ok, append(store, key(thread), 0, "one\n"), "append")
    is(:ok, append(store, later, 0, "other\n"), "append to another file")
    is(:ok, append(store, key(other), 0, "1\n"), "append to another thread")
    is({:ok, [{first, 4}, {second, 6}]}, Adapter.files(store, thread), "files")
    is("one\n", all(store, key(thread)), "read of the first file")
    is("other\n", all(store, later), "read of the second file")
  end

  defp run(:threads, store, threads) do
    for thread <- Enum.shuffle(threads),
        second <- ["03", "04"],
        do: is(:ok, append(store, key(thread, second), 0, "1\n"), "append")

    is(threads, Enum.filter(pages(store, nil, 2), &(&1 in threads)), "threads in pages of 2")

    for {id, n} <- Enum.with_index(threads) do
      {:ok, page} = ok(Adapter.threads(store, id, 1_000), "threads after #{id}")
      say(Enum.all?(page, &(&1 > id)), "threads after #{id} has smaller ids: #{inspect(page)}")
      is(Enum.drop(threads, n + 1), Enum.filter(page, &(&1 in threads)), "threads after #{id}")
    end

    :ok
  end

  defp run(:delete, store, [thread, other | _]) do
    is(:ok, append(store, key(thread), 0, "one\n"), "append")
    is(:ok, append(store, key(thread, "04"), 0, "one\n"), "append to another file")
    is(:ok, append(store, key(other), 0, "two\n"), "append to another thread")
    is(:ok, Adapter.delete(store, thread), "delete")
    is({:ok, []}, Adapter.files(store, thread), "files after delete")
    is({:ok, ""}, Adapter.read(store, key(thread), 0, 10), "read after delete")
    {:ok, [next | _]} = ok(Adapter.threads(store, before(thread), 1), "threads after delete")
    say(next != thread, "threads lists a deleted thread")
    is("two\n", all(store, key(other)), "read of another thread after delete")
    is(:ok, append(store, key(thread), 0, "new\n"), "append after delete")
    is("new\n", all(store, key(thread)), "read after delete and append")
  end

  defp run(:binary, store, [thread | _]) do
    bytes = for(byte <- 0..255, into: <<>>, do: <<byte>>) <> "é\u{1F600}\r\n\n"
    is(:ok, append(store, key(thread), 0, bytes), "append of all bytes")
    is(bytes, all(store, key(thread)), "read of all bytes")
    is(:ok, append(store, key(thread), byte_size(bytes), "\n"), "append of an empty line")
    is(bytes <> "\n", all(store, key(thread)), "read of all bytes")
  end

  defp run(:large, store, [thread | _]) do
    line = :binary.copy("0123456789", 524_288) <> "\n"
    is(:ok, append(store, key(thread), 0, line), "append of 5 MiB")
    is(:ok, append(store, key(thread), byte_size(line), "end\n"), "append after 5 MiB")
    read = all(store, key(thread))
    say(read == line <> "end\n", "5 MiB and a line were read as #{byte_size(read)} bytes")
  end

  @racers 8
  @rounds 10

  defp run(:race, store, [thread | _]) do
    key = key(thread)

    written =
      for round <- 1..@rounds, reduce: "" do
        text ->
          lines = for racer <- 1..@racers, do: "round #{round} racer #{racer}\n"
          at = byte_size(text)
          results = lines |> Enum.map(&Task.async(fn -> append(store, key, at, &1) end))
          results = Enum.zip(lines, Task.await_many(results, :infinity))
          won = for {line, :ok} <- results, do: line
          lost = for {_line, result} <- results, result != :ok, do: result
          say(length(won) == 1, "#{length(won)} of #{@racers} appends at #{at} succeeded")
          size = at + byte_size(hd(won))
          for result <- lost, do: is({:conflict, size}, result, "an append that lost the race")
          text <> hd(won)
      end

    is(written, all(store, key), "read after #{@rounds} races")
  end

  ## Steps

  defp append(store, key, offset, bytes), do: Adapter.append(store, key, offset, bytes)

  defp all(store, key), do: all(store, key, 0, [])

  defp all(store, key, at, parts) do
    case ok(Adapter.read(store, key, at, 1_048_576), "read at #{at}") do
      {:ok, ""} -> parts |> Enum.reverse() |> IO.iodata_to_binary()
      {:ok, bytes} -> all(store, key, at + byte_size(bytes), [bytes | parts])
    end
  end

  defp pages(store, after_id, limit) do
    {:ok, ids} = ok(Adapter.threads(store, after_id, limit), "threads after #{after_id}")
    say(length(ids) <= limit, "threads returned #{length(ids)} ids, the limit was #{limit}")

    case ids do
      [] -> []
      ids -> ids ++ pages(store, List.last(ids), limit)
    end
  end

  # The greatest text below an id.
  defp before(id), do: binary_part(id, 0, byte_size(id) - 1)

  defp ok({:ok, _value} = result, _call), do: result
  defp ok(other, call), do: fail("#{call} returned #{shown(other)}, expected {:ok, value}")

  defp is(expected, expected, _call), do: :ok

  defp is(expected, got, call),
    do: fail("#{call} returned #{shown(got)}, expected #{shown(expected)}")

  defp say(true, _text), do: :ok
  defp say(false, text), do: fail(text)

  @spec fail(String.t()) :: no_return()
  defp fail(text), do: throw({__MODULE__, text})

  defp shown(term), do: inspect(term, printable_limit: 200, limit: 20)
end
