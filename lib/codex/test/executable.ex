defmodule Codex.Test.Executable do
  @moduledoc false
  # Finds the Codex CLI for a test.

  @install "npm install --prefix .codex-cli @openai/codex@#{Codex.CLI.tested_version()}"

  @doc "Finds the program of CODEX_PATH or CODEX_BINARY, else in `.codex-cli`, else on the PATH."
  @spec find() :: {:ok, Path.t()} | {:error, String.t()}
  def find do
    case Codex.CLI.named(System.get_env()) do
      nil -> installed()
      path -> named(Path.expand(path))
    end
  end

  defp named(path) do
    if File.regular?(path),
      do: {:ok, path},
      else: {:error, "CODEX_PATH or CODEX_BINARY names #{path}, but there is no such file"}
  end

  # The native program, not the wrapper in node_modules/.bin: it needs no Node.js, and signals reach
  # it directly.
  defp installed do
    local = local()

    cond do
      local != nil and File.regular?(local) -> {:ok, local}
      path = System.find_executable("codex") -> {:ok, path}
      true -> {:error, "no Codex CLI found: run `#{@install}`, or set CODEX_PATH to the program"}
    end
  end

  defp local do
    with {package, triple} <- platform() do
      Path.expand(".codex-cli/node_modules/@openai/codex-#{package}/vendor/#{triple}/bin/codex")
    end
  end

  defp platform do
    arch = to_string(:erlang.system_info(:system_architecture))
    arm? = String.starts_with?(arch, ["aarch64", "arm64"])

    case {:os.type(), arm?} do
      {{:unix, :linux}, false} -> {"linux-x64", "x86_64-unknown-linux-musl"}
      {{:unix, :linux}, true} -> {"linux-arm64", "aarch64-unknown-linux-musl"}
      {{:unix, :darwin}, false} -> {"darwin-x64", "x86_64-apple-darwin"}
      {{:unix, :darwin}, true} -> {"darwin-arm64", "aarch64-apple-darwin"}
      _ -> nil
    end
  end
end
