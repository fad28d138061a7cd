defmodule Codex.ModelSettings do
  @moduledoc """
  Settings of the model for an agent or a run. Codex lets a client choose three:

  #{Codex.ModelSettings.Rows.docs()}

  The CLI sends no sampling parameters: `temperature`, `top_p`, `frequency_penalty`,
  `presence_penalty`, `tool_choice`, `parallel_tool_calls`, `truncation`, `max_tokens`, `metadata`,
  `store`, `prompt_cache`, `response_include`, `top_logprobs`, `extra_headers`, `extra_body`,
  `extra_query` and a `provider` other than `:responses` are
  `{:error, {:unsupported, key, why}}`.
  """

  alias Codex.ModelSettings.Rows
  alias Codex.Options.Schema
  alias Codex.OptionError

  defstruct [:effort, :summary, :verbosity]

  @typedoc "Settings of the model; nil leaves the choice to the thread."
  @type t :: %__MODULE__{
          effort: atom() | String.t() | nil,
          summary: atom() | nil,
          verbosity: atom() | nil
        }

  @typedoc "An invalid setting, or one that the CLI cannot send."
  @type reason :: OptionError.t() | {:unsupported, atom(), String.t()}

  @doc """
  Checks settings.

      iex> {:ok, settings} = Codex.ModelSettings.new(reasoning: %{effort: :high})
      iex> settings.effort
      :high
      iex> {:error, {:unsupported, :temperature, _why}} = Codex.ModelSettings.new(temperature: 0.2)
      iex> Codex.ModelSettings.new(nil)
      {:ok, nil}
  """
  @spec new(t() | keyword() | map() | nil) :: {:ok, t() | nil} | {:error, reason()}
  def new(nil), do: {:ok, nil}
  def new(%__MODULE__{} = settings), do: new(Map.from_struct(settings))

  def new(attrs) do
    with {:ok, pairs} <- Schema.pairs(attrs),
         {:ok, pairs} <- Rows.supported(pairs),
         {:ok, set} <- Schema.validate(Rows.schema(), pairs, &Rows.cast/2) do
      {reasoning, set} = Map.pop(set, :reasoning)

      {:ok,
       struct(__MODULE__, Map.merge(set, reasoning || %{}, fn _, own, more -> own || more end))}
    end
  end

  @doc "Merges settings: those of `overrides` win unless they are nil."
  @spec merge(t() | nil, t() | nil) :: t() | nil
  def merge(nil, overrides), do: overrides
  def merge(base, nil), do: base

  def merge(%__MODULE__{} = base, %__MODULE__{} = overrides),
    do: Map.merge(base, overrides, fn _key, old, new -> if new == nil, do: old, else: new end)
end
