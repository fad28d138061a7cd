defmodule Codex.Error.HookWords do
  @moduledoc false
  # Words about what hooks and the options on them decided, for `Codex.Error.Words`.

  alias Codex.Text

  # Words of the host are cut.
  @longest 1_000

  @doc """
  Returns a sentence about a reason, or nil.

      iex> Codex.Error.HookWords.reason({:budget, %{unit: :usd, limit: 2, spent: 2.125}})
      "the budget of $2.0 is used up: $2.125 spent"
  """
  @spec reason(term()) :: String.t() | nil
  def reason({:blocked, :not_run}),
    do:
      "the CLI does not run the hooks of the application, so the run was stopped: " <>
        "features.hooks is off, or the administrator allows managed hooks only"

  def reason({:blocked, :lost}),
    do:
      "the connection of the hooks was lost, so the run was stopped: begin again with its thread"

  def reason({:blocked, :session_start, why}),
    do: "a hook refused the start of the thread: #{cut(why)}"

  def reason({:blocked, _event, why}), do: "a hook refused the prompt: #{cut(why)}"

  def reason({:budget, :unknown}),
    do: "the tokens that the thread has used before are not known, so the budget cannot be kept"

  def reason({:budget, {:no_price, model}}),
    do: "the model #{cut(model)} has no price, so the budget cannot be kept: give :prices"

  def reason({:budget, %{unit: unit, limit: limit, spent: spent}}),
    do: "the budget of #{amount(unit, limit)} is used up: #{amount(unit, spent)} spent"

  def reason({:until, max, why}),
    do:
      "the check of :until did not pass after the turn had gone on #{cut(max)} times: #{cut(why)}"

  def reason({:until, words}), do: cut(words)
  def reason(_other), do: nil

  defp amount(:usd, usd) when is_number(usd), do: "$#{Float.round(usd / 1, 4)}"
  defp amount(_tokens, n), do: "#{cut(n)} tokens"

  defp cut(text) when is_binary(text), do: text |> Text.line() |> String.slice(0, @longest)
  defp cut(number) when is_number(number), do: to_string(number)
  defp cut(other), do: other |> inspect(limit: 10, printable_limit: 100) |> cut()
end
