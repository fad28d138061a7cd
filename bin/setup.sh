# Sourced by bin/demo and bin/test: finds or installs the programs that they need. If it may not install
# one, it prints the command to run. It asks no questions. A second run installs nothing.

RUST_VERSION=1.91
ELIXIR_VERSION=1.14
MCP_NPM_SERVERS="@modelcontextprotocol/server-everything@2026.8.31"
MCP_NPM_SERVERS+=" @modelcontextprotocol/server-filesystem@2026.8.31"
MCP_NPM_SERVERS+=" @modelcontextprotocol/server-memory@2026.8.31"
MCP_PYTHON_VERSION=2.3.0

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CALLED_FROM=$PWD
cd "$ROOT"
CLI_VERSION=$(cat priv/cli/version)
OLDER_CLI_VERSIONS=$(cat priv/cli/older)

# The VM treats file names and output as UTF-8 only with a UTF-8 locale.
if [ -z "${LC_ALL:-}" ]; then
  if [ "$(uname -s)" = Darwin ]; then export LC_ALL=en_US.UTF-8; else export LC_ALL=C.UTF-8; fi
fi
export DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*" >&2; }

die() {
  say "bin/$(basename "$0"): $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# at_least 1.14 1.15.7
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# Runs a command as root: directly, or with a sudo that asks for no password.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n -- "$@"; fi
}

may_be_root() { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true >/dev/null 2>&1; }; }

# apt_install NAME PACKAGE... installs, or exits with the reason and the command to run.
apt_install() {
  local name=$1
  shift
  local by_hand="apt-get update && apt-get install -y --no-install-recommends $*"

  have apt-get || die "$name is missing, and there is no apt-get to install it with." \
    "On Debian and Ubuntu the packages are: $*" \
    "Elsewhere: Elixir $ELIXIR_VERSION or newer with Erlang/OTP 25 or newer, see https://elixir-lang.org/install.html"
  may_be_root || die "$name is missing, and installing it needs root." "As root, run: $by_hand"

  say "Installing $name with apt: $*"
  # Package lists of an earlier run may be good enough; the installation will fail if not.
  as_root apt-get update -qq >&2 </dev/null || say "apt-get update failed, continuing with the package lists of before"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$@" >&2 </dev/null || die "apt could not install $name." "As root, run: $by_hand"
}

need_rust() {
  have cargo || die "cargo is missing." "Install Rust $RUST_VERSION or newer: https://rustup.rs"
  local found
  found=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') ||
    die "\`cargo --version\` does not work." "Install Rust $RUST_VERSION or newer: rustup default stable"
  at_least "$RUST_VERSION" "$found" ||
    die "Rust $RUST_VERSION or newer is needed, found cargo $found." "Run: rustup update stable"
  have cc || apt_install "a C linker" gcc libc6-dev
}

need_rust_lints() {
  if cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then return; fi
  have rustup || die "clippy or rustfmt is missing." "Install both for $(cargo --version)"
  say "Installing clippy and rustfmt with rustup"
  rustup component add clippy rustfmt >&2 </dev/null || die "rustup could not install clippy and rustfmt." \
    "Run: rustup component add clippy rustfmt"
}

need_elixir() {
  if ! have mix || ! have erl; then apt_install "Elixir" elixir erlang-dev erlang-dialyzer; fi
  local found
  found=$(elixir --short-version </dev/null 2>/dev/null) || die "\`elixir --short-version\` does not work." \
    "Reinstall Elixir $ELIXIR_VERSION or newer with Erlang/OTP 25 or newer"
  at_least "$ELIXIR_VERSION" "$found" || die "Elixir $ELIXIR_VERSION or newer is needed, found $found." \
    "Debian 12 and newer have it; elsewhere see https://elixir-lang.org/install.html"
}

need_dialyzer() { have dialyzer || apt_install "Dialyzer" erlang-dialyzer; }

# Installs a real keyring for the tests, which start and stop it. The tests leave that of macOS alone.
need_keyring() {
  [ "$(uname -s)" = Linux ] || return 0
  if have dbus-daemon && have dbus-send && have gnome-keyring-daemon && have secret-tool; then return; fi
  apt_install "A keyring for the tests" dbus gnome-keyring libsecret-tools
}

# Installs a browser for the tests of exported pages, which are left out without one.
need_chromium() {
  if have chromium || ! have apt-get || ! may_be_root; then return; fi
  (apt_install "A browser for the tests" chromium) || say "Left out: tests with a browser"
}

# Installs the programs that make stores of sessions for the tests.
need_generator() {
  if have python3 && have zstd; then return; fi
  apt_install "A generator of sessions for the tests" python3 zstd
}

# Installs MCP servers of others for the tests, which are left out without them: those of npm, and
# the Python package with which servers are written.
need_mcp_servers() {
  if ! mcp_npm_servers_found; then
    say "Installing MCP servers with npm into .codex-cli/mcp/npm"
    mkdir -p .codex-cli/mcp/npm
    if ! have npm || ! npm install --prefix .codex-cli/mcp/npm --no-save --no-package-lock --ignore-scripts \
      --no-audit --no-fund --no-progress --loglevel=error $MCP_NPM_SERVERS >&2 </dev/null ||
      ! mcp_npm_servers_found; then
      say "Left out: tests with MCP servers of npm"
    fi
  fi

  local python=.codex-cli/mcp/python
  if ! ls "$python/lib"/python*/site-packages/mcp-"$MCP_PYTHON_VERSION".dist-info >/dev/null 2>&1; then
    say "Installing mcp $MCP_PYTHON_VERSION with pip into $python"
    if ! have python3 || ! python3 -m venv --clear "$python" >&2 </dev/null ||
      ! "$python/bin/pip" install --quiet --disable-pip-version-check "mcp==$MCP_PYTHON_VERSION" >&2 </dev/null; then
      say "Left out: tests with MCP servers of the Python package"
    fi
  fi
}

mcp_npm_servers_found() {
  local package
  for package in $MCP_NPM_SERVERS; do
    grep -q "\"version\": *\"${package##*@}\"" \
      ".codex-cli/mcp/npm/node_modules/${package%@*}/package.json" 2>/dev/null || return 1
  done
}

# Finds the CLI: the program of CODEX_PATH, or the newest tested version, which is installed.
need_cli() {
  if [ -n "${CODEX_PATH:-}" ]; then
    case $CODEX_PATH in /*) ;; *) CODEX_PATH=$CALLED_FROM/$CODEX_PATH ;; esac
    export CODEX_PATH
    if [ ! -f "$CODEX_PATH" ] || [ ! -x "$CODEX_PATH" ]; then
      die "CODEX_PATH is not a program: $CODEX_PATH" \
        "Name the \`codex\` to use, or unset CODEX_PATH to have version $CLI_VERSION installed"
    fi
    say "Using the Codex CLI of CODEX_PATH: $CODEX_PATH"
    return
  fi

  if cli_program "$CLI_VERSION" >/dev/null; then return; fi
  have npm || die "The Codex CLI $CLI_VERSION is missing, and there is no npm to install it with." \
    "Install Node.js with npm and run: $(npm_command "$CLI_VERSION")" \
    "Or set CODEX_PATH to a \`codex\` program"
  install_cli "$CLI_VERSION" || die "npm could not install the Codex CLI $CLI_VERSION." \
    "Run: $(npm_command "$CLI_VERSION")" "Or set CODEX_PATH to a \`codex\` program"
}

# Installs the older tested versions for the smoke tests. A version that cannot be had is left out.
need_older_clis() {
  local version
  for version in $OLDER_CLI_VERSIONS; do
    if cli_program "$version" >/dev/null; then continue; fi
    if ! have npm || ! install_cli "$version"; then
      say "The Codex CLI $version could not be installed: its smoke tests are left out"
    fi
  done
}

npm_command() { echo "npm install --prefix .codex-cli/$1 @openai/codex@$1"; }

install_cli() {
  say "Installing the Codex CLI $1 with npm into .codex-cli/$1"
  mkdir -p ".codex-cli/$1"
  # The program is an optional package, which the settings of npm may exclude.
  npm install --prefix ".codex-cli/$1" --no-save --no-package-lock --include=optional --ignore-scripts \
    --no-audit --no-fund --no-progress --loglevel=error "@openai/codex@$1" >&2 </dev/null || return 1
  cli_program "$1" >/dev/null
}

# cli_program VERSION prints the native program of an installed version.
cli_program() {
  local prefix modules native
  for prefix in ".codex-cli/$1" .codex-cli; do
    modules=$prefix/node_modules/@openai
    grep -q "\"version\": *\"$1\"" "$modules/codex/package.json" 2>/dev/null || continue
    for native in "$modules"/codex-*/vendor/*/bin/codex "$modules"/codex/node_modules/@openai/codex-*/vendor/*/bin/codex; do
      if [ -x "$native" ]; then
        printf '%s\n' "$ROOT/$native"
        return 0
      fi
    done
  done
  return 1
}
