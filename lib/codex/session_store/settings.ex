defmodule Codex.SessionStore.Settings do
  @moduledoc false
  # The settings of a store, which are those of the SDK and not of the adapter.

  alias Codex.Options.Schema

  @schema Schema.new([
            {:flush_ms, :wait,
             "how long the end of a turn may wait until its lines are stored. 0 does not wait",
             default: 1_000},
            {:restore_ms, :milliseconds,
             "how long the beginning of a turn may wait until a thread that is resumed is " <>
               "compared with the store and, if need be, materialised", default: 30_000},
            {:give_up_ms, :milliseconds, "how long a mirror goes on after the end of its turn",
             default: 60_000},
            {:call_ms, :milliseconds, "the limit of one call of the adapter", default: 10_000},
            {:poll_ms, :milliseconds, "the time between looks at the session file", default: 100},
            {:batch_bytes, {:integer, 1, 67_108_864},
             "the bytes of one `append/4`; a line is never cut", default: 262_144},
            {:max_line_bytes, :positive, "the longest line", default: 67_108_864},
            {:max_file_bytes, :positive, "the largest file that is materialised",
             default: 4_294_967_296}
          ])

  @doc "Returns the settings as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @callbacks [append: 4, read: 4, files: 2, threads: 3, delete: 2]

  @doc "Checks a store, and returns it with all settings."
  @spec check(term()) ::
          {:ok, {module(), keyword() | map(), map()}} | :error | {:error, Codex.OptionError.t()}
  def check({module, opts}), do: check({module, opts, []})

  def check({module, opts, settings}), do: check(module, opts, settings)
  def check(_other), do: :error

  defp check(module, opts, settings) when is_atom(module) and (is_list(opts) or is_map(opts)) do
    if adapter?(module) do
      with {:ok, settings} <- Schema.validate(@schema, settings),
           do: {:ok, {module, opts, settings}}
    else
      :error
    end
  end

  defp check(_module, _opts, _settings), do: :error

  defp adapter?(module) do
    Code.ensure_loaded?(module) and
      Enum.all?(@callbacks, fn {name, arity} -> function_exported?(module, name, arity) end)
  end
end
