defmodule Codex.SessionStore.Memory.Options do
  @moduledoc false
  # The options of the process of a store in memory.

  alias Codex.Options.Schema

  @schema Schema.new([
            {:name, :any, "the name of the process, as `GenServer.start_link/3` takes it",
             expected: "the name of a process"},
            {:max_bytes, :bytes, "the most bytes of all files", default: 268_435_456}
          ])

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Checks options."
  @spec new(term()) :: {:ok, map()} | {:error, Codex.OptionError.t()}
  def new(opts), do: Schema.validate(@schema, opts)
end
