defmodule Codex.ModelSettings.Rows do
  @moduledoc false
  # The settings of `Codex.ModelSettings`.

  alias Codex.Options.{Cast, Schema}

  @summaries [:auto, :concise, :detailed, :none]
  @schema Schema.new([
            {:effort, :effort, "the effort of reasoning",
             expected: "an effort such as `:low` or `:high`"},
            {:summary, {:one_of, @summaries}, "summaries of the reasoning"},
            {:verbosity, {:one_of, [:low, :medium, :high]}, "the length of answers"},
            {:reasoning, :reasoning, "effort and summary in one",
             expected: "an effort, or a map with `:effort` and `:summary`"}
          ])

  # With the values that change nothing.
  @unsupported [
    temperature: [nil],
    top_p: [nil],
    frequency_penalty: [nil],
    presence_penalty: [nil],
    tool_choice: [nil],
    parallel_tool_calls: [nil],
    truncation: [nil],
    max_tokens: [nil],
    metadata: [nil, %{}],
    store: [nil],
    prompt_cache: [nil],
    response_include: [nil, []],
    top_logprobs: [nil],
    extra_headers: [nil, %{}],
    extra_body: [nil, %{}],
    extra_query: [nil, %{}],
    provider: [nil, :responses, "responses"]
  ]
  @why "the CLI sends no such parameter to the model"

  def schema, do: @schema
  def docs, do: Schema.docs(@schema)

  def cast(:reasoning, map) when is_map(map) and not is_struct(map) do
    with {:ok, set} <- Schema.validate(@schema, map, &cast/2),
         %{reasoning: nil} <- set do
      {:ok, Map.take(set, [:effort, :summary])}
    else
      {:error, error} -> {:error, error}
      _nested -> :error
    end
  end

  def cast(:reasoning, value),
    do: with({:ok, effort} <- Cast.cast(:effort, value), do: {:ok, %{effort: effort}})

  def cast(type, value), do: Cast.cast(type, value)

  @doc "Removes the settings that change nothing; returns an error for those that cannot be sent."
  def supported(pairs) do
    pairs
    |> Enum.find_value({:ok, Enum.reject(pairs, &key/1)}, fn {_key, value} = pair ->
      key = key(pair)
      if key && value not in @unsupported[key], do: {:error, {:unsupported, key, @why}}
    end)
  end

  defp key({key, _value}) when is_atom(key) or is_binary(key),
    do: Enum.find(Keyword.keys(@unsupported), &(Atom.to_string(&1) == to_string(key)))

  defp key(_pair), do: nil
end
