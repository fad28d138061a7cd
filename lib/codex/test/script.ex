defmodule Codex.Test.Script do
  @moduledoc false
  # Chooses the step that answers a request: rules first, then the steps in order, then the default.

  alias Codex.Options.{Schema, Type}
  alias Codex.Test.{Steps, Wire}

  defstruct rules: [], steps: [], default: nil, given: 0, answered: 0

  @type rule :: %{
          contains: String.t() | Regex.t(),
          header: {String.t(), String.t()} | nil,
          times: pos_integer() | :infinity,
          step: Steps.step()
        }

  @type t :: %__MODULE__{
          rules: [rule()],
          steps: [Steps.step()],
          default: Steps.step() | nil,
          given: non_neg_integer(),
          answered: non_neg_integer()
        }

  @spec new([Steps.step()], [keyword() | map()], Steps.step() | nil) :: t()
  def new(steps, rules, default) do
    push(
      %__MODULE__{rules: Enum.map(rules, &rule!/1), default: default && step!(default)},
      steps
    )
  end

  @spec push(t(), [Steps.step()] | Steps.step()) :: t()
  def push(script, steps) do
    steps = steps |> List.wrap() |> Enum.map(&step!/1)
    %{script | steps: script.steps ++ steps, given: script.given + length(steps)}
  end

  @doc """
  Returns the step for a request by its headers and body, and the number of the answer (from 1).
  """
  @spec next(t(), map(), binary()) :: {Steps.step() | :exhausted, pos_integer(), t()}
  def next(script, headers, text) do
    {step, script} = pick(script, headers, text)
    n = script.answered + 1
    {step, n, %{script | answered: n}}
  end

  defp pick(script, headers, text) do
    case Enum.split_while(script.rules, &(not matches?(&1, headers, text))) do
      {_none, []} -> from_steps(script)
      {before, [rule | rest]} -> {rule.step, %{script | rules: before ++ used(rule) ++ rest}}
    end
  end

  defp from_steps(%{steps: [step | rest]} = script), do: {step, %{script | steps: rest}}
  defp from_steps(%{default: nil} = script), do: {:exhausted, script}
  defp from_steps(%{default: step} = script), do: {step, script}

  defp matches?(%{contains: contains, header: header}, headers, text),
    do: text =~ contains and (header == nil or headers[elem(header, 0)] == elem(header, 1))

  defp used(%{times: :infinity} = rule), do: [rule]
  defp used(%{times: 1}), do: []
  defp used(%{times: n} = rule), do: [%{rule | times: n - 1}]

  @rule Schema.new([
          {:contains, :pattern, "a part of the request",
           default: "", expected: "a string or a regex"},
          {:header, :any, "a header of the request"},
          {:times, :times, "the number of requests",
           default: 1, expected: "1 or more, or `:infinity`"},
          {:step, :any, "the step", required: true}
        ])

  defp rule!(rule) do
    rule = Schema.validate!(@rule, rule, &cast/2)
    %{rule | header: header!(rule.header), step: step!(rule.step)}
  end

  defp cast(:pattern, text) when is_binary(text) or is_struct(text, Regex), do: {:ok, text}
  defp cast(:times, :infinity), do: {:ok, :infinity}
  defp cast(:times, n) when is_integer(n) and n > 0, do: {:ok, n}
  defp cast(_type, _value), do: :error

  defp header!(nil), do: nil

  defp header!({name, value}) when is_binary(name) and is_binary(value),
    do: {String.downcase(name), value}

  defp header!(other),
    do: raise(ArgumentError, "a rule's :header is {name, value}, got: #{Type.kind(other)}")

  @doc "Converts a step to the form that `Codex.Test.Wire` takes. Raises for an invalid step."
  @spec step!(term()) :: Steps.step()
  def step!(text) when is_binary(text), do: step!(Steps.respond([text]))
  def step!({:item, _wire, _streaming} = item), do: step!(Steps.respond([item]))

  # Planned once here, so that invalid data (text that is not UTF-8, a bad header) raises in the
  # caller.
  def step!(step) when is_tuple(step) and elem(step, 0) in [:respond, :silence, :raw, :http] do
    _plan = Wire.plan(step, 1)
    step
  end

  def step!(fun) when is_function(fun, 1), do: fun

  def step!(other) do
    raise ArgumentError,
          "not a step: #{Type.kind(other)}; expected a string, a function of the request, or a " <>
            "value made by Codex.Test.Steps"
  end
end
