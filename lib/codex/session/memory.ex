defmodule Codex.Session.Memory do
  @moduledoc """
  A session in the memory of a process, for tests and short programs.

      {:ok, memory} = Codex.Session.Memory.start_link()
      session = {Codex.Session.Memory, memory}

  It keeps the newest 1,000 entries.
  """

  @behaviour Codex.Session

  alias Codex.Options.{Schema, Type}

  @most 1_000

  @schema Schema.new([
            {:history, {:list, :map}, "the first entries",
             default: [], expected: "a list of maps"},
            {:name, :name, "the name of the process",
             expected: "an atom, `{:global, term}` or `{:via, module, term}`"}
          ])

  @doc "Returns the specification for a supervisor; the options are those of `start_link/1`."
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts = Schema.validate!(@schema, opts, &cast/2)
    # A report of a supervisor would show the entries.
    history = fn -> opts.history end
    %{id: opts.name || __MODULE__, start: {__MODULE__, :start, [history, opts.name]}}
  end

  @doc """
  Starts the process. Raises `Codex.OptionError`.

  #{Schema.docs(@schema)}
  """
  @spec start_link(keyword() | map()) :: Agent.on_start()
  def start_link(opts \\ []) do
    opts = Schema.validate!(@schema, opts, &cast/2)
    start(fn -> opts.history end, opts.name)
  end

  defp cast(:name, name) when is_atom(name), do: {:ok, name}
  defp cast(:name, {:global, _term} = name), do: {:ok, name}
  defp cast(:name, {:via, module, _term} = name) when is_atom(module), do: {:ok, name}
  defp cast(:name, _other), do: :error
  defp cast(type, value), do: Type.cast(type, value)

  @doc false
  def start(history, name),
    do: Agent.start_link(fn -> newest(history.()) end, if(name, do: [name: name], else: []))

  @impl true
  def load(memory), do: {:ok, Agent.get(memory, & &1)}

  @impl true
  def save(memory, entry), do: Agent.update(memory, &newest(&1 ++ [entry]))

  @impl true
  def clear(memory), do: Agent.update(memory, fn _entries -> [] end)

  defp newest(entries), do: Enum.take(entries, -@most)
end
