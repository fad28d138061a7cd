defmodule Codex.Subprocess.LauncherTest do
  @moduledoc "The launcher against an owner that does not keep to the protocol."
  use ExUnit.Case, async: true

  alias Codex.Subprocess.{Error, Frame}

  @version 3
  @start_defaults %{
    argv: ["cat"],
    env: [],
    cwd: nil,
    window: 1000,
    stderr_limit: 1000,
    ladder: [{:close_stdin, 100}],
    sweep_grace: 10,
    descendants: :sweep,
    files: [],
    input: "",
    terminal: nil
  }

  test "a first frame that is not START is answered with an error" do
    for frame <- [
          "",
          <<0>>,
          <<6>>,
          <<1, @version + 1>>,
          <<1, @version>>,
          :crypto.strong_rand_bytes(50_000)
        ] do
      port = launch()
      Port.command(port, frame)
      assert %Error{reason: :protocol} = error(port)
      close(port)
    end
  end

  test "a START that ends anywhere is refused" do
    {:ok, frame} = Frame.start(@start_defaults, false)
    frame = IO.iodata_to_binary(frame)

    for size <- 0..(byte_size(frame) - 1) do
      port = launch()
      Port.command(port, binary_part(frame, 0, size))
      assert %Error{reason: :protocol} = error(port)
      close(port)
    end
  end

  test "nonsense after START ends the child" do
    nonsense = [
      {"empty", ""},
      {"unknown tag", <<99>>},
      {"second START", start()},
      {"signal 0", <<5, 0>>},
      {"signal 65", <<5, 65>>},
      {"credit for stream 3", <<4, 3, 1::64>>},
      {"short credit", <<4, 1, 1::32>>},
      {"STOP with payload", <<6, 1>>},
      {"stdin beyond its credit", Frame.stdin(:binary.copy("x", 1_000_000))}
    ]

    for {name, frame} <- nonsense do
      {port, os_pid} = launch_child(%{argv: ["sleep", "100000"], ladder: []})
      Port.command(port, frame)
      assert {name, %Error{reason: :protocol}} = {name, error(port)}
      # Deaf from then on, but still there: writing to it is harmless.
      for _ <- 1..100, do: Port.command(port, Frame.stdin("more"))
      assert {name, true} == {name, eventually(fn -> not alive?(os_pid) end)}
      close(port)
    end
  end

  test "an owner that is gone before START leaves nothing" do
    port = launch()
    {:os_pid, launcher} = Port.info(port, :os_pid)
    close(port)
    assert eventually(fn -> not alive?(launcher) end)
  end

  test "half a frame and then nothing leaves nothing" do
    # The port's own framing would complete it, so this one has none.
    port = Port.open({:spawn_executable, launcher()}, [:binary, :use_stdio, :eof])
    {:os_pid, launcher} = Port.info(port, :os_pid)
    Port.command(port, <<1000::32, 1, @version>>)
    close(port)
    assert eventually(fn -> not alive?(launcher) end)
  end

  test "a frame of four gigabytes is refused by its length" do
    port = Port.open({:spawn_executable, launcher()}, [:binary, :use_stdio, :eof])
    Port.command(port, <<0xFFFFFFFF::32, 1, @version>>)
    assert_receive {^port, {:data, <<_::32, frame::binary>>}}, 5_000
    assert {:error, %Error{reason: :protocol}} = Frame.parse(frame)
    close(port)
  end

  test "it sleeps while there is nothing to do" do
    # A descriptor that reports a hang-up again and again would have it spin.
    idle = [
      {"a silent child", "exec sleep 100000"},
      {"output without credit", "head -c 5000 /dev/zero; exec sleep 100000"},
      {"a full pipe", "exec cat /dev/zero"},
      {"no stdout", "exec sleep 100000 >&-"},
      {"nothing open at all", "exec sleep 100000 <&- >&- 2>&-"},
      {"exited, output without credit", "head -c 5000 /dev/zero"},
      {"exited, everything told", "true"}
    ]

    if File.dir?("/proc") do
      for {name, script} <- idle do
        {port, _} = launch_child(%{argv: ["/bin/sh", "-c", script], window: 1000})
        {:os_pid, launcher} = Port.info(port, :os_pid)
        # Thousands when it spins, one or two when the child is still settling in.
        assert {name, true} == {name, busy(launcher, 100) < 20}
        close(port)
      end
    end
  end

  test "frames of the launcher's become no atoms" do
    assert {:error, %Error{reason: :protocol, text: text}} =
             Frame.parse(<<0x87, 9, "surprise1", "text">>)

    assert text =~ "surprise1"
    assert_raise ArgumentError, fn -> String.to_existing_atom("surprise" <> "1") end

    for frame <- ["", <<0>>, <<0x81>>, <<0x86, 2, 0, 0::64>>, <<0x87, 200, "short">>] do
      assert {:error, %Error{reason: :protocol}} = Frame.parse(frame)
    end
  end

  defp launcher, do: Path.join(:code.priv_dir(:codex_sdk), "native/codex_launcher")

  defp launch do
    opts = [:binary, :use_stdio, :hide, :eof, packet: 4]
    Port.open({:spawn_executable, launcher()}, opts)
  end

  defp start(changes \\ %{}) do
    {:ok, frame} = @start_defaults |> Map.merge(changes) |> Frame.start(false)
    frame
  end

  defp launch_child(changes) do
    port = launch()
    path = [{"PATH", System.get_env("PATH")}]
    Port.command(port, start(Map.put(changes, :env, path)))
    assert_receive {^port, {:data, frame}}, 5_000
    assert {:started, os_pid} = Frame.parse(frame)
    {port, os_pid}
  end

  # The error frame; nothing may follow it.
  defp error(port) do
    assert_receive {^port, {:data, frame}}, 5_000

    case Frame.parse(frame) do
      {:error, error} -> error
      _ -> error(port)
    end
  end

  defp close(port) do
    Port.close(port)
  end

  # Counts how often a process went to sleep within so many milliseconds.
  defp busy(os_pid, ms) do
    before = switches(os_pid)
    Process.sleep(ms)
    switches(os_pid) - before
  end

  defp switches(os_pid) do
    status = File.read!("/proc/#{os_pid}/status")
    [_, n] = Regex.run(~r/nonvoluntary_ctxt_switches:\s+(\d+)/, status)
    [_, m] = Regex.run(~r/\nvoluntary_ctxt_switches:\s+(\d+)/, status)
    String.to_integer(n) + String.to_integer(m)
  end

  defp alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> not String.contains?(stat, [") Z ", ") X "])
      {:error, _} -> not File.dir?("/proc") and ps(os_pid) not in ["", "Z"]
    end
  end

  defp ps(os_pid) do
    {out, _} = System.cmd("ps", ["-o", "stat=", "-p", "#{os_pid}"])
    out |> String.trim() |> String.slice(0, 1)
  end

  defp eventually(fun, deadline \\ nil) do
    deadline = deadline || System.monotonic_time(:millisecond) + 30_000

    cond do
      fun.() ->
        true

      System.monotonic_time(:millisecond) > deadline ->
        false

      true ->
        Process.sleep(5)
        eventually(fun, deadline)
    end
  end
end
