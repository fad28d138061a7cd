defmodule Codex.Sessions.Index do
  @moduledoc false
  # Keeps the sums of files in a file of the application, so that unchanged files are not read
  # again. The native part reads and writes it (`rollout/index.rs`).

  alias Codex.OptionError

  @doc "Checks the path of an index: it must be outside the home."
  @spec check(Path.t() | nil, Path.t()) :: :ok | {:error, OptionError.t()}
  def check(nil, _home), do: :ok

  def check(path, home) do
    if String.starts_with?(Path.expand(path) <> "/", Path.expand(home) <> "/") do
      {:error, OptionError.invalid(:index, path, "a file outside of the home of the CLI")}
    else
      :ok
    end
  end
end
