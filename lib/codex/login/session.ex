defmodule Codex.Login.Session do
  @moduledoc false
  # A login in progress: a process that runs the CLI and forwards its messages to the owner. It ends
  # with either of them. Its name in the registry is the reference of the login.

  alias Codex.CLI.Command
  alias Codex.Subprocess

  @ladder [{:signal, :int, 1_000}, {:signal, :term, 500}]
  # The CLI prints less than this before a person has to act.
  @most 64 * 1024

  @spec start(map()) :: {:ok, reference()}
  def start(login) do
    :ok = Codex.Started.check!()
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

    # A login can be cancelled as soon as its reference is known.
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

  @doc "Monitors the process of a login; returns nil if it has ended."
  @spec monitor(reference()) :: reference() | nil
  def monitor(ref) do
    case find(ref) do
      [{pid, _}] -> Process.monitor(pid)
      [] -> nil
    end
  end

  defp find(ref) do
    :ok = Codex.Started.check!()
    Registry.lookup(Codex.Exec.Registry, {__MODULE__, ref})
  end

  # The owner gets a message whatever happens.
  defp guarded(login) do
    run(login)
  catch
    kind, reason ->
      notify(login, {:error, :crashed})
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp run(login) do
    opts = [env: login.env, ladder: @ladder, stderr_limit: @most]

    with {:ok, sub} <- Subprocess.open(login.argv, opts),
         {:ok, sub} <- Command.feed(sub, "") do
      follow(
        Map.merge(login, %{
          sub: sub,
          printed: "",
          opened?: false,
          deadline: Command.deadline(login.timeout)
        })
      )
    else
      {:error, error} -> notify(login, {:error, {:not_started, error}})
    end
  end

  # A CLI that keeps printing does not extend the deadline.
  defp follow(login) do
    if Command.remaining(login.deadline) == 0,
      do: stop(login, {:timeout, login.timeout}),
      else: listen(login)
  end

  defp listen(login) do
    %{owner: owner} = login

    receive do
      {__MODULE__, :cancel} -> stop(login, :cancelled)
      {:DOWN, _, :process, ^owner, _} -> stop(login, :cancelled)
      message -> handle(login, Subprocess.stream(login.sub, message))
    after
      Command.remaining(login.deadline) -> stop(login, {:timeout, login.timeout})
    end
  end

  defp handle(login, :unknown), do: follow(login)
  defp handle(login, {:error, _sub, error}), do: notify(login, {:error, {:lost, error}})

  defp handle(login, {:ok, sub, outputs}) do
    login = Enum.reduce(outputs, %{login | sub: sub}, &output/2)

    case List.keyfind(outputs, :exit, 0) do
      nil -> follow(open(login))
      {:exit, exit} -> ended(open(login), exit)
    end
  end

  defp output({:stdout, bytes}, login) do
    case Subprocess.grant(login.sub, byte_size(bytes)) do
      {:ok, sub} -> printed(%{login | sub: sub}, bytes)
      {:error, sub, _} -> printed(%{login | sub: sub}, bytes)
    end
  end

  defp output({:stderr, bytes}, login), do: printed(login, bytes)
  defp output(_other, login), do: login

  defp printed(login, bytes) when byte_size(login.printed) < @most,
    do: %{login | printed: login.printed <> bytes}

  defp printed(login, _bytes), do: login

  defp open(%{opened?: true} = login), do: login

  defp open(login) do
    case invitation(login.printed, login.code?) do
      nil ->
        login

      invitation ->
        notify(login, {:open, invitation})
        %{login | opened?: true}
    end
  end

  @doc """
  Returns the URL and the code that a person needs from the output of the CLI, or nil until both are
  complete.

      iex> alias Codex.Login.Session
      iex> text = "1. Open this link\\n   http://127.0.0.1/codex/device\\n2. Enter\\n   ABCD-1234\\n"
      iex> Session.invitation(text, true)
      %{url: "http://127.0.0.1/codex/device", code: "ABCD-1234"}
      iex> Session.invitation("navigate to this URL:\\n\\nhttps://auth.example.com/a?b=c\\n", false)
      %{url: "https://auth.example.com/a?b=c", code: nil}
      iex> Session.invitation("Starting local login server on http://localhost:1455.\\n", false)
      nil
  """
  @spec invitation(binary(), boolean()) :: %{url: String.t(), code: String.t() | nil} | nil
  def invitation(output, code?) do
    # Only complete lines that consist of the URL or the code.
    plain = Command.text(output)
    plain = if String.ends_with?(output, "\n"), do: plain <> "\n", else: plain
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
      {:ok, status} -> notify(login, {:done, status})
      {:error, reason} -> notify(login, {:error, reason})
    end
  end

  defp ended(login, %{status: nil, signal: signal}),
    do: notify(login, {:error, {:killed, signal}})

  defp ended(login, %{status: status}),
    do: notify(login, {:error, {:login_failed, status, Command.text(login.printed)}})

  defp stop(login, reason) do
    _ = Subprocess.stop_soon(login.sub)
    notify(login, {:error, reason})
  end

  defp notify(login, message) do
    send(login.owner, {:codex_login, login.ref, message})
    :ok
  end
end
