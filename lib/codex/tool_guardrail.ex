defmodule Codex.ToolGuardrail do
  @moduledoc """
  Checks the calls of an agent's tools in a run of `Codex.AgentRunner`: the arguments before a call
  (`:tool_input`), or the output after it (`:tool_output`).

      no_deletes =
        Codex.ToolGuardrail.new(
          name: "no deletes",
          stage: :tool_input,
          behavior: :reject_content,
          handler: fn %{tool: tool}, arguments, _context ->
            if tool == "sql" and arguments["query"] =~ ~r/delete/i,
              do: {:reject, "deletes are not allowed"},
              else: :ok
          end
        )

  These guardrails see the tools of the agent and of the thread. The commands and patches of the
  CLI itself are checked by approvals; tools of MCP servers by neither: see `guides/agents.md`.

  Handlers return the values of `Codex.Guardrail`, and `{:reject_content, message}`. `behavior` says
  what a rejection does:

    * `:allow` - the run stops, with the type `:reject`
    * `:reject_content` - the run goes on. The tool is not called, or its output is replaced; the
      model gets the message instead
    * `:raise_exception` - the run stops, with the type `:tripwire`

  A tripwire always stops the run.
  """

  alias Codex.Guardrail
  alias Codex.Options.{Schema, Type}

  @schema Schema.new([
            {:name, :text, "the name in errors", default: "tool_guardrail"},
            {:stage, {:one_of, [:tool_input, :tool_output]}, "the place of the check",
             default: :tool_input},
            {:handler, :handler,
             "a function of the event, the payload and the context, or of event and payload",
             expected: "a function of two or three arguments"},
            {:run_in_parallel, :boolean, "run beside the other parallel guardrails of the call",
             default: false},
            {:behavior, {:one_of, [:allow, :reject_content, :raise_exception]},
             "the effect of a rejection", default: :allow},
            {:timeout_ms, :milliseconds, "the time limit of a check", default: 30_000}
          ])

  defstruct Enum.map(@schema.rows, &{&1.name, &1.default})

  @typedoc "A guardrail of tools. Fields are the options of `new/1`."
  @type t :: %__MODULE__{
          name: String.t(),
          stage: :tool_input | :tool_output,
          handler: (term(), term(), map() -> term()) | (term(), term() -> term()) | nil,
          run_in_parallel: boolean(),
          behavior: :allow | :reject_content | :raise_exception,
          timeout_ms: pos_integer()
        }

  @doc """
  Makes a guardrail. Raises `Codex.OptionError`.

  #{Schema.docs(@schema)}
  """
  @spec new(keyword() | map()) :: t()
  def new(opts \\ []), do: struct(__MODULE__, Schema.validate!(@schema, opts, &cast/2))

  defp cast(:handler, fun) when is_function(fun, 2) or is_function(fun, 3), do: {:ok, fun}
  defp cast(:handler, _other), do: :error
  defp cast(type, value), do: Type.cast(type, value)

  @doc """
  Runs the check in the calling process, without its time limit.

  The event is a map with `:tool` and `:call_id`. The payload are the arguments (a map) at
  `:tool_input`, the output at `:tool_output`. The context is that of the tool.

      iex> handler = fn _event, %{"n" => n} -> if n > 9, do: false, else: :ok end
      iex> guard = Codex.ToolGuardrail.new(handler: handler)
      iex> Codex.ToolGuardrail.run(guard, %{tool: "add", call_id: "1"}, %{"n" => 10}, %{})
      {:reject, "rejected"}
  """
  @spec run(t(), map(), term(), map()) :: Guardrail.result()
  def run(%__MODULE__{} = guardrail, event, payload, context \\ %{}) when is_map(context),
    do: Guardrail.apply_handler(guardrail.name, guardrail.handler, [event, payload, context], 2)
end
