defmodule Codex.Realtime do
  @moduledoc """
  Keeps the functions of version 0.4.5 callable. The Codex CLI has no realtime mode that a program
  can drive, so each returns an error of the kind `:unsupported_feature`.
  """

  alias Codex.Error

  @doc """
  Returns an error.

      iex> {:error, error} = Codex.Realtime.connect()
      iex> {error.kind, error.details.feature}
      {:unsupported_feature, :realtime}
  """
  @spec connect(term()) :: {:error, Error.t()}
  def connect(options \\ nil)
  def connect(_options), do: unsupported()

  @doc "Returns an error, as `connect/1`."
  @spec stream(term()) :: {:error, Error.t()}
  def stream(options \\ nil)
  def stream(_options), do: unsupported()

  defp unsupported do
    text = "Realtime support is not available: the Codex CLI has no realtime mode for programs"
    {:error, Error.new(:unsupported_feature, text, %{feature: :realtime})}
  end
end
