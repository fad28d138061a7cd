defmodule Codex.Session.Memory do
  @moduledoc """
  A session in the memory of a process, for tests and short programs.

      {:ok, memory} = Codex.Session.Memory.start_link()
      session = {Codex.Session.Memory, memory}

  It keeps the newest 1,000 entries.
  """

  @behaviour Codex.Session

  @most 1_000

  @doc "Returns the specification for a supervisor; the options are those of `start_link/1`."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) when is_list(opts),
    do: %{id: opts[:name] || __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc """
  Starts the process. Options: `:history`, the first entries (default `[]`), and `:name`, as for
  `Agent.start_link/2`.
  """
  @spec start_link(keyword()) :: Agent.on_start()
  def start_link(opts \\ []) when is_list(opts) do
    {history, opts} = Keyword.pop(opts, :history, [])
    Agent.start_link(fn -> newest(history) end, opts)
  end

  @impl true
  def load(memory), do: {:ok, Agent.get(memory, & &1)}

  @impl true
  def save(memory, entry), do: Agent.update(memory, &newest(&1 ++ [entry]))

  @impl true
  def clear(memory), do: Agent.update(memory, fn _entries -> [] end)

  defp newest(entries), do: Enum.take(entries, -@most)
end
