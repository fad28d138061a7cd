defmodule Codex.Voice do
  @moduledoc """
  Keeps the functions of version 0.4.5 callable. The Codex CLI has no voice mode that a program can
  drive, so each returns an error of the kind `:unsupported_feature`.
  """

  alias Codex.Error

  @doc """
  Returns an error.

      iex> {:error, error} = Codex.Voice.stream()
      iex> {error.kind, error.details.feature}
      {:unsupported_feature, :voice}
  """
  @spec stream(term()) :: {:error, Error.t()}
  def stream(options \\ nil)
  def stream(_options), do: unsupported()

  @doc "Returns an error, as `stream/1`."
  @spec call(term()) :: {:error, Error.t()}
  def call(options \\ nil)
  def call(_options), do: unsupported()

  defp unsupported do
    text = "Voice support is not available: the Codex CLI has no voice mode for programs"
    {:error, Error.new(:unsupported_feature, text, %{feature: :voice})}
  end
end
