defmodule Codex.Pool.Options do
  @moduledoc false
  # The options of a pool.

  alias Codex.{AppServer, OptionError}
  alias Codex.Options.{Schema, Type}

  # The pool names, owns and replaces its connections.
  @own ~w(name owner reconnect)

  @schema Schema.new(
            [
              {:name, :pool_name, "the registered name of the pool",
               expected: "a name of a process, as GenServer takes it"},
              {:client, :client, "the client of the servers, see `Codex.Options`",
               default: [], expected: "options of a client"},
              {:server, :connection,
               "the options of the servers: those of `Codex.AppServer.connect/2`, except " <>
                 "`:name`, `:owner` and `:reconnect`",
               default: [], expected: "options of a connection"},
              {:min, :count, "the least servers, which are kept warm", default: 1},
              {:max, :positive, "the most servers, beside those that are being recycled",
               default: 4},
              {:threads_per_server, :positive, "the most turns that run on a server at once",
               default: 8},
              {:idle_ms, :milliseconds,
               "a server above `min` ends when it had no turn for this time", default: 60_000},
              {:max_turns, :positive, "a server is recycled after so many turns", default: 1_000},
              {:max_age_ms, :timeout, "a server is recycled at this age", default: 3_600_000},
              {:max_memory_bytes, :bytes,
               "a server is recycled when its resident memory is larger", default: 2_147_483_648},
              {:health_ms, :milliseconds, "the time between health checks of a server",
               default: 30_000},
              {:health_timeout_ms, :milliseconds, "the time in which a server answers a check",
               default: 30_000}
            ],
            places: true
          )

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks the options of a pool."
  @spec new(term()) :: {:ok, map()} | {:error, OptionError.t()}
  def new(options) do
    with {:ok, opts} <- Schema.validate(@schema, options, &cast/2),
         {:ok, client} <- Codex.Options.new(opts.client),
         :ok <- enough(opts),
         :ok <- shared_home(client, opts.server),
         do: {:ok, %{opts | client: client}}
  end

  defp enough(%{min: min, max: max}) when min > max,
    do: {:error, OptionError.invalid(:min, min, "at most :max, which is #{max}")}

  defp enough(_opts), do: :ok

  # A thread is resumed by another server.
  defp shared_home(client, server) do
    if Enum.any?(server, &(&1 in [isolation: :hermetic])) and client.codex_home == nil do
      expected =
        "left out, or beside a codex_home of the client: the servers of a pool share a home"

      {:error, OptionError.invalid([:server, :isolation], :hermetic, expected)}
    else
      :ok
    end
  end

  defp cast(:client, value) do
    with {:error, %{reason: :not_options}} <- Codex.Options.new(value), do: :error
  end

  defp cast(:connection, value) do
    with {:ok, pairs} <- Type.pairs(value),
         {:ok, _checked} <- AppServer.Options.new(pairs, :child) do
      case for {name, _value} <- pairs, Type.name(name) in @own, do: name do
        [] -> {:ok, pairs}
        [name | _] -> {:error, OptionError.new(:unknown, [name], [])}
      end
    end
  end

  defp cast(:pool_name, name) when is_pid(name), do: :error
  defp cast(:pool_name, name), do: if(Type.server?(name), do: {:ok, name}, else: :error)
  defp cast(_type, _value), do: :error
end
