defmodule Bench do
  @moduledoc false
  # Shared by the benchmarks: alternating variants, medians of ratios between neighbours, tables.

  @doc "Prints on what it ran."
  def machine(more \\ []) do
    versions = [
      cpu: "#{cpu()}, #{System.schedulers_online()} schedulers",
      otp: :erlang.system_info(:otp_release),
      elixir: System.version(),
      rustc: first_line("rustc", ["--version"]),
      sdk: Application.spec(:codex_sdk, :vsn)
    ]

    for {name, value} <- versions ++ more,
        value not in [nil, ""],
        do: IO.puts("#{name}: #{value}")

    IO.puts("")
  end

  defp cpu do
    with {:ok, text} <- File.read("/proc/cpuinfo"),
         [_, model] <- Regex.run(~r/model name\s*: (.*)/, text),
         do: model,
         else: (_ -> List.to_string(:erlang.system_info(:system_architecture)))
  end

  def first_line(program, args) do
    with path when is_binary(path) <- System.find_executable(program),
         {out, 0} <- System.cmd(path, args, stderr_to_stdout: true),
         do: out |> String.split("\n") |> hd(),
         else: (_ -> nil)
  end

  @doc """
  Runs every variant once a repetition, alternately forwards and backwards, so that all meet the
  same noise. Variants are `{name, fun}`; the function returns its measurement (a number). The first
  round is a warm-up. Returns `%{name => [measured]}`, with the lists in the order of repetitions.
  """
  def interleave(variants, repetitions) do
    for round <- 0..repetitions, {name, fun} <- order(variants, round), reduce: %{} do
      acc ->
        :erlang.garbage_collect()
        measured = fun.()
        if round == 0, do: acc, else: Map.update(acc, name, [measured], &[measured | &1])
    end
  end

  defp order(variants, round),
    do: if(rem(round, 2) == 0, do: variants, else: Enum.reverse(variants))

  @doc "Seconds that `fun` takes in a process of its own, and what it returns."
  def fresh(fun, spawn_opts \\ []) do
    {pid, monitor} =
      :erlang.spawn_opt(
        fn ->
          started = System.monotonic_time(:nanosecond)
          result = fun.()
          exit({:done, (System.monotonic_time(:nanosecond) - started) / 1.0e9, result})
        end,
        [:monitor | spawn_opts]
      )

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:done, seconds, result}} -> {seconds, result}
      {:DOWN, ^monitor, :process, ^pid, reason} -> raise "failed: #{inspect(reason)}"
    end
  end

  def median(list), do: quantile(list, 0.5)

  def quantile(list, q) do
    sorted = Enum.sort(list)
    at = q * (length(sorted) - 1)
    low = Enum.at(sorted, floor(at))
    low + (Enum.at(sorted, ceil(at)) - low) * (at - floor(at))
  end

  @doc "Median and quartiles of the ratios of two variants within each repetition."
  def ratio(measured, over, under) do
    ratios = Enum.zip_with(measured[over], measured[under], &(&1 / &2))
    {median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75)}
  end

  @doc "Shows the ratio of two variants, or `-` if the first one was not measured."
  def share(measured, over, under),
    do: if(measured[over], do: show(ratio(measured, over, under)), else: "-")

  def show({median, low, high}), do: "#{number(median)} (#{number(low)}..#{number(high)})"

  def number(n) when is_integer(n), do: Integer.to_string(n)
  def number(n) when n >= 100, do: n |> round() |> Integer.to_string()
  def number(n) when n >= 10, do: :erlang.float_to_binary(n * 1.0, decimals: 1)
  def number(n), do: :erlang.float_to_binary(n * 1.0, decimals: 2)

  @doc "Prints rows of text under a head, as Markdown."
  def table(head, rows) do
    rows = Enum.map(rows, fn row -> Enum.map(row, &to_string/1) end)

    widths =
      Enum.zip_with([head | rows], fn cells ->
        cells |> Enum.map(&String.length/1) |> Enum.max()
      end)

    line = fn cells ->
      "| " <>
        Enum.map_join(Enum.zip(cells, widths), " | ", fn {c, w} -> String.pad_trailing(c, w) end) <>
        " |"
    end

    IO.puts(line.(head))
    IO.puts("|" <> Enum.map_join(widths, "|", &String.duplicate("-", &1 + 2)) <> "|")
    Enum.each(rows, &IO.puts(line.(&1)))
    IO.puts("")
  end

  @doc "A positive integer from the environment."
  def setting(name, default) do
    case System.get_env(name) do
      nil -> default
      text -> String.to_integer(text)
    end
  end
end
