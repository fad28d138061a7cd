# Tests that need the Codex CLI or a keyring run if these are found. bin/test installs and requires
# both.
missing = [
  codex_cli:
    case Codex.Test.codex_path() do
      {:ok, _path} -> nil
      {:error, message} -> "Tests with the Codex CLI are left out: #{message}"
    end,
  keyring:
    case Enum.reject(Codex.Keyring.programs(), &System.find_executable/1) do
      [] -> nil
      names -> "Tests with a keyring are left out: there is no #{Enum.join(names, ", ")} on PATH"
    end
]

exclude =
  for {tag, message} <- missing, message != nil do
    if System.get_env("CODEX_SDK_REQUIRE_CLI") == "1" and
         (tag == :codex_cli or :os.type() == {:unix, :linux}),
       do: raise(message)

    IO.puts(message)
    tag
  end

ExUnit.start(exclude: exclude)
