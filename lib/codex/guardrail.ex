defmodule Codex.Guardrail do
  @moduledoc """
  Checks the input or the answer of a run of `Codex.AgentRunner`.

      secrets =
        Codex.Guardrail.new(
          name: "secrets",
          stage: :input,
          handler: fn input, _context ->
            if input =~ "password", do: {:tripwire, "the input has a password"}, else: :ok
          end
        )

      {:ok, agent} = Codex.Agent.new(name: "helper", input_guardrails: [secrets])
      {:error, %Codex.Error{kind: :guardrail}} =
        Codex.AgentRunner.run(thread, "my password is x", agent: agent)

  Blocking guardrails run first, in the order of the list. Those with `run_in_parallel: true` run at
  the same time as the turn (`:input`), or as each other (`:output`).

  A handler returns

    * `:ok`, `{:ok, term}`, `:allow` or `{:allow, term}` - to go on
    * `{:reject, message}`, `{:deny, message}`, `:deny` or `false` - to stop the run, with the type
      `:reject`
    * `{:tripwire, message}` or `{:raise_exception, message}` - to stop the run, with the type
      `:tripwire`

  Every other value, a missing handler, a crash and a timeout stop the run, too: a check that did
  not happen has not passed. A crash is logged.
  """

  alias Codex.Approvals.Crash
  alias Codex.Options.{Schema, Type}

  @schema Schema.new([
            {:name, :text, "the name in errors", default: "guardrail"},
            {:stage, {:one_of, [:input, :output]}, "the place of the check", default: :input},
            {:handler, :handler, "a function of the payload and the context, or of the payload",
             expected: "a function of one or two arguments"},
            {:run_in_parallel, :boolean, "run beside the turn", default: false},
            {:timeout_ms, :milliseconds, "the time limit of a check", default: 30_000}
          ])

  defstruct Enum.map(@schema.rows, &{&1.name, &1.default})

  @typedoc "A guardrail of input or output. Fields are the options of `new/1`."
  @type t :: %__MODULE__{
          name: String.t(),
          stage: :input | :output,
          handler: (term(), map() -> term()) | (term() -> term()) | nil,
          run_in_parallel: boolean(),
          timeout_ms: pos_integer()
        }

  @typedoc "The result of a check, with words for people."
  @type result :: :ok | {:reject, String.t()} | {:tripwire, String.t()}

  @doc """
  Makes a guardrail. Raises `Codex.OptionError`.

  #{Schema.docs(@schema)}
  """
  @spec new(keyword() | map()) :: t()
  def new(opts \\ []), do: struct(__MODULE__, Schema.validate!(@schema, opts, &cast/2))

  defp cast(:handler, fun) when is_function(fun, 1) or is_function(fun, 2), do: {:ok, fun}
  defp cast(:handler, _other), do: :error
  defp cast(type, value), do: Type.cast(type, value)

  @doc """
  Runs the check in the calling process, without its time limit.

  The payload is the text of the input, or of the answer. The context has `:agent`, `:thread`,
  `:stage` and `:context` (the value of `:tool_context` in the metadata of the thread).

      iex> handler = fn text -> if text == "yes", do: :ok, else: {:reject, "say yes"} end
      iex> guard = Codex.Guardrail.new(handler: handler)
      iex> Codex.Guardrail.run(guard, "no", %{})
      {:reject, "say yes"}
      iex> Codex.Guardrail.run(Codex.Guardrail.new(), "no", %{})
      {:tripwire, "guardrail \\"guardrail\\" has no handler"}
  """
  @spec run(t(), term(), map()) :: result()
  def run(%__MODULE__{} = guardrail, payload, context \\ %{}) when is_map(context),
    do: apply_handler(guardrail.name, guardrail.handler, [payload, context], 1)

  @doc false
  # Calls a handler with all arguments, or with the first ones only.
  @spec apply_handler(String.t(), function() | nil, [term()], pos_integer()) :: result()
  def apply_handler(name, handler, arguments, fewest) do
    arities = length(arguments)..fewest//-1

    case Enum.find(arities, &is_function(handler, &1)) do
      nil -> {:tripwire, "guardrail #{inspect(name)} has no handler"}
      arity -> handler |> apply(Enum.take(arguments, arity)) |> result(name)
    end
  catch
    kind, reason ->
      Crash.log("the guardrail #{inspect(name)}", kind, reason, __STACKTRACE__)
      {:tripwire, "guardrail #{inspect(name)} failed"}
  end

  defp result(pass, _name) when pass in [:ok, :allow], do: :ok
  defp result({pass, _}, _name) when pass in [:ok, :allow], do: :ok
  defp result(deny, _name) when deny in [:deny, :reject, false], do: {:reject, "rejected"}

  defp result({deny, message}, _name) when deny in [:reject, :deny, :reject_content],
    do: {:reject, text(message, "rejected")}

  defp result({trip, message}, _name) when trip in [:tripwire, :raise_exception],
    do: {:tripwire, text(message, "tripwire triggered")}

  defp result(:tripwire, _name), do: {:tripwire, "tripwire triggered"}
  defp result(_other, name), do: {:tripwire, "guardrail #{inspect(name)} returned no result"}

  defp text(message, _default) when is_binary(message) and message != "",
    do: Codex.Text.printable(message)

  defp text(_message, default), do: default
end
