defmodule CodexSdk do
  @moduledoc "The former name of `Codex`."

  @doc "See `Codex.start_thread/2`."
  defdelegate start_thread(opts \\ %{}, thread_opts \\ %{}), to: Codex

  @doc "See `Codex.resume_thread/3`."
  defdelegate resume_thread(id, opts \\ %{}, thread_opts \\ %{}), to: Codex
end
