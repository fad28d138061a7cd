defmodule Codex.OddFiles do
  @moduledoc "What may stand in the place of a file that is to be read."

  @doc "Each kind, and a function that puts it at a path."
  def all do
    [
      pipe: &pipe/1,
      zero: &link("/dev/zero", &1),
      link_to_pipe: &link_to_pipe/1,
      directory: &File.mkdir!/1,
      socket: &socket/1,
      too_large: &sparse/1
    ]
  end

  @doc "A named pipe that nobody writes to."
  def pipe(path), do: {_, 0} = System.cmd("mkfifo", [path])

  @doc "A file of 64 GiB that takes no room."
  def sparse(path) do
    {:ok, file} = :file.open(path, [:write, :raw])
    {:ok, size} = :file.position(file, 64 * 1024 * 1024 * 1024)
    :ok = :file.truncate(file)
    :ok = :file.close(file)
    size
  end

  defp link(target, path), do: File.ln_s!(target, path)

  defp link_to_pipe(path) do
    pipe(path <> ".pipe")
    File.ln_s!(path <> ".pipe", path)
  end

  # A socket's path has room for some hundred bytes, so its folder gets a short name.
  defp socket(path) do
    short = Path.join(System.tmp_dir!(), "odd-#{System.unique_integer([:positive])}")
    File.ln_s!(Path.expand(Path.dirname(path)), short)
    address = {:local, Path.join(short, Path.basename(path))}
    {:ok, socket} = :gen_tcp.listen(0, [:local, ifaddr: address])
    :ok = :gen_tcp.close(socket)
    File.rm!(short)
  end

  @doc "Removes what was put at a path."
  def remove!(path) do
    for path <- [path, path <> ".pipe"], do: File.rm_rf!(path)
    path
  end
end
