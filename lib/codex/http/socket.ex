defmodule Codex.HTTP.Socket do
  @moduledoc false
  # Opens TCP and TLS sockets, for HTTP and for WebSocket connections.

  # Bytes that wait in the VM for the kernel; with more, a send blocks.
  @watermark 1024 * 1024
  @chunk 64 * 1024

  @type host :: String.t() | :inet.ip_address()

  @doc "Returns options of a socket that is read only on demand."
  @spec options(timeout()) :: keyword()
  def options(send_timeout) do
    [
      :binary,
      active: false,
      buffer: @chunk,
      high_watermark: @watermark,
      low_watermark: div(@watermark, 2),
      send_timeout: send_timeout,
      send_timeout_close: true
    ]
  end

  @doc "Connects until a deadline in monotonic milliseconds: a name with IPv4, and then with IPv6."
  @spec connect(:gen_tcp | :ssl, host(), :inet.port_number(), list(), integer()) ::
          {:ok, :gen_tcp | :ssl, term()} | {:error, term()}
  def connect(module, host, port, options, deadline) when tuple_size(host) == 8,
    do: open(module, host, port, [:inet6 | options], deadline)

  def connect(module, host, port, options, deadline) when is_tuple(host),
    do: open(module, host, port, [:inet | options], deadline)

  def connect(module, host, port, options, deadline) do
    name = String.to_charlist(host)

    with {:error, reason} when reason in [:nxdomain, :econnrefused, :ehostunreach, :enetunreach] <-
           open(module, name, port, [:inet | options], deadline),
         {:error, _} <- open(module, name, port, [:inet6 | options], deadline) do
      {:error, reason}
    end
  end

  defp open(module, host, port, options, deadline) do
    with {:ok, socket} <- module.connect(host, port, options, left(deadline)),
         do: {:ok, module, socket}
  end

  @doc "Returns the reason of a closed socket, with a TLS alert as text."
  @spec reason(term()) :: term()
  def reason({:tls_alert, {alert, text}}),
    do: {:tls, alert, text |> to_string() |> Codex.Text.printable() |> String.trim()}

  def reason(reason), do: reason

  @doc "Returns the milliseconds up to a deadline, at least 1."
  @spec left(integer() | :infinity) :: timeout()
  def left(:infinity), do: :infinity
  def left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 1)

  @doc "Returns the deadline of a timeout."
  @spec deadline(timeout()) :: integer() | :infinity
  def deadline(:infinity), do: :infinity
  def deadline(ms), do: System.monotonic_time(:millisecond) + ms
end
