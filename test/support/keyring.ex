defmodule Codex.Keyring do
  @moduledoc """
  A real keyring for a test: a D-Bus of its own and a `gnome-keyring-daemon` on it, under the launcher, so that both end with the
  test whatever happens to it.
  """

  alias Codex.Subprocess

  defstruct [:dir, :address, :bus, :daemon]

  @password "correct horse"

  @doc "What has to be installed."
  def programs, do: ["dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"]

  @doc "A bus, and the daemon on it, open; or `:none` but the bus. `dir` must be short: sockets are made in it."
  def start!(dir, state \\ :open) do
    File.mkdir_p!(dir)
    keyring = bus!(%__MODULE__{dir: dir})
    if state == :none, do: keyring, else: start_daemon!(keyring)
  end

  def start_daemon!(keyring), do: daemon!(keyring, ["--unlock"], @password)

  @doc "What is in it stays, and nobody gives its password."
  def relock!(keyring), do: keyring |> stop_daemon!() |> daemon!([], "")

  @doc "Variables under which programs find it."
  def env(keyring, more \\ %{}) do
    Map.merge(
      %{
        "DBUS_SESSION_BUS_ADDRESS" => keyring.address,
        "HOME" => keyring.dir,
        "XDG_RUNTIME_DIR" => Path.join(keyring.dir, "run"),
        "XDG_DATA_HOME" => Path.join(keyring.dir, "data")
      },
      more
    )
  end

  @doc "The daemon goes on, but answers nothing."
  def freeze!(%{daemon: daemon}), do: signal!(daemon, "STOP")

  def thaw!(%{daemon: daemon}), do: signal!(daemon, "CONT")

  def stop!(keyring) do
    keyring = if keyring.daemon, do: stop_daemon!(keyring), else: keyring
    Subprocess.stop(keyring.bus)
    :ok
  end

  def stop_daemon!(keyring) do
    Subprocess.stop(keyring.daemon)
    %{keyring | daemon: nil}
  end

  @doc "What `secret-tool` has under these names."
  def lookup(keyring, service, account) do
    {secret, _} =
      System.cmd("secret-tool", ["lookup", "service", service, "username", account],
        env: Map.to_list(env(keyring))
      )

    secret
  end

  @doc "Puts something there as another program does, without the names that the CLI's library adds."
  def store!(keyring, service, account, secret) do
    sub =
      open!(
        ["secret-tool", "store", "--label=test", "service", service, "username", account],
        keyring
      )

    {:ok, sub} = Subprocess.write(sub, secret)
    {:ok, sub} = Subprocess.close_stdin(sub)
    %{status: 0} = await_exit(sub)
  end

  defp await_exit(sub) do
    {:ok, sub, outputs} = Subprocess.next(sub, 60_000)

    case List.keyfind(outputs, :exit, 0) do
      {:exit, exit} -> exit
      nil -> await_exit(sub)
    end
  end

  # No folder of services: no service starts on demand.
  defp bus!(keyring) do
    conf = Path.join(keyring.dir, "bus.conf")
    socket = Path.join(keyring.dir, "bus.sock")
    File.mkdir_p!(Path.join(keyring.dir, "run"))

    File.write!(conf, """
    <!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
     "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig>
      <type>session</type>
      <listen>unix:path=#{socket}</listen>
      <auth>EXTERNAL</auth>
      <policy context="default">
        <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
      </policy>
    </busconfig>
    """)

    sub = open!(["dbus-daemon", "--config-file=#{conf}", "--nofork", "--print-address"], keyring)
    {sub, line} = line(sub, "")
    %{keyring | bus: sub, address: String.trim(line)}
  end

  defp daemon!(keyring, flags, stdin) do
    argv = ["gnome-keyring-daemon", "--foreground", "--components=secrets"] ++ flags
    sub = open!(argv, keyring)
    {:ok, sub} = Subprocess.write(sub, stdin)
    {:ok, sub} = Subprocess.close_stdin(sub)
    keyring = %{keyring | daemon: flush(sub)}
    await_service(keyring, 1_000)
    keyring
  end

  # Input is sent when the launcher has room.
  defp flush(sub) do
    if Subprocess.pending(sub) == 0 do
      sub
    else
      {:ok, sub, _} = Subprocess.next(sub, 60_000)
      flush(sub)
    end
  end

  # The daemon is ready when it owns its name on the bus.
  defp await_service(keyring, tries) do
    {out, _} =
      System.cmd(
        "dbus-send",
        [
          "--bus=#{keyring.address}",
          "--print-reply",
          "--dest=org.freedesktop.DBus",
          "/",
          "org.freedesktop.DBus.NameHasOwner",
          "string:org.freedesktop.secrets"
        ],
        stderr_to_stdout: true
      )

    cond do
      out =~ "boolean true" ->
        :ok

      tries == 0 ->
        raise "no org.freedesktop.secrets on the bus: #{out} #{Subprocess.stderr(keyring.daemon)}"

      true ->
        Process.sleep(50)
        await_service(keyring, tries - 1)
    end
  end

  defp open!(argv, keyring) do
    env = if keyring.address, do: env(keyring), else: %{"HOME" => keyring.dir}

    {:ok, sub} = Subprocess.open(argv, env: env, ladder: [{:signal, :term, 1_000}])
    sub
  end

  defp line(sub, said) do
    {:ok, sub, outputs} = Subprocess.next(sub, 60_000)
    said = said <> for({:stdout, bytes} <- outputs, into: "", do: bytes)
    if said =~ "\n", do: {sub, said}, else: line(sub, said)
  end

  defp signal!(sub, name) do
    {_, 0} = System.cmd("kill", ["-" <> name, Integer.to_string(Subprocess.os_pid(sub))])
    :ok
  end
end
