defmodule CodexSdk do
  @moduledoc "The former name of `Codex`."

  @doc "See `Codex.start_thread/2`."
  @spec start_thread(
          Codex.Options.t() | map() | keyword(),
          Codex.Thread.Options.t() | map() | keyword()
        ) :: {:ok, Codex.Thread.t()} | {:error, Codex.reason()}
  defdelegate start_thread(opts \\ %{}, thread_opts \\ %{}), to: Codex

  @doc "See `Codex.resume_thread/3`."
  @spec resume_thread(
          String.t() | :last,
          Codex.Options.t() | map() | keyword(),
          Codex.Thread.Options.t() | map() | keyword()
        ) :: {:ok, Codex.Thread.t()} | {:error, Codex.reason()}
  defdelegate resume_thread(id, opts \\ %{}, thread_opts \\ %{}), to: Codex
end
