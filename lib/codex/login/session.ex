defmodule Codex.Login.Session do
  @moduledoc false
  # A login that waits for a person: a process that runs the CLI, tells its owner what it says, and ends with either. Known by
  # a reference, which is its name in the registry.

  alias Codex.CLI.Command
  alias Codex.Subprocess

  @ladder [{:signal, :int, 1_000}, {:signal, :term, 500}]
  # What the CLI says before a person has to act is less than this.
  @most 64 * 1024

  @spec start(map()) :: {:ok, reference()}
  def start(login) do
    :ok = Codex.Application.Guard.started!()
    ref = make_ref()
    owner = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        _ = Process.monitor(owner)
        {:ok, _} = Registry.register(Codex.Exec.Registry, {__MODULE__, ref}, nil)
        send(owner, {ref, :registered})
        guarded(Map.merge(login, %{ref: ref, owner: owner}))
      end)

    monitor = Process.monitor(pid)

    # A login can be cancelled as soon as it is known.
    receive do
      {^ref, :registered} -> Process.demonitor(monitor, [:flush])
      {:DOWN, ^monitor, _, _, _} -> :ok
    end

    {:ok, ref}
  end

  @spec cancel(reference()) :: :ok
  def cancel(ref) do
    for {pid, _} <- find(ref), do: send(pid, {__MODULE__, :cancel})

    :ok
  end

  @doc "A monitor on its process, or nil where it has ended."
  @spec monitor(reference()) :: reference() | nil
  def monitor(ref) do
    case find(ref) do
      [{pid, _}] -> Process.monitor(pid)
      [] -> nil
    end
  end

  defp find(ref) do
    :ok = Codex.Application.Guard.started!()
    Registry.lookup(Codex.Exec.Registry, {__MODULE__, ref})
  end

  # Whatever happens, its owner is told.
  defp guarded(login) do
    run(login)
  catch
    kind, reason ->
      tell(login, {:error, :crashed})
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp run(login) do
    opts = [env: login.env, ladder: @ladder, stderr_limit: @most]

    with {:ok, sub} <- Subprocess.open(login.argv, opts),
         {:ok, sub} <- Command.feed(sub, "") do
      follow(
        Map.merge(login, %{
          sub: sub,
          said: "",
          told?: false,
          deadline: Command.deadline(login.timeout)
        })
      )
    else
      {:error, error} -> tell(login, {:error, {:not_started, error}})
    end
  end

  # A CLI that keeps printing is no reason to wait for it longer.
  defp follow(login) do
    if Command.left(login.deadline) == 0,
      do: stop(login, {:timeout, login.timeout}),
      else: listen(login)
  end

  defp listen(login) do
    %{owner: owner} = login

    receive do
      {__MODULE__, :cancel} -> stop(login, :cancelled)
      {:DOWN, _, :process, ^owner, _} -> stop(login, :cancelled)
      message -> hear(login, Subprocess.stream(login.sub, message))
    after
      Command.left(login.deadline) -> stop(login, {:timeout, login.timeout})
    end
  end

  defp hear(login, :unknown), do: follow(login)
  defp hear(login, {:error, _sub, error}), do: tell(login, {:error, {:lost, error}})

  defp hear(login, {:ok, sub, outputs}) do
    login = Enum.reduce(outputs, %{login | sub: sub}, &output/2)

    case List.keyfind(outputs, :exit, 0) do
      nil -> follow(open(login))
      {:exit, exit} -> ended(open(login), exit)
    end
  end

  defp output({:stdout, bytes}, login) do
    case Subprocess.grant(login.sub, byte_size(bytes)) do
      {:ok, sub} -> said(%{login | sub: sub}, bytes)
      {:error, sub, _} -> said(%{login | sub: sub}, bytes)
    end
  end

  defp output({:stderr, bytes}, login), do: said(login, bytes)
  defp output(_other, login), do: login

  defp said(login, bytes) when byte_size(login.said) < @most,
    do: %{login | said: login.said <> bytes}

  defp said(login, _bytes), do: login

  defp open(%{told?: true} = login), do: login

  defp open(login) do
    case invitation(login.said, login.code?) do
      nil ->
        login

      invitation ->
        tell(login, {:open, invitation})
        %{login | told?: true}
    end
  end

  @doc """
  What a person has to open, out of the words of the CLI (0.169), once they are all there.

      iex> Codex.Login.Session.invitation("1. Open this link\\n   http://127.0.0.1/codex/device\\n2. Enter\\n   ABCD-1234\\n", true)
      %{url: "http://127.0.0.1/codex/device", code: "ABCD-1234"}
      iex> Codex.Login.Session.invitation("navigate to this URL:\\n\\nhttps://auth.example.com/oauth/authorize?a=b\\n", false)
      %{url: "https://auth.example.com/oauth/authorize?a=b", code: nil}
      iex> Codex.Login.Session.invitation("Starting local login server on http://localhost:1455.\\n", false)
      nil
  """
  @spec invitation(binary(), boolean()) :: %{url: String.t(), code: String.t() | nil} | nil
  def invitation(said, code?) do
    # Lines of their own, and such as have ended.
    plain = Command.text(said)
    plain = if String.ends_with?(said, "\n"), do: plain <> "\n", else: plain
    url = Regex.run(~r{^\s*(https?://\S+)[ \t]*\n}m, plain)
    code = Regex.run(~r/^\s+([A-Z0-9]{3,}(?:-[A-Z0-9]{3,})+)[ \t]*\n/m, plain)

    case {url, code, code?} do
      {[_, url], _, false} -> %{url: url, code: nil}
      {[_, url], [_, code], true} -> %{url: url, code: code}
      _ -> nil
    end
  end

  defp ended(login, %{status: 0}) do
    case login.status.() do
      {:ok, status} -> tell(login, {:done, status})
      {:error, reason} -> tell(login, {:error, reason})
    end
  end

  defp ended(login, %{status: nil, signal: signal}), do: tell(login, {:error, {:killed, signal}})

  defp ended(login, %{status: status}),
    do: tell(login, {:error, {:login_failed, status, Command.text(login.said)}})

  defp stop(login, reason) do
    _ = Subprocess.stop_soon(login.sub)
    tell(login, {:error, reason})
  end

  defp tell(login, what) do
    send(login.owner, {:codex_login, login.ref, what})
    :ok
  end
end
