defmodule Codex.MCP.Start do
  @moduledoc false
  # Starts connections: linked to the caller with a server of options, or under the supervisor of
  # the package with a transport of the application.

  alias Codex.MCP.{Connection, Options}
  alias Codex.OptionError
  alias Codex.Options.Type

  @doc "Starts a linked connection with its server. Blocks until the server is ready."
  @spec linked(keyword()) :: {:ok, pid()} | :ignore | {:error, term()}
  def linked(opts) do
    with {:ok, opener, opts} <- Options.split(opts), {:ok, options} <- Options.new(opts) do
      ref = make_ref()
      args = args(opener, options, %{parent: self(), starter: {self(), ref}})

      with {:ok, pid} <- Connection.start_link({args, options.name}),
           do: pid |> await(ref) |> result(options)
    end
  end

  defp result({:ok, pid, _about}, _options), do: {:ok, pid}
  defp result({:error, _reason}, %{required: false}), do: :ignore
  defp result({:error, reason}, _options), do: {:error, reason}

  @doc "Starts a connection over a transport, which ends with the caller, and describes it."
  @spec owned({module(), term()}, keyword()) :: {:ok, pid(), map()} | {:error, term()}
  def owned(transport, opts) do
    with :ok <- transport(transport), {:ok, options} <- Options.new(opts) do
      ref = make_ref()
      opener = Options.of_transport(transport)
      args = args(opener, options, %{owner: self(), starter: {self(), ref}})
      start = {Connection, :start_link, [{args, options.name}]}
      spec = %{id: Connection, start: start, restart: :temporary}

      with {:ok, pid} <- DynamicSupervisor.start_child(Codex.MCP.Supervisor, spec),
           do: await(pid, ref)
    end
  end

  defp transport({module, _state}) when is_atom(module), do: :ok

  defp transport(other),
    do: {:error, OptionError.argument(:transport, Type.kind(other), "`{module, state}`")}

  defp args({_module, arg} = opener, options, processes) do
    options = %{options | max_message_bytes: is_map(arg) && arg[:max_message_bytes]}
    args = %{opener: fn -> opener end, options: options, owner: nil, parent: nil}
    fn -> Map.merge(args, processes) end
  end

  # The connection tells the result before it ends.
  defp await(pid, ref) do
    monitor = Process.monitor(pid)

    receive do
      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        with {:ok, about} <- result, do: {:ok, pid, about}

      {:DOWN, ^monitor, :process, _pid, reason} ->
        {:error, {:server_down, %{reason: reason}}}
    end
  end
end
