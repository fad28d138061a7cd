defmodule Codex.Thread.ServerLogTest do
  # Followers of a log that acknowledge at random: each gets every offset once, as an entry or in a
  # cut.
  use ExUnit.Case, async: true

  alias Codex.Thread.Server.{Followers, Log}

  @most 20
  @most_bytes 20_000

  test "each follower gets every offset once, in order, in messages of limited size" do
    for seed <- 1..150 do
      :rand.seed(:exsss, {seed, 20, 5})
      first = :rand.uniform(1_000)
      log = Log.new(@most, @most_bytes, first)
      refs = for _ <- 1..3, do: make_ref()
      followers = Enum.reduce(refs, %{}, &Followers.add(&2, self(), &1, first, log))
      {log, followers, seen} = Enum.reduce(1..200, {log, followers, %{}}, &step/2)
      assert log.next == first + map_size(entries(log)) + (log.first - first)
      :ok = Followers.finish(followers, log)

      for ref <- refs do
        all = Map.get(seen, ref, []) ++ messages(ref)
        assert Enum.all?(all, &short?/1), "seed #{seed}"
        assert covered(List.flatten(all), first) == log.next, "seed #{seed}"
      end
    end
  end

  defp entries(log), do: log.entries

  # An entry is added, or a follower reads its message and acknowledges it.
  defp step(n, {log, followers, seen}) do
    if :rand.uniform(3) > 1 do
      size = if :rand.uniform(20) == 1, do: 80_000, else: :rand.uniform(2_000)
      log = Log.put(log, {n, :binary.copy("x", size)})
      followers = Followers.deliver(followers, log)
      log = Log.trim(log)
      assert log.next - log.first <= @most
      assert log.bytes <= @most_bytes or log.next - log.first == 1
      assert log.bytes == log.entries |> Map.values() |> Enum.map(&elem(&1, 1)) |> Enum.sum()
      {log, followers, seen}
    else
      {ref, _} = Enum.random(followers)

      case messages(ref) do
        [] ->
          {log, followers, seen}

        [entries] ->
          followers = Followers.next(followers, ref, :reads, log)
          {log, followers, Map.update(seen, ref, [entries], &(&1 ++ [entries]))}
      end
    end
  end

  defp messages(ref) do
    receive do
      {:codex_thread, ^ref, entries} -> [entries | messages(ref)]
    after
      0 -> []
    end
  end

  defp short?(entries), do: length(entries) <= 65 and bytes(entries) <= 66_000

  # A longer entry comes alone, perhaps after a cut.
  defp bytes([{_, {:cut, _, _}} | entries]), do: bytes(entries)
  defp bytes([_longer]), do: 0
  defp bytes(entries), do: :erlang.external_size(entries)

  defp covered([], next), do: next
  defp covered([{last, {:cut, next, last}} | rest], next), do: covered(rest, last + 1)
  defp covered([{next, _entry} | rest], next), do: covered(rest, next + 1)
end
