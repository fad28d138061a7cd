defmodule Codex.Subprocess.Signal do
  @moduledoc false
  # Names and numbers of signals. Numbers up to 15, except 7, 10 and 12, are the same everywhere.

  @common [hup: 1, int: 2, quit: 3, ill: 4, trap: 5, abrt: 6, fpe: 8, kill: 9, segv: 11] ++
            [pipe: 13, alrm: 14, term: 15]
  @linux @common ++ [bus: 7, usr1: 10, usr2: 12, cont: 18, stop: 19, tstp: 20, winch: 28]
  @darwin @common ++ [bus: 10, stop: 17, tstp: 18, cont: 19, winch: 28, usr1: 30, usr2: 31]

  @doc "Returns the number of a signal. Raises `ArgumentError` for an invalid signal."
  @spec number!(atom | integer) :: 1..64
  def number!(number) when number in 1..64, do: number

  def number!(name) do
    case is_atom(name) && Keyword.fetch(table(), name) do
      {:ok, number} ->
        number

      _ ->
        names = table() |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)
        raise ArgumentError, "expected a signal (#{names}, or 1 to 64), got: #{inspect(name)}"
    end
  end

  @doc "Returns the name of a signal, or its number if it has no name here."
  @spec name(1..64) :: Codex.Subprocess.signal_name() | 1..64
  def name(number) do
    case List.keyfind(table(), number, 1) do
      {name, _} -> name
      nil -> number
    end
  end

  defp table do
    case :os.type() do
      {:unix, :darwin} -> @darwin
      _ -> @linux
    end
  end
end
