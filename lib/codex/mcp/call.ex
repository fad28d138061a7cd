defmodule Codex.MCP.Call do
  @moduledoc false
  # A call of a caller: its limits, its parameters, and the rounds of input that the server asks for
  # before it answers.

  alias Codex.MCP.Protocol

  @enforce_keys [:ref, :method, :params, :timeout_ms, :deadline, :progress?]
  defstruct @enforce_keys ++ [tool: nil, round: 0, inputs: %{}, extra: %{}]

  @typedoc """
  `deadline` is that of the whole call; `timeout_ms` begins anew with each progress, if `progress?`.
  `tool` is the definition of the tool. `inputs` are those of a round, nil while they are missing;
  `round` counts them; `extra` are the parameters of the next request.
  """
  @type t :: %__MODULE__{
          ref: term(),
          method: String.t(),
          params: map() | nil,
          timeout_ms: timeout(),
          deadline: integer() | :infinity,
          progress?: boolean(),
          tool: map() | nil,
          round: non_neg_integer(),
          inputs: %{String.t() => map() | nil},
          extra: map()
        }

  @rounds 10

  @doc "Returns the ms that are left."
  @spec left(t(), integer()) :: timeout() | integer()
  def left(%{deadline: :infinity}, _now), do: :infinity
  def left(%{deadline: deadline}, now), do: deadline - now

  @doc "Returns the parameters of a request. `token` is for progress."
  @spec params(t(), Protocol.era(), map(), term()) :: map() | nil
  def params(call, era, options, token) do
    params = Map.merge(call.params || %{}, call.extra)
    params = if era == :modern, do: Protocol.with_meta(params, options), else: params

    params =
      if call.progress? do
        token = %{"progressToken" => token}
        Map.update(params, "_meta", token, &Map.merge(&1, token))
      else
        params
      end

    if params == %{} and call.params == nil, do: nil, else: params
  end

  @doc "Takes an answer that needs input: the requests of a round, which may be none."
  @spec ask(t(), map()) ::
          {:ok, %{String.t() => term()}, t()}
          | {:error, :invalid_input_request | {:overflow, :input_rounds, pos_integer()}}
  def ask(call, result) do
    requests = with requests when not is_map(requests) <- result["inputRequests"], do: %{}
    state = result["requestState"]
    kept = if is_binary(state), do: %{"requestState" => state}, else: %{}
    inputs = Map.new(requests, fn {key, _request} -> {key, nil} end)
    call = %{call | round: call.round + 1, inputs: inputs, extra: kept}

    cond do
      call.round > @rounds -> {:error, {:overflow, :input_rounds, @rounds}}
      inputs == %{} and kept == %{} -> {:error, :invalid_input_request}
      true -> {:ok, requests, call}
    end
  end

  @doc "Adds an input, and returns whether the round is complete."
  @spec put_input(t(), String.t(), map()) :: {boolean(), t()}
  def put_input(call, key, result) do
    call = put_in(call.inputs[key], result)
    {missing(call) == [], call}
  end

  @doc "Returns the keys of the inputs that are missing."
  @spec missing(t()) :: [String.t()]
  def missing(call), do: for({key, nil} <- call.inputs, do: key)

  @doc "Returns the call to send again, with its inputs."
  @spec again(t()) :: t()
  def again(%{inputs: inputs} = call) when inputs == %{}, do: call

  def again(call),
    do: %{call | inputs: %{}, extra: Map.put(call.extra, "inputResponses", call.inputs)}
end
