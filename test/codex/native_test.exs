defmodule Codex.NativeTest do
  # In a VM of its own: loading a module again ends processes that are inside of its old code.
  use ExUnit.Case, async: true

  alias Codex.OtherVM

  @moduletag :tmp_dir

  @reload """
  reload = fn ->
    _ = :code.purge(Codex.Native)
    {:module, Codex.Native} = :code.load_file(Codex.Native)
    _ = :code.purge(Codex.Native)
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
  end

  started = "{\\"type\\":\\"turn.started\\"}\\n"
  {cut, rest} = String.split_at(started, 9)
  decoder = Codex.JSONL.new()
  [] = Codex.JSONL.feed(decoder, cut)
  load = fn -> Codex.Config.load(env: %{"HOME" => "/", "CODEX_HOME" => System.tmp_dir!()}, cwd: false) end
  {:ok, config} = load.()
  threads = fn -> Codex.NativePool.call(fn pool, ref -> send(self(), {ref, pool}) && :ok end) end
  pool = threads.()
  """

  test "the module is loaded again, and resources of the old module stay usable" do
    script =
      @reload <>
        """
        for _ <- 1..5, do: reload.()
        [%Codex.Events.TurnStarted{}] = Codex.JSONL.feed(decoder, rest)
        [%Codex.Events.TurnStarted{}] = Codex.JSONL.decode(started)
        %{} = Codex.Config.effective(config)
        {:ok, _} = load.()
        ^pool = threads.()
        {:error, {:eof, 0}} = Codex.JSON.decode("")
        IO.puts("well")
        """

    assert OtherVM.run(script) == {"well\n", 0}
  end

  test "after a purge, the module is loaded as if for the first time" do
    script =
      @reload <>
        """
        true = :code.delete(Codex.Native)
        _ = :code.purge(Codex.Native)
        {:module, Codex.Native} = :code.load_file(Codex.Native)
        for _ <- 1..2, do: reload.()
        [%Codex.Events.TurnStarted{}] = Codex.JSONL.decode(started)
        IO.puts("well")
        """

    assert OtherVM.run(script) == {"well\n", 0}
  end

  test "a library that was built anew takes the place of the one before", %{tmp_dir: dir} do
    # An application folder of its own, whose library can be replaced as the Mix compiler does it.
    app = Path.join(dir, "codex_sdk")
    File.mkdir_p!(Path.join(app, "priv/native"))
    priv = :code.priv_dir(:codex_sdk)
    File.ln_s!(Application.app_dir(:codex_sdk, "ebin"), Path.join(app, "ebin"))
    File.ln_s!(Path.join(priv, "config"), Path.join(app, "priv/config"))
    library = Path.join(app, "priv/native/libcodex_nif.so")
    File.cp!(Path.join(priv, "native/libcodex_nif.so"), library)

    script =
      @reload <>
        """
        image = Codex.Native.image()
        File.cp!(#{inspect(library)}, #{inspect(library <> ".new")})
        File.rename!(#{inspect(library <> ".new")}, #{inspect(library)})
        for _ <- 1..3, do: reload.()
        true = Codex.Native.image() != image
        [%Codex.Events.TurnStarted{}] = Codex.JSONL.decode(started)
        {:ok, again} = load.()
        %{} = Codex.Config.effective(again)
        true = threads.() != pool

        # Resources of the old library are rejected, and dropped by its code.
        for old <- [fn -> Codex.JSONL.feed(decoder, rest) end, fn -> Codex.Config.effective(config) end] do
          try do
            old.()
          rescue
            ArgumentError -> IO.puts("refused")
          end
        end

        IO.puts("well")
        """

    flags = ["-e", "Code.prepend_path(#{inspect(Path.join(app, "ebin"))})"]
    assert OtherVM.run(script, flags) == {"refused\nrefused\nwell\n", 0}
  end

  test "a library that does not load is named in each call with the loader's words",
       %{tmp_dir: dir} do
    app = Path.join(dir, "codex_sdk")
    File.mkdir_p!(Path.join(app, "priv/native"))
    priv = :code.priv_dir(:codex_sdk)
    File.ln_s!(Application.app_dir(:codex_sdk, "ebin"), Path.join(app, "ebin"))

    for name <- ~w(config cli),
        do: File.ln_s!(Path.join(priv, name), Path.join(app, "priv/#{name}"))

    File.write!(Path.join(app, "priv/native/libcodex_nif.so"), "no library")

    script = """
    for _ <- 1..2 do
      try do
        Codex.JSON.decode("{}")
      rescue
        error -> IO.puts(Exception.message(error))
      end
    end
    """

    flags = ["-e", "Code.prepend_path(#{inspect(Path.join(app, "ebin"))})"]
    assert {out, 0} = OtherVM.run(script, flags)
    assert [line, line] = String.split(out, "\n", trim: true)
    assert line =~ "the native library of codex_sdk is not loaded: "
    assert line =~ "libcodex_nif"
    assert line =~ "file too short"
    assert line =~ "Run `mix codex.doctor`"
  end
end
