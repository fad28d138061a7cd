defmodule Codex.AppServer.DefaultSocket do
  @moduledoc false
  # The socket of `codex app-server --listen unix://`: a file in the temp directory, named after a
  # hash of the server's home.

  # The limit of the kernel.
  @most_links 40

  @doc """
  Returns the path of the socket of the server with this home.

      iex> Codex.AppServer.DefaultSocket.path("/no/such/home", 1000)
      "/tmp/codex-daemon-1000/c92bb52a3ea7ae338c6bd5f89a27a8d0c5f4d0045096a50d29c89b2ae52bdf41"
  """
  @spec path(Path.t(), non_neg_integer()) :: Path.t()
  def path(home, uid) do
    socket = Path.join(real(home), "app-server-control/app-server-control.sock")
    name = :crypto.hash(:sha256, socket) |> Base.encode16(case: :lower)
    Path.join("/tmp/codex-daemon-#{uid}", name)
  end

  @doc "Returns the user id of this VM."
  @spec uid() :: non_neg_integer()
  def uid do
    {uid, 0} = System.cmd("id", ["-u"])
    uid |> String.trim() |> String.to_integer()
  end

  # The server resolves links, too.
  defp real(path), do: path |> Path.expand() |> Path.split() |> real("/", 0)

  defp real([], done, _links), do: done
  defp real(rest, done, @most_links), do: Path.join([done | rest])

  defp real([part | rest], done, links) do
    path = Path.join(done, part)

    case File.read_link(path) do
      {:ok, target} -> (Path.split(Path.expand(target, done)) ++ rest) |> real("/", links + 1)
      {:error, _} -> real(rest, path, links)
    end
  end
end
