# Tests that need the Codex CLI, a keyring, a browser or the generator of sessions run if these are
# found. bin/test installs all of them, and requires the first two. Tests of the newest tested CLI
# itself run with that version only.
newest = Codex.CLI.Range.newest()

missing = [
  codex_cli:
    case Codex.Test.codex_path() do
      {:ok, _path} -> nil
      {:error, message} -> "Tests with the Codex CLI are left out: #{message}"
    end,
  cli_pin:
    case Codex.FoundCLI.version() do
      {:ok, ^newest} -> nil
      {:ok, version} -> "Tests of codex-cli #{newest} itself are left out: this is #{version}"
      {:error, _no_cli} -> "Tests of codex-cli #{newest} itself are left out: it is missing"
    end,
  keyring:
    case Enum.reject(Codex.Keyring.programs(), &System.find_executable/1) do
      [] -> nil
      names -> "Tests with a keyring are left out: there is no #{Enum.join(names, ", ")} on PATH"
    end,
  chromium:
    if(Codex.Test.Chromium.present?(),
      do: nil,
      else: "Tests with a browser are left out: there is no chromium on PATH"
    ),
  mcp_servers:
    if(Codex.MCPServers.npm?() and System.find_executable("node"),
      do: nil,
      else: "Tests with MCP servers of npm are left out: bin/test installs these"
    ),
  mcp_python:
    if(Codex.MCPServers.python?(),
      do: nil,
      else: "Tests with the Python package mcp are left out: bin/test installs it"
    ),
  python:
    if(System.find_executable("python3"),
      do: nil,
      else: "Tests with MCP servers in Python are left out: there is no python3 on PATH"
    ),
  zstd:
    if(System.find_executable("zstd"),
      do: nil,
      else: "Tests that compress sessions are left out: there is no zstd on PATH"
    ),
  generator:
    case Enum.reject(~w(python3 zstd), &System.find_executable/1) do
      [] -> nil
      names -> "Tests with made sessions are left out: no #{Enum.join(names, ", ")} on PATH"
    end
]

exclude =
  for {tag, message} <- missing, message != nil do
    if System.get_env("CODEX_SDK_REQUIRE_CLI") == "1" and
         (tag == :codex_cli or (tag == :keyring and :os.type() == {:unix, :linux})),
       do: raise(message)

    IO.puts(message)
    tag
  end

# A test ends by what it waits for, also on a machine with other work. This is for one that hangs.
ExUnit.start(exclude: exclude, timeout: 300_000, assert_receive_timeout: 20_000)
