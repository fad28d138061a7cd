defmodule Codex.SessionStore.ConformanceTest do
  # The suite runs against both adapters, and fails those that are wrong in one way each.
  use ExUnit.Case, async: true

  alias Codex.SessionStore.{Conformance, Memory}

  defmodule InMemory do
    use ExUnit.Case, async: true
    use Codex.SessionStore.Conformance, store: &__MODULE__.store/0

    def store,
      do: {Codex.SessionStore.Memory, name: start_supervised!({Codex.SessionStore.Memory, []})}
  end

  defmodule InFiles do
    use ExUnit.Case, async: true
    use Codex.SessionStore.Conformance, store: &__MODULE__.store/0

    def store do
      path = Path.join(System.tmp_dir!(), "codex-store-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm_rf!(path) end)
      {Codex.SessionStore.File, path: path, sync: true}
    end
  end

  # Memory, but wrong in one way.
  defmodule Faulty do
    @behaviour Codex.SessionStore

    @impl true
    def append(opts, key, offset, bytes) do
      case {opts[:fault], Memory.append(opts, key, offset, bytes)} do
        {:overwrites, {:error, {:conflict, _have}}} ->
          :ok

        {:wrong_size, {:error, {:conflict, have}}} ->
          {:error, {:conflict, have + 1}}

        {:no_newline, _result} ->
          Memory.append(opts, key, offset, String.trim_trailing(bytes, "\n"))

        {:races, {:error, {:conflict, _have}}} when offset > 100 ->
          :ok

        {:raises, _result} ->
          raise "no connection to secret://user:pass@host"

        {:lost_answer, :ok} ->
          exit(:noproc)

        {_fault, result} ->
          result
      end
    end

    @impl true
    def read(%{fault: :ascii} = opts, key, offset, most) do
      {:ok, bytes} = Memory.read(opts, key, offset, most)
      {:ok, for(<<byte <- bytes>>, byte < 128, into: "", do: <<byte>>)}
    end

    def read(opts, key, offset, most) do
      case opts[:fault] do
        :chunk_starts -> Memory.read(opts, key, div(offset, 10) * 10, most)
        :too_much -> Memory.read(opts, key, offset, most + 1)
        :no_end -> with {:ok, ""} <- Memory.read(opts, key, offset, most), do: {:error, :eof}
        _other -> Memory.read(opts, key, offset, most)
      end
    end

    @impl true
    def files(opts, thread) do
      case {opts[:fault], Memory.files(opts, thread)} do
        {:no_files, {:ok, []}} -> {:error, :not_found}
        {:names, {:ok, files}} -> {:ok, for({file, size} <- files, do: {"../" <> file, size})}
        {_fault, result} -> result
      end
    end

    @impl true
    def threads(opts, after_id, limit) do
      case {opts[:fault], Memory.threads(opts, after_id, limit)} do
        {:unsorted, {:ok, ids}} -> {:ok, Enum.reverse(ids)}
        {:ignores_after, {:ok, _ids}} -> Memory.threads(opts, nil, limit)
        {_fault, result} -> result
      end
    end

    @impl true
    def delete(%{fault: :keeps}, _thread), do: :ok
    def delete(opts, thread), do: Memory.delete(opts, thread)
  end

  defp failing(fault) do
    memory = start_supervised!({Memory, []}, id: fault)
    store = {Faulty, %{name: memory, fault: fault}, call_ms: 2_000}
    for {name, _title} <- Conformance.cases(), Conformance.check(name, store) != :ok, do: name
  end

  test "a right adapter passes, and each fault fails its case" do
    assert failing(nil) == []

    for {fault, case} <- [
          overwrites: :conflict,
          wrong_size: :conflict,
          no_newline: :append,
          races: :race,
          raises: :append,
          lost_answer: :append,
          ascii: :binary,
          chunk_starts: :offsets,
          too_much: :offsets,
          no_end: :missing,
          no_files: :missing,
          names: :files,
          unsorted: :threads,
          keeps: :delete
        ] do
      failed = failing(fault)
      assert case in failed, "#{fault}: #{inspect(failed)}"
    end
  end

  test "the text names the call, its result and the expected result" do
    store = {Faulty, %{name: start_supervised!({Memory, []}), fault: :wrong_size}}
    assert {:error, text} = Conformance.check(:conflict, store)

    assert text ==
             "append at 4 to a missing file returned {:conflict, 1}, expected {:conflict, 0}"

    assert_raise Codex.OptionError, fn -> Conformance.check(:append, {String, []}) end
    assert_raise ArgumentError, fn -> Conformance.check(:nothing, store) end
  end
end
