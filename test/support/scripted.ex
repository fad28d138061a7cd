defmodule Codex.Scripted do
  @moduledoc "Threads of the real CLI on a scripted model."

  @doc "A model that follows the script, with the options of `Codex.Test.start!/2`, and a new thread on it."
  def start(script, opts \\ [], thread_opts \\ []) do
    model = Codex.Test.start!(script, opts)

    {:ok, thread} =
      Codex.start_thread(
        Codex.Test.options(model),
        Codex.Test.thread_options(model) ++ thread_opts
      )

    {model, thread}
  end
end
