defmodule Codex.TemporaryDirectoriesTest do
  # Whatever way a VM ends, the directories of its processes are gone.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 2]
  alias Codex.Home.Isolated
  alias Codex.{OtherVM, TemporaryDirectories}

  @moduletag :tmp_dir

  # Removing goes on for seconds after a VM, and machines are busy.
  defp gone?(dir), do: eventually(fn -> File.ls!(dir) == [] end, 30_000)

  # Homes, a server with its workspace, and what a CLI might leave in them. The temporary directory
  # is that of the VM.
  defp homes(dir) do
    """
    System.put_env("TMPDIR", #{inspect(dir)})
    {:ok, home} = Codex.Home.Isolated.create(dir: #{inspect(dir)})
    model = Codex.Test.start!(["x"], dir: #{inspect(dir)})
    for dir <- [home, model.home, model.workspace] do
      true = String.starts_with?(dir, #{inspect(dir)})
      File.mkdir_p!(Path.join(dir, "a/b"))
      File.write!(Path.join(dir, "a/b/c"), "")
    end
    """
  end

  test "a script that ends leaves none at its end", %{tmp_dir: dir} do
    assert OtherVM.run(homes(dir)) == {"", 0}
    assert File.ls!(dir) == []

    assert {_, 1} = OtherVM.run(homes(dir) <> "raise \"x\"")
    assert File.ls!(dir) == []
  end

  test "an owner that is not a process is an error, and no other home is removed", %{tmp_dir: dir} do
    {:ok, home} = Isolated.create(dir: dir)

    for wrong <- [[owner: "x"], [owner: 5], [owner: :nobody], [dir: 5], [dir: ""]] do
      assert {:error, %Codex.OptionError{key: key}} = Isolated.create(wrong)
      assert [key] == Keyword.keys(wrong)
    end

    assert TemporaryDirectories.known?(home)
    assert :ok = Isolated.remove(home)
  end

  test "a VM that stops in order leaves none", %{tmp_dir: dir} do
    assert OtherVM.run(homes(dir) <> "System.stop(0); Process.sleep(:infinity)") == {"", 0}
    assert gone?(dir)
  end

  test "a VM that halts, even at once, leaves none", %{tmp_dir: dir} do
    assert OtherVM.run(homes(dir) <> "System.halt(3)") == {"", 3}
    assert gone?(dir)

    assert OtherVM.run(homes(dir) <> ":erlang.halt(0, flush: false)") == {"", 0}
    assert gone?(dir)
  end

  test "a VM that is killed leaves none, and nothing that looks after them", %{tmp_dir: dir} do
    script = "IO.puts(\"up\"); Process.sleep(:infinity)"
    port = OtherVM.start(homes(dir) <> script)
    assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 30_000
    assert_receive {^port, {:data, {:eol, "up"}}}, 30_000
    assert length(File.ls!(dir)) == 3
    keepers = children(String.to_integer(pid))
    assert keepers != []

    {_, 0} = System.cmd("kill", ["-9", pid])
    assert gone?(dir)
    assert eventually(fn -> not Enum.any?(keepers, &Codex.Stub.alive?/1) end, 30_000)
  end

  test "a directory that was removed before stays as it is when it is made anew", %{tmp_dir: dir} do
    script = """
    {:ok, home} = Codex.Home.Isolated.create(dir: #{inspect(dir)})
    :ok = Codex.Home.Isolated.remove(home)
    File.mkdir!(home)
    """

    assert OtherVM.run(script) == {"", 0}
    assert [_home] = File.ls!(dir)
  end

  test "a launcher that is killed has a successor", %{tmp_dir: dir} do
    kill = """
    {:links, links} = Process.info(Process.whereis(Codex.TemporaryDirectories), :links)
    [port] = Enum.filter(links, &is_port/1)
    {:os_pid, pid} = Port.info(port, :os_pid)
    # The process of the port makes the launcher; that may not have happened yet.
    kill = fn kill ->
      {_, status} = System.cmd("pkill", ["-9", "-P", to_string(pid)])
      if status != 0, do: kill.(kill)
    end
    kill.(kill)
    again = fn again ->
      {:links, links} = Process.info(Process.whereis(Codex.TemporaryDirectories), :links)
      if Enum.any?(links, &(is_port(&1) and &1 != port)), do: :ok, else: again.(again)
    end
    again.(again)
    # Its answer comes after the list was sent.
    true = Codex.TemporaryDirectories.known?(home)
    :erlang.halt(0, flush: false)
    """

    assert OtherVM.run(homes(dir) <> kill) == {"", 0}
    assert gone?(dir)
  end

  test "they go with a process that is killed, and stay with an application that stops", %{
    tmp_dir: dir
  } do
    script =
      homes(dir) <>
        """
        :ok = Application.stop(:codex_sdk)
        IO.inspect({File.dir?(home), File.dir?(model.home)})
        {:ok, _} = Application.ensure_all_started(:codex_sdk)
        :ok = Codex.Test.stop(model)
        IO.inspect(File.ls!(#{inspect(dir)}))
        """

    assert {out, 0} = OtherVM.run(script)
    assert out =~ "{false, true}\n[]\n"

    Process.flag(:trap_exit, true)
    model = Codex.Test.start!([], dir: dir)
    assert TemporaryDirectories.known?(model.workspace)
    Process.exit(model.pid, :kill)
    assert gone?(dir)
    assert eventually(fn -> not File.exists?(model.workspace) end, 30_000)
  end

  test "without the application, a home is an error that says so, and a server works" do
    script = """
    :ok = Application.stop(:codex_sdk)
    IO.puts("model " <> Codex.Test.start!(["x"]).url)
    Codex.Home.Isolated.create()
    """

    assert {out, 1} = OtherVM.run(script)
    assert out =~ "model http://127.0.0.1:"
    assert out =~ "a home needs the application :codex_sdk, which is not started"
  end

  defp children(pid) do
    {list, 0} = System.cmd("ps", ["-eo", "pid=,ppid="])
    pairs = for line <- String.split(list, "\n", trim: true), do: numbers(line)
    below(pairs, pid)
  end

  defp numbers(line), do: line |> String.split() |> Enum.map(&String.to_integer/1)

  defp below(pairs, pid) do
    children = for [child, ^pid] <- pairs, do: child
    children ++ Enum.flat_map(children, &below(pairs, &1))
  end
end
