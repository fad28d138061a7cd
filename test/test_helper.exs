# Tests that need the Codex CLI run where it is found. bin/test installs it, and insists.
exclude =
  case Codex.Test.codex_path() do
    {:ok, _path} ->
      []

    {:error, message} ->
      if System.get_env("CODEX_SDK_REQUIRE_CLI") == "1", do: raise(message)
      IO.puts("Tests with the Codex CLI are left out: #{message}")
      [:codex_cli]
  end

ExUnit.start(exclude: exclude)
